// Operations that work number by number, on the buffers of a tile.

#include <cstring>

#include "sample.h"

namespace {

// Rows of constants that differ by step: the last one serves all later steps.
const int32_t* row_of(const std::vector<int32_t>& table, int64_t rows, int64_t channels, int64_t time, int64_t channel) {
    return table.empty() ? nullptr : table.data() + std::min(time, rows - 1) * channels + channel;
}

int64_t run_fire(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    const Op& source = g.ops[op.in[0]];
    const Op* potential = nullptr;
    for (const Op& other : g.ops)
        if (other.kind == OP_FIRE_POTENTIAL && &g.ops[other.in[0]] == &op) potential = &other;
    const int64_t rows = op.at[7], first = tile.place * g.channels + tile.channel, time = s.counter(op.at[10]);
    const std::vector<int32_t>& counts = op.tables[6];
    FireArgs a;
    a.is_signed = op.at[0];
    a.hard = op.at[1];
    a.decay = int32_t(op.at[2]);
    a.decay_shift = int(op.at[3]);
    a.cancel = op.at[4];
    a.up = int32_t(op.at[5]);
    a.down = int32_t(op.at[6]);
    a.narrow = op.at[11];
    a.spacing_shift = int(op.at[12]);
    a.floor = row_of(op.tables[5], 1, g.channels, 0, tile.channel);
    int32_t* v = s.transient ? b.membrane(0) : s.tensor(op.at[8]) + first;
    int32_t* sent = !a.cancel ? nullptr : s.transient ? b.membrane(1) : s.tensor(op.at[9]) + first;
    if (s.transient) {
        if (sent) std::memset(sent, 0, size_t(b.size) * 4);
        if (op.tables[4].empty()) std::memset(v, 0, size_t(b.size) * 4);
        for (int64_t i = 0; i < tile.places && !op.tables[4].empty(); ++i)
            std::memcpy(v + i * tile.channels, op.tables[4].data() + tile.channel, size_t(tile.channels) * 4);
    }
    int64_t clamped = 0;
    for (int64_t t = 0; t < s.steps(op); ++t) {
        const int64_t at = time + t;
        a.first = row_of(op.tables[0], rows, g.channels, at, tile.channel);
        a.spacing = row_of(op.tables[1], rows, g.channels, at, tile.channel);
        a.charge = row_of(op.tables[2], rows, g.channels, at, tile.channel);
        a.gate = row_of(op.tables[3], rows, g.channels, at, tile.channel);
        a.count = counts[size_t(std::min<int64_t>(at, int64_t(counts.size()) - 1))];
        const int32_t* x = b.of(source) + (s.op_held[source.id] ? 0 : t) * b.size;
        clamped += s.p->kernels->fire(b.of(op) + t * b.size, potential ? b.of(*potential) + t * b.size : nullptr, x, v,
                                      sent, tile.places, int(tile.channels), a);
    }
    return clamped;
}

SpikeScale scale_of(const Group& g, const SpikePart& part, int64_t channel) {
    SpikeScale scale{part.scaling, nullptr, nullptr, nullptr, 0};
    if (part.rescale < 0) return scale;
    const Op& rescale = g.ops[size_t(part.rescale)];
    scale.m = rescale.tables[0].data() + channel;
    scale.b = rescale.at[5] ? rescale.tables[1].data() + channel : nullptr;
    scale.addend = part.addend.data() + channel;
    scale.shift = int(rescale.at[0]);
    return scale;
}

int64_t run_spike(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    const int64_t first = tile.place * g.channels + tile.channel;
    SpikeArgs a;
    a.nterms = int(op.parts.size());
    for (int i = 0; i < a.nterms; ++i) {
        const SpikePart& part = op.parts[size_t(i)];
        const Op& source = g.ops[size_t(part.source)];
        SpikeTerm& term = a.terms[i];
        term.width = part.direct ? 1 : 4;
        term.is_unsigned = false;
        term.x = b.of(source);
        term.step = s.op_held[source.id] ? 0 : b.size;
        if (part.direct) {
            const Value& x = s.p->values[size_t(source.in[0])];
            term.is_unsigned = x.dtype == DTYPE_U8;
            term.x = s.at(source.in[0], 0) + first;
            term.step = s.value_held[source.in[0]] ? 0 : x.channels * x.places;
        }
        term.scale = scale_of(g, part, tile.channel);
    }
    a.outer = scale_of(g, op.outer, tile.channel);
    FireArgs& fire = a.fire;
    fire.is_signed = op.at[0];
    fire.hard = op.at[1];
    fire.decay = int32_t(op.at[2]);
    fire.decay_shift = int(op.at[3]);
    fire.count = op.tables[6][0];
    fire.spacing_shift = int(op.at[12]);
    fire.first = op.tables[0].data() + tile.channel;
    fire.charge = op.tables[2].empty() ? nullptr : op.tables[2].data() + tile.channel;
    fire.gate = op.tables[3].empty() ? nullptr : op.tables[3].data() + tile.channel;
    fire.cancel = op.at[4];
    a.v = s.transient ? nullptr : s.tensor(op.at[8]) + first;
    a.sent = s.transient || !fire.cancel ? nullptr : s.tensor(op.at[9]) + first;
    a.initial = op.tables[4].empty() ? nullptr : op.tables[4].data() + tile.channel;
    const Value& y = s.p->values[size_t(g.ops[size_t(op.stored)].at[0])];
    a.out = s.arena + y.offset + first;
    a.out_step = y.channels * y.places;
    a.rows = tile.places;
    a.channels = int(tile.channels);
    a.steps = s.steps(op);
    const int64_t clamped = s.p->kernels->spike(a);
    feed_operands(s, g.ops[size_t(op.stored)], tile);
    return clamped;
}

int64_t run_rescale(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    const Op& source = g.ops[op.in[0]];
    const int64_t rows = op.at[4], time = s.counter(op.at[6]);
    RescaleArgs a;
    a.shift = int(op.at[0]);
    a.low = int32_t(op.at[1]);
    a.high = int32_t(op.at[2]);
    a.clamps = op.at[3];
    a.narrow = op.at[7];
    int64_t clamped = 0;
    for (int64_t t = 0; t < s.physical(op); ++t) {
        a.m = row_of(op.tables[0], rows, g.channels, time + t, tile.channel);
        a.b = op.at[5] ? row_of(op.tables[1], rows, g.channels, time + t, tile.channel) : nullptr;
        const int64_t from = (s.op_held[source.id] ? 0 : t) * b.size;
        int32_t* y = b.of(op) + t * b.size;
        clamped += source.wide
                       ? s.p->kernels->rescale_wide(y, b.wide(source) + from, tile.places, int(tile.channels), a)
                       : s.p->kernels->rescale(y, b.of(source) + from, tile.places, int(tile.channels), a);
    }
    return s.op_held[op.id] ? clamped * s.steps(op) : clamped;
}

int64_t run_add(const Sample& s, const Group& g, const Op& op, const Buffers& b) {
    int64_t clamped = 0;
    for (int64_t t = 0; t < s.physical(op); ++t) {
        int32_t* y = b.of(op) + t * b.size;
        auto summand = [&](size_t i) {
            const Op& from = g.ops[op.in[i]];
            return b.of(from) + (s.op_held[from.id] ? 0 : t) * b.size;
        };
        if (!op.at[0]) {
            std::memcpy(y, summand(0), size_t(b.size) * 4);
            for (size_t i = 1; i < op.in.size(); ++i) s.p->kernels->add(y, summand(i), b.size);
            continue;
        }
        for (int64_t e = 0; e < b.size; ++e) {
            int64_t sum = 0;
            for (size_t i = 0; i < op.in.size(); ++i) sum += summand(i)[e];
            const int64_t kept = sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : sum;
            clamped += kept != sum;
            y[e] = int32_t(kept);
        }
    }
    return s.op_held[op.id] ? clamped * s.steps(op) : clamped;
}

void run_multiply(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    const Op &x = g.ops[op.in[0]], &k = g.ops[op.in[1]];
    for (int64_t t = 0; t < s.physical(op); ++t) {
        const int32_t* from = b.of(x) + (s.op_held[x.id] ? 0 : t) * b.size;
        const int32_t* factor = b.of(k) + (s.op_held[k.id] ? 0 : t) * b.size;
        int32_t* y = b.of(op) + t * b.size;
        for (int64_t place = 0; place < tile.places; ++place)
            for (int64_t c = 0; c < tile.channels; ++c) {
                const int64_t i = place * tile.channels + c;
                y[i] = from[i] * (k.kind == OP_LOAD_ROW ? factor[c] : factor[i]);  // proved to fit
            }
    }
}

void run_lookup(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    const Op& source = g.ops[op.in[0]];
    const int64_t length = op.at[1], rows = op.at[2], time = s.counter(op.at[4]);
    const int32_t first = int32_t(op.at[0]);
    for (int64_t t = 0; t < s.physical(op); ++t) {
        const int64_t width = (op.at[3] ? g.channels : 1) * length;
        const int32_t* table = op.tables[0].data() + std::min(time + t, rows - 1) * width;
        const int32_t* x = b.of(source) + (s.op_held[source.id] ? 0 : t) * b.size;
        int32_t* y = b.of(op) + t * b.size;
        if (op.at[3]) {
            for (int64_t place = 0; place < tile.places; ++place)
                for (int64_t c = 0; c < tile.channels; ++c, ++x, ++y)
                    *y = table[(tile.channel + c) * length + *x - first];
        } else {
            for (int64_t i = 0; i < b.size; ++i) y[i] = table[x[i] - first];
        }
    }
}

void run_latch(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    int32_t* first = s.tensor(op.at[0]) + tile.place * g.channels + tile.channel;
    if (!s.counter(op.at[1])) std::memcpy(first, b.of(g.ops[op.in[0]]), size_t(b.size) * 4);
    std::memcpy(b.of(op), first, size_t(b.size) * 4);
}

void run_mean(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    const Op& source = g.ops[op.in[0]];
    const std::vector<int32_t>& keep = op.tables[0];
    const int64_t seen = s.counter(op.at[2]);
    int64_t* total =
        reinterpret_cast<int64_t*>(s.state + op.at[0]) + tile.place * g.channels + tile.channel;
    for (int64_t t = 0; t < s.steps(source); ++t) {
        if (!keep[size_t(std::min<int64_t>(seen + t, int64_t(keep.size()) - 1))]) continue;
        const int32_t* x = b.of(source) + (s.op_held[source.id] ? 0 : t) * b.size;
        for (int64_t i = 0; i < b.size; ++i) total[i] += x[i];
    }
}

void run_store(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    const Op& source = g.ops[op.in[0]];
    const Value& y = s.p->values[op.at[0]];
    const int64_t first = tile.place * g.channels + tile.channel, bytes = dtype_bytes(y.dtype);
    for (int64_t t = 0; t < s.physical(op); ++t) {
        unsigned char* to = s.arena + y.offset + (t * y.channels * y.places + first) * bytes;
        if (source.wide) {
            std::memcpy(to, b.wide(source) + t * b.size, size_t(b.size) * 8);
        } else {
            s.p->kernels->store(to, b.of(source) + t * b.size, y.dtype, b.size);
        }
    }
    feed_operands(s, op, tile);
}

void run_load(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    const Value& x = s.p->values[op.in[0]];
    const bool row = op.kind == OP_LOAD_ROW;
    const int64_t first = row ? tile.channel : tile.place * g.channels + tile.channel;
    for (int64_t t = 0; t < s.physical(op); ++t)
        s.p->kernels->load(b.of(op) + t * b.size, s.at(op.in[0], t) + first * dtype_bytes(x.dtype), x.dtype,
                           row ? tile.channels : b.size);
}

}  // namespace

int64_t run_tail(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    switch (op.kind) {
    case OP_RESCALE: return run_rescale(s, g, op, tile, b);
    case OP_ADD: return run_add(s, g, op, b);
    case OP_FIRE: return op.parts.empty() ? run_fire(s, g, op, tile, b) : run_spike(s, g, op, tile, b);
    case OP_LOAD:
    case OP_LOAD_ROW: run_load(s, g, op, tile, b); break;
    case OP_STORE: run_store(s, g, op, tile, b); break;
    case OP_MULTIPLY: run_multiply(s, g, op, tile, b); break;
    case OP_LOOKUP: run_lookup(s, g, op, tile, b); break;
    case OP_LATCH: run_latch(s, g, op, tile, b); break;
    case OP_MEAN: run_mean(s, g, op, tile, b); break;
    default: break;
    }
    return 0;
}

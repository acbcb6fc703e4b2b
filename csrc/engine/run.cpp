// One chunk of one sample, group by group, tile by tile.

#include "run.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "pool.h"

namespace {

struct Tile {
    int64_t place, places, channel, channels;
    int64_t size() const { return places * channels; }
};

// What one sample needs while it runs.
struct Sample {
    const Program* p;
    unsigned char *arena, *state;
    unsigned char* scratch[MAX_THREADS];
    int64_t* clamped[MAX_THREADS];
    int64_t *value_steps, *op_steps;
    unsigned char *value_held, *op_held;
    int threads;
    const Group* group;
    const Op* op;

    int64_t& counter(int64_t at) const { return *reinterpret_cast<int64_t*>(state + at); }
    int32_t* tensor(int64_t at) const { return reinterpret_cast<int32_t*>(state + at); }
    int64_t steps(const Op& op) const { return op_steps[op.id]; }
    int64_t physical(const Op& op) const { return op_held[op.id] ? 1 : op_steps[op.id]; }
    int64_t value_physical(int v) const { return value_held[v] ? 1 : value_steps[v]; }
    const unsigned char* at(int v, int64_t step) const {
        const Value& x = p->values[v];
        return arena + x.offset + (value_held[v] ? 0 : step) * x.channels * x.places * dtype_bytes(x.dtype);
    }
};

int64_t advanced(int64_t time, int64_t steps) { return std::min<int64_t>(time + steps, INT32_MAX); }

int64_t conv_step_elements(const Op& op, const Value& x) { return op.at[12] * op.at[13] * x.channels; }

int64_t form_bytes(int64_t form) { return form == FORM_U8 ? 1 : form == FORM_I16 ? 2 : 4; }

// ---- before the tiles -------------------------------------------------------------------------------------------

void fill(unsigned char* to, int64_t n, int64_t bytes, int32_t value) {
    if (bytes == 1) {
        std::memset(to, value, size_t(n));
    } else if (bytes == 2) {
        std::fill_n(reinterpret_cast<int16_t*>(to), n, int16_t(value));
    } else {
        std::fill_n(reinterpret_cast<int32_t*>(to), n, value);
    }
}

// The operand of a convolution: the input with its border, row by row.
void operand_row(void* given, long task, int) {
    const Sample& s = *static_cast<Sample*>(given);
    const Op& op = *s.op;
    const Value& x = s.p->values[op.in[0]];
    const int64_t hp = op.at[12], wp = op.at[13], form = op.at[9], offset = op.at[10], bytes = form_bytes(form);
    const int64_t step = task / hp, row = task % hp, from = row - op.at[5], before = std::min(op.at[6], wp);
    unsigned char* to = s.arena + op.at[11] + (step * hp + row) * wp * x.channels * bytes;
    if (from < 0 || from >= x.height) return fill(to, wp * x.channels, bytes, int32_t(offset));
    const int64_t inside = std::min(x.width, wp - before);
    fill(to, before * x.channels, bytes, int32_t(offset));
    to += before * x.channels * bytes;
    const unsigned char* source = s.at(op.in[0], step) + from * x.width * x.channels * dtype_bytes(x.dtype);
    s.p->kernels->operand[form](to, source, x.dtype, inside * x.channels, int32_t(offset));
    fill(to + inside * x.channels * bytes, (wp - before - inside) * x.channels, bytes, int32_t(offset));
}

// Sums so far of a tally, after every step.
void tally_sums(Sample& s, const Op& op) {
    const Value& x = s.p->values[op.in[0]];
    const int64_t size = x.channels * x.places, steps = s.value_steps[op.in[0]];
    int32_t* sums = s.tensor(op.at[8]);
    int32_t* after = reinterpret_cast<int32_t*>(s.arena + op.at[10]);
    int64_t clamped = 0;
    for (int64_t t = 0; t < steps; ++t, after += size) {
        s.p->kernels->load(after, s.at(op.in[0], t), x.dtype, size);
        for (int64_t i = 0; i < size; ++i) {
            const int64_t sum = int64_t(sums[i]) + after[i];
            const int64_t kept = sum < INT32_MIN ? INT32_MIN : sum > INT32_MAX ? INT32_MAX : sum;
            clamped += kept != sum;
            after[i] = sums[i] = int32_t(kept);
        }
    }
    if (op.report >= 0) s.clamped[0][op.report] += clamped;
}

// How many windows close within so many frames.
int64_t windows_closed(const Op& op, int64_t seen, int64_t frames) {
    const int32_t* table = op.tables[0].data();  // where the parts of a frame begin, then (weight, closes) pairs
    const int64_t F = op.at[0];
    int64_t closed = 0;
    for (int64_t i = 0; i < frames; ++i) {
        const int64_t f = (seen + i) % F;
        for (int32_t k = table[f]; k < table[f + 1]; ++k) closed += table[F + 1 + 2 * k + 1];
    }
    return closed;
}

// Steps that every operation of a group writes, and whether they are one.
int prepare(Sample& s, const Group& g) {
    for (const Op& op : g.ops) {
        int64_t n = 0;
        bool held = false;
        switch (op.kind) {
        case OP_CONV:
        case OP_SUMPOOL:
        case OP_MAXPOOL:
        case OP_REMAP:
        case OP_LOAD:
        case OP_LOAD_ROW:
            n = s.value_steps[op.in[0]];
            held = s.value_held[op.in[0]];
            break;
        case OP_TALLY: n = s.value_steps[op.in[0]]; break;
        case OP_CONCAT:
            n = s.value_steps[op.in[0]];
            held = true;
            for (int v : op.in) held = held && s.value_held[v];
            break;
        case OP_WINDOWS: {
            const int64_t frames = s.value_steps[op.in[0]];
            if (op.at[0] == 1) {
                n = frames * op.at[1];
                held = n > 1 && s.value_physical(op.in[0]) == 1;
            } else {
                n = windows_closed(op, s.counter(op.at[3]), frames);
            }
            break;
        }
        case OP_RESCALE:
        case OP_LOOKUP: {
            const Op& x = g.ops[op.in[0]];
            n = s.steps(x);
            held = s.op_held[x.id] && op.at[op.kind == OP_RESCALE ? 4 : 2] == 1;
            break;
        }
        case OP_ADD:
        case OP_MULTIPLY:
            n = s.steps(g.ops[op.in[0]]);
            held = true;
            for (int i : op.in) held = held && s.op_held[g.ops[i].id];
            break;
        case OP_LATCH:
            n = s.steps(g.ops[op.in[0]]);
            held = n > 1;
            break;
        case OP_STORE: {
            const Op& x = g.ops[op.in[0]];
            s.value_steps[op.at[0]] = n = s.steps(x);
            s.value_held[op.at[0]] = held = s.op_held[x.id];
            break;
        }
        case OP_MEAN:
            n = s.steps(g.ops[op.in[0]]);
            if (s.counter(op.at[2]) + n > s.p->max_count) return TOO_MANY_STEPS;
            break;
        default: n = s.steps(g.ops[op.in[0]]);
        }
        s.op_steps[op.id] = n;
        s.op_held[op.id] = held;
    }
    return RAN;
}

// ---- heads --------------------------------------------------------------------------------------------------------

void run_conv(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    const Value& x = s.p->values[op.in[0]];
    const int64_t sh = op.at[3], sw = op.at[4], form = op.at[9], wp = op.at[13];
    const int64_t groups = op.at[0], outputs = op.at[14], per = outputs / groups, inputs = op.at[15];
    const int64_t element = form_bytes(form), step_elements = conv_step_elements(op, x), steps = s.physical(op);
    const unsigned char* operand = s.arena + op.at[11];
    const bool packed = form == FORM_U8 || form == FORM_I16;
    ConvArgs a;
    a.segments = op.segments.data();
    a.nsegments = int(op.segments.size());
    a.length = int(op.at.back());
    a.weight_width = outputs;
    a.width = tile.channels;
    const int64_t unit = 4 / element, whole = (a.length + unit - 1) / unit;
    const int64_t block_bytes = a.nsegments * whole * LANES * 4, blocks = (per + LANES - 1) / LANES;
    const int64_t out_element = form == FORM_WIDE ? 2 : 1;  // in int32
    // Runs of pixels at equal distances: all steps of a linear map, whole images without borders, else rows.
    const int64_t width = op.at[16];
    const bool linear = s.group->places == 1;
    const bool uniform = !linear && sh * wp == sw * width;
    for (int64_t t = 0; t < (linear ? 1 : steps); ++t) {
        for (int64_t place = tile.place; place < tile.place + tile.places;) {
            const int64_t end = uniform ? tile.place + tile.places
                                        : std::min(tile.place + tile.places, (place / width + 1) * width);
            a.rows = linear ? int(steps) : int(end - place);
            a.step = linear ? step_elements : sw * x.channels;
            const int64_t base = t * step_elements + (place / width * sh * wp + place % width * sw) * x.channels;
            int32_t* to = out + (t * tile.size() + (place - tile.place) * tile.channels) * out_element;
            if (form == FORM_DEPTHWISE) {
                DepthwiseArgs d;
                d.x = operand + (base + tile.channel) * element;
                d.weight = reinterpret_cast<const int32_t*>(op.packed.data());
                d.bias = op.bias.data();
                d.taps = a.segments;
                d.ntaps = a.nsegments;
                d.channels = int(tile.channels);
                d.step = a.step;
                d.rows = a.rows;
                d.out = to;
                s.p->kernels->depthwise(d);
            } else {
                // The channels of a tile, group by group.
                for (int64_t c = tile.channel; c < tile.channel + tile.channels;) {
                    const int64_t group = c / per, next = std::min((group + 1) * per, tile.channel + tile.channels);
                    a.x = operand + (base + group * inputs) * element;
                    a.weight = packed ? op.packed.data() + (group * blocks + (c - group * per) / LANES) * block_bytes
                                      : op.packed.data() + c * 4;
                    a.bias = op.bias.data() + c;
                    a.outputs = int(next - c);
                    a.out = to + (c - tile.channel) * out_element;
                    s.p->kernels->conv[form](a);
                    c = next;
                }
            }
            place = end;
        }
    }
}

void run_sumpool(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    const Value& x = s.p->values[op.in[0]];
    const int64_t kh = op.at[0], kw = op.at[1], width = op.at[9], height = s.group->places / width;
    const int64_t bytes = dtype_bytes(x.dtype);
    for (int64_t t = 0; t < s.physical(op); ++t) {
        const unsigned char* from = s.at(op.in[0], t);
        for (int64_t place = tile.place; place < tile.place + tile.places; ++place, out += tile.channels) {
            const int64_t oy = place / width, ox = place % width;
            const int64_t y0 = oy * op.at[2] - op.at[4], x0 = ox * op.at[3] - op.at[5];
            std::memset(out, 0, size_t(tile.channels) * 4);
            for (int64_t y = std::max<int64_t>(y0, 0); y < std::min(y0 + kh, x.height); ++y)
                for (int64_t k = std::max<int64_t>(x0, 0); k < std::min(x0 + kw, x.width); ++k)
                    s.p->kernels->sum(out, from + ((y * x.width + k) * x.channels + tile.channel) * bytes, x.dtype,
                                      tile.channels);
            if (op.at[6]) {
                const int64_t places = (oy == height - 1 ? op.at[7] : kh) * (ox == width - 1 ? op.at[8] : kw);
                const int32_t factor = int32_t(op.at[6] / places);
                for (int64_t c = 0; c < tile.channels; ++c) out[c] *= factor;
            }
        }
    }
}

// Maxima of a window over numbers of a type at `from`.
void window_maximum(const Sample& s, const Op& op, const Value& x, const unsigned char* from, int dtype, int64_t place,
                    int64_t width, const Tile& tile, int32_t* out) {
    const int64_t y0 = place / width * op.at[2] - op.at[4], x0 = place % width * op.at[3] - op.at[5];
    std::fill_n(out, tile.channels, INT32_MIN);
    for (int64_t i = 0; i < op.at[0]; ++i) {
        const int64_t y = y0 + i * op.at[6];
        if (y < 0 || y >= x.height) continue;
        for (int64_t j = 0; j < op.at[1]; ++j) {
            const int64_t k = x0 + j * op.at[7];
            if (k < 0 || k >= x.width) continue;
            s.p->kernels->maximum(out, from + ((y * x.width + k) * x.channels + tile.channel) * dtype_bytes(dtype), dtype,
                                  tile.channels);
        }
    }
}

void run_maxpool(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    const Value& x = s.p->values[op.in[0]];
    for (int64_t t = 0; t < s.physical(op); ++t)
        for (int64_t place = tile.place; place < tile.place + tile.places; ++place, out += tile.channels)
            window_maximum(s, op, x, s.at(op.in[0], t), x.dtype, place, op.at[8], tile, out);
}

void run_tally(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    const Value& x = s.p->values[op.in[0]];
    const unsigned char* sums = s.arena + op.at[10];
    int32_t* sent = s.tensor(op.at[9]) + tile.place * s.group->channels + tile.channel;
    for (int64_t t = 0; t < s.steps(op); ++t, sums += x.channels * x.places * 4)
        for (int64_t place = 0; place < tile.places; ++place, out += tile.channels) {
            window_maximum(s, op, x, sums, DTYPE_I32, tile.place + place, op.at[11], tile, out);
            for (int64_t c = 0; c < tile.channels; ++c) {
                const int32_t top = out[c], before = sent[place * tile.channels + c];
                sent[place * tile.channels + c] = top;
                out[c] = int32_t(uint32_t(top) - uint32_t(before));  // proved to fit
            }
        }
}

void run_windows(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    const Value& x = s.p->values[op.in[0]];
    const int64_t F = op.at[0], size = tile.size(), first = tile.place * x.channels + tile.channel;
    const int64_t bytes = dtype_bytes(x.dtype);
    const Kernels& k = *s.p->kernels;
    if (F == 1) {
        const int64_t copies = s.op_held[op.id] ? 1 : op.at[1], frames = s.value_physical(op.in[0]);
        for (int64_t f = 0; f < frames; ++f)
            for (int64_t i = 0; i < copies; ++i, out += size) k.load(out, s.at(op.in[0], f) + first * bytes, x.dtype, size);
        return;
    }
    const int32_t* table = op.tables[0].data();
    int32_t* total = s.tensor(op.at[2]) + first;
    int64_t seen = s.counter(op.at[3]);
    for (int64_t f = 0; f < s.value_steps[op.in[0]]; ++f, seen = (seen + 1) % F) {
        // A buffer of the tile that comes out later may serve to load the frame: it is written when a window closes.
        int32_t* frame = reinterpret_cast<int32_t*>(s.arena + op.at[4]) + first;
        k.load(frame, s.at(op.in[0], f) + first * bytes, x.dtype, size);
        for (int32_t part = table[seen]; part < table[seen + 1]; ++part) {
            const int32_t weight = table[F + 1 + 2 * part];
            for (int64_t i = 0; i < size; ++i) total[i] += weight * frame[i];  // proved to fit
            if (table[F + 1 + 2 * part + 1]) {
                std::memcpy(out, total, size_t(size) * 4);
                std::memset(total, 0, size_t(size) * 4);
                out += size;
            }
        }
    }
}

void run_remap(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    const Value& x = s.p->values[op.in[0]];
    const int32_t* table = op.tables[0].data() + tile.place * s.group->channels + tile.channel;
    for (int64_t t = 0; t < s.physical(op); ++t) {
        const unsigned char* from = s.at(op.in[0], t);
        for (int64_t i = 0; i < tile.size(); ++i, ++out) {
            const int32_t at = table[i];
            if (at < 0) {
                *out = 0;
                continue;
            }
            switch (x.dtype) {
            case DTYPE_I8: *out = reinterpret_cast<const int8_t*>(from)[at]; break;
            case DTYPE_U8: *out = from[at]; break;
            case DTYPE_I16: *out = reinterpret_cast<const int16_t*>(from)[at]; break;
            case DTYPE_U16: *out = reinterpret_cast<const uint16_t*>(from)[at]; break;
            default: *out = reinterpret_cast<const int32_t*>(from)[at];
            }
        }
    }
}

void run_concat(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    for (int64_t t = 0; t < s.physical(op); ++t)
        for (int64_t place = tile.place; place < tile.place + tile.places; ++place) {
            int64_t first = 0;  // channel of the output where an input begins
            for (int v : op.in) {
                const Value& x = s.p->values[v];
                const int64_t from = std::max(first, tile.channel);
                const int64_t to = std::min(first + x.channels, tile.channel + tile.channels);
                if (from < to)
                    s.p->kernels->load(out + from - tile.channel,
                                       s.at(v, t) + (place * x.channels + from - first) * dtype_bytes(x.dtype), x.dtype,
                                       to - from);
                first += x.channels;
            }
            out += tile.channels;
        }
}

// ---- tails --------------------------------------------------------------------------------------------------------

// Rows of constants that differ by step: the last one serves all later steps.
const int32_t* row_of(const std::vector<int32_t>& table, int64_t rows, int64_t channels, int64_t time, int64_t channel) {
    return table.empty() ? nullptr : table.data() + std::min(time, rows - 1) * channels + channel;
}

struct Buffers {
    unsigned char* base;
    int64_t slot_bytes, size;  // numbers of a tile

    int32_t* of(const Op& op) const { return reinterpret_cast<int32_t*>(base + op.slot * slot_bytes); }
    int64_t* wide(const Op& op) const { return reinterpret_cast<int64_t*>(base + op.slot * slot_bytes); }
};

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
    int32_t* v = s.tensor(op.at[8]) + first;
    int32_t* sent = a.cancel ? s.tensor(op.at[9]) + first : nullptr;
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
}

void run_load(const Sample& s, const Group& g, const Op& op, const Tile& tile, const Buffers& b) {
    const Value& x = s.p->values[op.in[0]];
    const bool row = op.kind == OP_LOAD_ROW;
    const int64_t first = row ? tile.channel : tile.place * g.channels + tile.channel;
    for (int64_t t = 0; t < s.physical(op); ++t)
        s.p->kernels->load(b.of(op) + t * b.size, s.at(op.in[0], t) + first * dtype_bytes(x.dtype), x.dtype,
                           row ? tile.channels : b.size);
}

void run_tile(void* given, long task, int thread) {
    const Sample& s = *static_cast<Sample*>(given);
    const Group& g = *s.group;
    Tile tile{0, 1, 0, g.channels};
    if (g.places == 1) {
        tile.channel = task * g.tile_channels;
        tile.channels = std::min(g.tile_channels, g.channels - tile.channel);
    } else {
        tile.place = task * g.tile_places;
        tile.places = std::min(g.tile_places, g.places - tile.place);
    }
    const Buffers b{s.scratch[thread], g.slot_bytes, tile.size()};
    for (const Op& op : g.ops) {
        if (!s.op_steps[op.id] && op.kind != OP_WINDOWS) continue;
        int64_t clamped = 0;
        switch (op.kind) {
        case OP_CONV: run_conv(s, op, tile, b.of(op)); break;
        case OP_SUMPOOL: run_sumpool(s, op, tile, b.of(op)); break;
        case OP_MAXPOOL: run_maxpool(s, op, tile, b.of(op)); break;
        case OP_TALLY: run_tally(s, op, tile, b.of(op)); break;
        case OP_WINDOWS: run_windows(s, op, tile, b.of(op)); break;
        case OP_REMAP: run_remap(s, op, tile, b.of(op)); break;
        case OP_CONCAT: run_concat(s, op, tile, b.of(op)); break;
        case OP_LOAD:
        case OP_LOAD_ROW: run_load(s, g, op, tile, b); break;
        case OP_STORE: run_store(s, g, op, tile, b); break;
        case OP_RESCALE: clamped = run_rescale(s, g, op, tile, b); break;
        case OP_ADD: clamped = run_add(s, g, op, b); break;
        case OP_MULTIPLY: run_multiply(s, g, op, tile, b); break;
        case OP_FIRE: clamped = run_fire(s, g, op, tile, b); break;
        case OP_LOOKUP: run_lookup(s, g, op, tile, b); break;
        case OP_LATCH: run_latch(s, g, op, tile, b); break;
        case OP_MEAN: run_mean(s, g, op, tile, b); break;
        default: break;
        }
        if (clamped && op.report >= 0) s.clamped[thread][op.report] += clamped;
    }
}

// After the tiles: counters of steps go on.
void advance(Sample& s, const Group& g) {
    for (const Op& op : g.ops) {
        const int64_t n = s.steps(op);
        switch (op.kind) {
        case OP_WINDOWS:
            if (op.at[0] > 1) {
                int64_t& seen = s.counter(op.at[3]);
                seen = (seen + s.value_steps[op.in[0]]) % op.at[0];
            }
            break;
        case OP_RESCALE: s.counter(op.at[6]) = advanced(s.counter(op.at[6]), n); break;
        case OP_FIRE: s.counter(op.at[10]) = advanced(s.counter(op.at[10]), n); break;
        case OP_LOOKUP: s.counter(op.at[4]) = advanced(s.counter(op.at[4]), n); break;
        case OP_LATCH:
            if (n) s.counter(op.at[1]) = 1;
            break;
        case OP_MEAN: {
            const std::vector<int32_t>& keep = op.tables[0];
            int64_t &counted = s.counter(op.at[1]), &seen = s.counter(op.at[2]);
            for (int64_t t = 0; t < n; ++t, ++seen)
                counted += keep[size_t(std::min<int64_t>(seen, int64_t(keep.size()) - 1))];
            break;
        }
        default: break;
        }
    }
}

void run_join(Sample& s, const Join& join) {
    int64_t count = INT64_MAX;
    for (size_t i = 0; i < join.from.size(); ++i)
        count = std::min(count, s.counter(join.count[i]) + s.value_steps[join.from[i]]);
    for (size_t i = 0; i < join.from.size(); ++i) {
        const Value& y = s.p->values[join.to[i]];
        const int64_t bytes = y.channels * y.places * dtype_bytes(y.dtype), steps = s.value_steps[join.from[i]];
        unsigned char *to = s.arena + y.offset, *waiting = s.state + join.state[i];
        int64_t& left = s.counter(join.count[i]);
        const int64_t old = std::min(left, count);
        std::memcpy(to, waiting, size_t(old * bytes));
        std::memmove(waiting, waiting + old * bytes, size_t((left - old) * bytes));
        left -= old;
        for (int64_t t = 0; t < steps; ++t) {
            const unsigned char* from = s.at(join.from[i], t);
            if (old + t < count && !left) {
                std::memcpy(to + (old + t) * bytes, from, size_t(bytes));
            } else {
                std::memcpy(waiting + left++ * bytes, from, size_t(bytes));
            }
        }
        s.value_steps[join.to[i]] = count;
        s.value_held[join.to[i]] = 0;
    }
}

int run_groups(Sample& s) {
    for (const Group& g : s.p->groups) {
        if (g.is_join) {
            run_join(s, g.join);
            continue;
        }
        const int outcome = prepare(s, g);
        if (outcome != RAN) return outcome;
        bool idle = true;
        for (const Op& op : g.ops) idle = idle && !s.op_steps[op.id] && !(op.kind == OP_WINDOWS && s.value_steps[op.in[0]]);
        if (idle) continue;
        s.group = &g;
        for (const Op& op : g.ops) {
            if (op.kind == OP_CONV && s.op_steps[op.id]) {
                s.op = &op;
                pool_run(s.physical(op) * op.at[12], s.threads, operand_row, &s);
            } else if (op.kind == OP_TALLY && s.op_steps[op.id]) {
                tally_sums(s, op);
            }
        }
        pool_run(g.tiles, s.threads, run_tile, &s);
        advance(s, g);
    }
    return RAN;
}

// ---- a call -------------------------------------------------------------------------------------------------------

template <class X>
void take_in(X* to, const X* from, int64_t channels, int64_t places) {
    for (int64_t place = 0; place < places; ++place)
        for (int64_t c = 0; c < channels; ++c) *to++ = from[c * places + place];
}

void read_input(Sample& s, const Call& call, int64_t sample) {
    const Value& x = s.p->values[s.p->input];
    const int64_t bytes = dtype_bytes(x.dtype), steps = call.held ? 1 : call.steps;
    for (int64_t t = 0; t < steps; ++t) {
        const unsigned char* from =
            static_cast<const unsigned char*>(call.x) + (sample * call.batch_stride + t * call.step_stride) * bytes;
        unsigned char* to = s.arena + x.offset + t * x.channels * x.places * bytes;
        if (bytes == 1) {
            take_in(to, from, x.channels, x.places);
        } else if (bytes == 2) {
            take_in(reinterpret_cast<uint16_t*>(to), reinterpret_cast<const uint16_t*>(from), x.channels, x.places);
        } else {
            take_in(reinterpret_cast<uint32_t*>(to), reinterpret_cast<const uint32_t*>(from), x.channels, x.places);
        }
    }
    s.value_steps[s.p->input] = call.steps;
    s.value_held[s.p->input] = call.held && call.steps > 1;
}

int64_t number_at(const unsigned char* from, int dtype, int64_t i) {
    switch (dtype) {
    case DTYPE_I8: return reinterpret_cast<const int8_t*>(from)[i];
    case DTYPE_U8: return from[i];
    case DTYPE_I16: return reinterpret_cast<const int16_t*>(from)[i];
    case DTYPE_U16: return reinterpret_cast<const uint16_t*>(from)[i];
    case DTYPE_I32: return reinterpret_cast<const int32_t*>(from)[i];
    default: return reinterpret_cast<const int64_t*>(from)[i];
    }
}

void write_output(const Sample& s, const Call& call, int64_t sample, int64_t* out_steps) {
    const Program& p = *s.p;
    if (p.output < 0) {  // the state holds the sums
        *out_steps = 0;
        return;
    }
    const Value& y = p.values[p.output];
    const int64_t size = y.channels * y.places;
    int64_t* to = call.out + sample * call.out_capacity * size;
    for (int64_t t = 0; t < s.value_steps[p.output]; ++t, to += size) {
        const unsigned char* from = s.at(p.output, t);
        for (int64_t place = 0; place < y.places; ++place)
            for (int64_t c = 0; c < y.channels; ++c)
                to[c * y.places + place] = number_at(from, y.dtype, place * y.channels + c);
    }
    *out_steps = s.value_steps[p.output];
}

int64_t aligned(int64_t n) { return (n + 63) / 64 * 64; }

int64_t sample_bytes(const Program& p) {
    return aligned(p.arena_bytes + 64) + 2 * aligned(int64_t(p.values.size() + p.ops) * 8);
}

struct Batch {
    const Program* p;
    const Call* call;
    Sample* samples;  // one a thread
    int64_t out_steps;
    int outcome;
};

void run_sample(void* given, long sample, int thread) {
    Batch& b = *static_cast<Batch*>(given);
    Sample& s = b.samples[thread];
    s.state = b.call->states + sample * b.p->state_bytes;
    read_input(s, *b.call, sample);
    const int outcome = run_groups(s);
    if (outcome != RAN) {
        b.outcome = outcome;
        return;
    }
    int64_t steps;
    write_output(s, *b.call, sample, &steps);
    if (sample == 0) b.out_steps = steps;
}

}  // namespace

void reset_state(const Program& p, unsigned char* state) {
    std::memset(state, 0, size_t(p.state_bytes));
    for (const Group& g : p.groups)
        for (const Op& op : g.ops)
            if (op.kind == OP_FIRE && !op.tables[4].empty()) {
                int32_t* v = reinterpret_cast<int32_t*>(state + op.at[8]);
                for (int64_t place = 0; place < g.places; ++place, v += g.channels)
                    std::memcpy(v, op.tables[4].data(), size_t(g.channels) * 4);
            }
}

int64_t workspace_bytes(const Program& p, int64_t batch, int threads) {
    const int64_t samples = batch > 1 ? threads : 1;
    return 64 + samples * sample_bytes(p) + threads * (aligned(p.scratch_bytes) + aligned(int64_t(p.reports) * 8));
}

int run_program(const Program& p, const Call& call, Workspace& space, int64_t* out_steps) {
    int threads = std::max(1, std::min(call.threads, MAX_THREADS));
    if (threads > 1 && !pool_take(threads)) threads = 1;
    const int64_t bytes = workspace_bytes(p, call.batch, threads);
    if (bytes > space.bytes) {
        std::free(space.memory);
        space.memory = static_cast<unsigned char*>(std::malloc(size_t(bytes)));
        space.bytes = space.memory ? bytes : 0;
        if (!space.memory) {
            pool_release();
            return OUT_OF_MEMORY;
        }
    }
    unsigned char* at =
        reinterpret_cast<unsigned char*>((reinterpret_cast<uintptr_t>(space.memory) + 63) / 64 * 64);
    const bool across = call.batch > 1 && threads > 1;
    Sample samples[MAX_THREADS];
    for (int i = 0; i < (across ? threads : 1); ++i) {
        Sample& s = samples[i];
        s.p = &p;
        s.threads = across ? 1 : threads;
        s.arena = at;
        at += aligned(p.arena_bytes + 64);
        s.value_steps = reinterpret_cast<int64_t*>(at);
        s.op_steps = s.value_steps + p.values.size();
        at += aligned(int64_t(p.values.size() + p.ops) * 8);
        s.value_held = at;
        s.op_held = at + p.values.size();
        at += aligned(int64_t(p.values.size() + p.ops) * 8);
    }
    int64_t* clamped[MAX_THREADS];
    for (int i = 0; i < threads; ++i) {
        clamped[i] = reinterpret_cast<int64_t*>(at);
        std::memset(at, 0, size_t(p.reports) * 8);
        at += aligned(int64_t(p.reports) * 8);
        Sample& s = samples[across ? i : 0];
        s.scratch[across ? 0 : i] = at;
        s.clamped[across ? 0 : i] = clamped[i];
        at += aligned(p.scratch_bytes);
    }
    Batch batch{&p, &call, samples, 0, RAN};
    if (across) {
        pool_run(call.batch, threads, run_sample, &batch);
    } else {
        for (int64_t i = 0; i < call.batch; ++i) run_sample(&batch, long(i), 0);
    }
    pool_release();
    for (int i = 0; i < threads; ++i)
        for (int r = 0; r < p.reports; ++r) call.clamped[r] += clamped[i][r];
    *out_steps = batch.out_steps;
    return batch.outcome;
}

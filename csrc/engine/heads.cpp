// Operations that read neighbours, and what must be ready before the first tile.

#include <cstring>

#include "bits.h"
#include "gather.h"
#include "sample.h"

namespace {

void fill(unsigned char* to, int64_t n, int64_t bytes, int32_t value) {
    if (bytes == 1) {
        std::memset(to, value, size_t(n));
    } else if (bytes == 2) {
        std::fill_n(reinterpret_cast<int16_t*>(to), n, int16_t(value));
    } else {
        std::fill_n(reinterpret_cast<int32_t*>(to), n, value);
    }
}

// The channels of a tile, group by group, for the pixels that `a` holds; a.x is at channel 0 of the first one.
void run_channels(const Sample& s, const Op& op, const Tile& tile, ConvArgs& a, const unsigned char* x, int32_t* out) {
    const int64_t form = op.at[9], groups = op.at[0], per = op.at[14] / groups, inputs = op.at[15];
    const bool packed = form == FORM_U8 || form == FORM_I16 || form == FORM_BITS;
    const int64_t lanes = s.p->kernels->lanes, blocks = (per + lanes - 1) / lanes;
    const int64_t block_bytes = a.nsegments * a.whole * lanes * 4;
    const int64_t element = form_bytes(form), out_element = form == FORM_WIDE ? 2 : 1;  // the latter in int32
    const int32_t* sums = a.sums;
    for (int64_t c = tile.channel; c < tile.channel + tile.channels;) {
        const int64_t group = c / per, next = std::min((group + 1) * per, tile.channel + tile.channels);
        a.x = x + (form == FORM_BITS ? group * inputs / 8 : group * inputs * element);
        a.weight = packed ? op.packed.data() + (group * blocks + (c - group * per) / lanes) * block_bytes
                          : op.packed.data() + c * 4;
        a.bias = op.bias.data() + c;
        a.sums = sums + (form == FORM_BITS ? group * op.at[12] * op.at[13] : 0);
        a.outputs = int(next - c);
        a.out = out + (c - tile.channel) * out_element;
        s.p->kernels->conv[form](a);
        c = next;
    }
    a.sums = sums;
}

void run_depthwise(const Sample& s, const Op& op, const Tile& tile, const ConvArgs& a, const unsigned char* x,
                   int32_t* out) {
    DepthwiseArgs d;
    d.x = x + tile.channel * form_bytes(op.at[9]);
    d.weight = reinterpret_cast<const int32_t*>(op.packed.data());
    d.bias = op.bias.data();
    d.taps = a.segments;
    d.ntaps = a.nsegments;
    d.channels = int(tile.channels);
    d.step = a.step;
    d.rows = a.rows;
    d.out = out;
    s.p->kernels->depthwise(d);
}

// All runs of a tile in calls of many.
void run_tiled_conv(const Sample& s, const Op& op, const Tile& tile, ConvArgs& a, const unsigned char* operand,
                    int32_t* out) {
    const Value& x = s.p->values[op.in[0]];
    const int64_t sh = op.at[3], sw = op.at[4], wp = op.at[13], width = op.at[16], steps = s.physical(op);
    const int64_t step_elements = conv_step_elements(op, x), end = tile.place + tile.places;
    const bool linear = s.group->places == 1, uniform = !linear && sh * wp == sw * width;
    // Places between the ends of rows, as if the border had outputs, too: fewer half-empty tiles for narrow images.
    const int64_t period = sh * wp / sw;
    const bool over = !linear && !uniform && sh * wp % sw == 0 && period < (width + LANES - 1) / LANES * LANES;
    constexpr int MANY = 64;
    ConvRun runs[MANY];
    a.step = linear ? step_elements : sw * x.channels;
    a.runs = runs;
    a.nruns = 0;
    auto flush = [&] {
        if (a.nruns) run_channels(s, op, tile, a, operand, out);
        a.nruns = 0;
    };
    for (int64_t t = 0; t < (linear ? 1 : steps); ++t) {
        for (int64_t place = tile.place; place < end;) {
            const int64_t next = uniform || over ? end : std::min(end, (place / width + 1) * width);
            int64_t rows = linear ? steps : next - place;
            if (over) {
                a.period = period;
                a.valid = width;
                a.phase = place % width;
                rows = (end - 1) / width * period + (end - 1) % width - (place / width * period + a.phase) + 1;
            }
            if (a.nruns == MANY || (a.nruns && rows != a.rows)) flush();
            a.rows = int(rows);
            const int64_t base = t * step_elements + (place / width * sh * wp + place % width * sw) * x.channels;
            runs[a.nruns++] = ConvRun{base, t * tile.places + place - tile.place};
            place = next;
        }
    }
    flush();
}

void run_conv(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    const Value& x = s.p->values[op.in[0]];
    const int64_t sh = op.at[3], sw = op.at[4], form = op.at[9], wp = op.at[13], width = op.at[16];
    const int64_t pixel = pixel_elements(op, x), element = form_bytes(form), step_elements = conv_step_elements(op, x), steps = s.physical(op);
    const unsigned char* operand = s.arena + op.at[11];
    if (form == FORM_GATHER) return run_gather(s, op, tile, out);
    ConvArgs a;
    a.segments = op.segments.data();
    a.nsegments = int(op.segments.size());
    a.length = int(op.at[21]);
    a.whole = op.at[22];
    a.pairs = op.pairs;
    a.bits = &op.bits;
    a.sums = nullptr;
    if (form == FORM_BITS) operand += sums_bytes(op, x);
    a.weight_width = op.at[14];
    a.width = tile.channels;
    a.period = a.valid = a.phase = 0;
    if (form == FORM_U8 && s.p->kernels->tiles) return run_tiled_conv(s, op, tile, a, operand, out);
    const int64_t out_element = form == FORM_WIDE ? 2 : 1;  // in int32
    // Runs of pixels at equal distances: all steps of a linear map, whole images without borders, else rows.
    const bool linear = s.group->places == 1;
    const bool uniform = !linear && sh * wp == sw * width;
    for (int64_t t = 0; t < (linear ? 1 : steps); ++t) {
        for (int64_t place = tile.place; place < tile.place + tile.places;) {
            const int64_t end = uniform ? tile.place + tile.places
                                        : std::min(tile.place + tile.places, (place / width + 1) * width);
            a.rows = linear ? int(steps) : int(end - place);
            a.step = linear ? step_elements : sw * pixel;
            const int64_t first = place / width * sh * wp + place % width * sw, base = t * step_elements + first * pixel;
            if (form == FORM_BITS) {
                a.sums = reinterpret_cast<const int32_t*>(s.arena + op.at[11]) + t * op.at[0] * op.at[12] * wp + first;
                a.sums_step = linear ? op.at[0] * op.at[12] * wp : sw;  // of one place: from step to step
            }
            int32_t* to = out + (t * tile.size() + (place - tile.place) * tile.channels) * out_element;
            if (form == FORM_DEPTHWISE) {
                run_depthwise(s, op, tile, a, operand + base * element, to);
            } else {
                run_channels(s, op, tile, a, operand + base * element, to);
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
    const int64_t bytes = dtype_bytes(x.dtype);
    for (int64_t t = 0; t < s.physical(op); ++t) {
        const unsigned char* from = s.at(op.in[0], t);
        for (int64_t place = tile.place; place < tile.place + tile.places; ++place, out += tile.channels)
            for (int64_t i = op.starts[size_t(place)]; i < op.starts[size_t(place + 1)]; ++i) {
                const Run& run = op.runs[size_t(i)];
                const int64_t first = std::max(run.to, tile.channel);
                const int64_t n = std::min(run.to + run.count, tile.channel + tile.channels) - first;
                if (n <= 0) continue;
                int32_t* to = out + first - tile.channel;
                if (run.from < 0) {
                    std::memset(to, 0, size_t(n) * 4);
                } else {
                    s.p->kernels->load(to, from + (run.from + first - run.to) * bytes, x.dtype, n);
                }
            }
    }
}

// A whole group that moves numbers of one type: bytes go from value to value.
template <class Number>
void move_runs(const Sample& s, const Op& op, const Op& store, const Tile& tile) {
    const Value& y = s.p->values[size_t(store.at[0])];
    for (int64_t t = 0; t < s.physical(op); ++t) {
        const Number* from = reinterpret_cast<const Number*>(s.at(op.in[0], t));
        Number* to = reinterpret_cast<Number*>(s.arena + y.offset) + (t * y.places + tile.place) * y.channels;
        for (int64_t place = tile.place; place < tile.place + tile.places; ++place, to += y.channels)
            for (int64_t i = op.starts[size_t(place)]; i < op.starts[size_t(place + 1)]; ++i) {
                const Run& run = op.runs[size_t(i)];
                if (run.from < 0) {
                    std::memset(to + run.to, 0, size_t(run.count) * sizeof(Number));
                } else if (run.count == 16) {  // a number that the compiler knows needs no call
                    std::memcpy(to + run.to, from + run.from, 16 * sizeof(Number));
                } else {
                    std::memcpy(to + run.to, from + run.from, size_t(run.count) * sizeof(Number));
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

}  // namespace

bool move_only(const Sample& s, const Group& g, const Tile& tile) {
    if (g.ops.size() != 2 || g.ops[0].kind != OP_REMAP || g.ops[1].kind != OP_STORE || tile.channels != g.channels) return false;
    const int dtype = s.p->values[size_t(g.ops[0].in[0])].dtype;
    if (s.p->values[size_t(g.ops[1].at[0])].dtype != dtype) return false;
    switch (dtype_bytes(dtype)) {
    case 1: move_runs<uint8_t>(s, g.ops[0], g.ops[1], tile); break;
    case 2: move_runs<uint16_t>(s, g.ops[0], g.ops[1], tile); break;
    case 4: move_runs<uint32_t>(s, g.ops[0], g.ops[1], tile); break;
    default: return false;
    }
    feed_operands(s, g.ops[1], tile);
    return true;
}

// The operand of a convolution: the input with its border, row by row.
void operand_row(void* given, long task, int) {
    const Sample& s = *static_cast<Sample*>(given);
    const Op& op = *s.op;
    const Value& x = s.p->values[op.in[0]];
    const int64_t hp = op.at[12], wp = op.at[13], form = op.at[9], offset = op.at[10], bytes = form_bytes(form);
    const int64_t step = task / hp, row = task % hp, from = row - op.at[5], before = std::min(op.at[6], wp);
    if (form == FORM_BITS) return bits_row(s, op, step, row);
    if (form == FORM_GATHER) return gather_row(s, op, step, row);
    unsigned char* to = s.arena + op.at[11] + (step * hp + row) * wp * x.channels * bytes;
    if (from < 0 || from >= x.height) return fill(to, wp * x.channels, bytes, int32_t(offset));
    const int64_t inside = std::min(x.width, wp - before);
    fill(to, before * x.channels, bytes, int32_t(offset));
    to += before * x.channels * bytes;
    const unsigned char* source = s.at(op.in[0], step) + from * x.width * x.channels * dtype_bytes(x.dtype);
    s.p->kernels->operand[form](to, source, x.dtype, inside * x.channels, int32_t(offset));
    fill(to + inside * x.channels * bytes, (wp - before - inside) * x.channels, bytes, int32_t(offset));
}

void feed_operands(const Sample& s, const Op& store, const Tile& tile) {
    const Value& v = s.p->values[size_t(store.at[0])];
    for (const Op* to : store.feeds) {
        const Op& op = *to;
        if (op.at[9] == FORM_BITS) {
            feed_bits(s, op, tile);
            continue;
        }
        const int64_t hp = op.at[12], wp = op.at[13], form = op.at[9], offset = op.at[10], bytes = form_bytes(form);
        const int64_t above = op.at[5], before = std::min(op.at[6], wp), inside = std::min(v.width, wp - before);
        const int64_t pixel = v.channels * bytes, row_bytes = wp * pixel;
        const bool borders = tile.channel == 0;
        for (int64_t t = 0; t < s.value_physical(int(store.at[0])); ++t) {
            unsigned char* operand = s.arena + op.at[11] + t * hp * row_bytes;
            const unsigned char* from = s.at(int(store.at[0]), t);
            if (borders && tile.place == 0) fill(operand, std::min(above, hp) * wp * v.channels, bytes, int32_t(offset));
            for (int64_t place = tile.place; place < tile.place + tile.places;) {
                const int64_t y = place / v.width, x = place % v.width;
                const int64_t end = std::min(tile.place + tile.places, (y + 1) * v.width), count = end - place;
                unsigned char* row = operand + (y + above) * row_bytes;
                if (y + above < hp) {
                    if (borders && x == 0) fill(row, before * v.channels, bytes, int32_t(offset));
                    const int64_t kept = std::min(count, inside - x);
                    if (kept > 0)
                        s.p->kernels->operand[form](row + (before + x) * pixel + tile.channel * bytes,
                                                    from + (place * v.channels + tile.channel) * dtype_bytes(v.dtype),
                                                    v.dtype, count == 1 ? tile.channels : kept * v.channels,
                                                    int32_t(offset));
                    if (borders && x + count == v.width)
                        fill(row + (before + inside) * pixel, (wp - before - inside) * v.channels, bytes, int32_t(offset));
                }
                place = end;
            }
            const int64_t below = v.height + above;
            if (borders && tile.place + tile.places == v.places && below < hp)
                fill(operand + below * row_bytes, (hp - below) * wp * v.channels, bytes, int32_t(offset));
        }
    }
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

void run_head(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    switch (op.kind) {
    case OP_CONV: return run_conv(s, op, tile, out);
    case OP_SUMPOOL: return run_sumpool(s, op, tile, out);
    case OP_MAXPOOL: return run_maxpool(s, op, tile, out);
    case OP_TALLY: return run_tally(s, op, tile, out);
    case OP_WINDOWS: return run_windows(s, op, tile, out);
    case OP_REMAP: return run_remap(s, op, tile, out);
    default: return run_concat(s, op, tile, out);
    }
}

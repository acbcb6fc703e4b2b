#include "program.h"

#include <algorithm>
#include <cstring>

#include "bits.h"
#include "gather.h"

namespace {

constexpr int64_t MAGIC = 0x6273700A;  // raise the last byte when the words change; runtime/engine/words.py has the same

struct Reader {
    const int64_t* words;
    int64_t count, at = 0;
    bool bad = false;

    int64_t next(int64_t low = INT64_MIN, int64_t high = INT64_MAX) {
        if (at >= count || words[at] < low || words[at] > high) {
            bad = true;
            return low == INT64_MIN ? 0 : low;
        }
        return words[at++];
    }
};

// Numbers in `at` that every kind has at least, and how many tables.
struct Form {
    int kind, numbers, tables, inputs;
};
constexpr Form FORMS_OF_OPS[] = {
    {OP_CONV, 21, 2, 1},   {OP_SUMPOOL, 10, 0, 1}, {OP_MAXPOOL, 9, 0, 1}, {OP_TALLY, 12, 0, 1},
    {OP_WINDOWS, 5, 1, 1}, {OP_REMAP, 0, 1, 1},   {OP_CONCAT, 0, 0, 1},   {OP_LOAD, 0, 0, 1},
    {OP_LOAD_ROW, 0, 0, 1}, {OP_STORE, 1, 0, 1},  {OP_RESCALE, 9, 2, 1},  {OP_ADD, 1, 0, 2},
    {OP_MULTIPLY, 0, 0, 2}, {OP_FIRE, 13, 7, 1},  {OP_FIRE_POTENTIAL, 0, 0, 1}, {OP_LOOKUP, 5, 1, 1},
    {OP_LATCH, 2, 0, 1},   {OP_MEAN, 3, 1, 1},
};

bool reads_values(int kind) { return is_head(kind) || kind == OP_LOAD || kind == OP_LOAD_ROW; }

// How many sums of two products of a weight and a number of 0..most can be added in 16 bits, whatever they are.
int pairs_in_16_bits(const std::vector<int32_t>& weight, int64_t most) {
    if (most < 0 || most > 255) return 0;
    const auto [low, high] = std::minmax_element(weight.begin(), weight.end());
    const int64_t down = -std::min<int64_t>(*low, 0) * most * 2, up = std::max<int64_t>(*high, 0) * most * 2;
    return int(std::min<int64_t>({1 << 15, 32768 / std::max<int64_t>(down, 1), 32767 / std::max<int64_t>(up, 1)}));
}

// at of a convolution: groups, kh, kw, sh, sw, bh, bw, dh, dw, form, offset, scratch, hp, wp, outputs, inputs, width of
// the output, highest number of the operand less its lowest, whether the store of its input writes the operand, planes of
// FORM_BITS, lowest number; behind them come the length of a segment and its 4-byte units
bool prepare_conv(const Program& p, const Group& g, Op& op) {
    const Value& x = p.values[op.in[0]];
    const int64_t groups = op.at[0], kh = op.at[1], kw = op.at[2], dh = op.at[7], dw = op.at[8], form = op.at[9];
    const int64_t hp = op.at[12], wp = op.at[13], outputs = op.at[14], inputs = op.at[15], width = op.at[16];
    const int64_t pixel = pixel_elements(op, x), size = form == FORM_GATHER ? 0 : hp * wp * (form == FORM_BITS ? pixel * op.at[19] + 4 * groups : pixel * form_bytes(form));
    if (width < 1 || g.places % width || hp < (g.places / width - 1) * op.at[3] + dh * (kh - 1) + 1 ||
        wp < (width - 1) * op.at[4] + dw * (kw - 1) + 1 || op.at[11] < 0 ||
        op.at[11] + x.capacity * size + (p.kernels->tiles && size ? LANES * op.at[4] * pixel + 64 : 0) > p.arena_bytes)
        return false;
    if (groups < 1 || kh < 1 || kw < 1 || dh < 1 || dw < 1 || op.at[3] < 1 || op.at[4] < 1 || form < 0 ||
        form >= FORMS || outputs != g.channels || inputs * groups != x.channels || outputs % groups)
        return false;
    const int64_t depth = kh * kw * inputs;
    const std::vector<int32_t>& weight = op.tables[0];
    if (int64_t(weight.size()) != outputs * depth) return false;
    if (!op.tables[1].empty() && int64_t(op.tables[1].size()) != outputs) return false;
    if (form != FORM_BITS && form != FORM_GATHER && !p.kernels->operand[form]) return false;
    if (form != FORM_GATHER && (form == FORM_DEPTHWISE ? inputs != 1 || outputs != groups : !p.kernels->conv[form]))
        return false;
    op.bias.assign(outputs, 0);
    for (int64_t o = 0; o < outputs; ++o) {
        uint32_t sum = op.tables[1].empty() ? 0 : uint32_t(op.tables[1][o]);
        if (op.at[10])
            for (int64_t i = 0; i < depth; ++i) sum -= uint32_t(op.at[10]) * uint32_t(weight[o * depth + i]);
        op.bias[o] = int32_t(sum);
    }
    if (form == FORM_GATHER && !prepare_gather(p, op)) return false;
    if (form == FORM_GATHER) {
        op.tables.clear();
        op.bias.resize(size_t(outputs + LANES), 0);
        return true;
    }
    const bool rows = dw == 1 && groups == 1;  // a row of the kernel lies together
    for (int64_t y = 0; y < kh; ++y)
        for (int64_t x0 = 0; x0 < (rows ? 1 : kw); ++x0)
            op.segments.push_back(int32_t((y * dh * wp + x0 * dw) * pixel));
    const int64_t length = rows ? kw * inputs : inputs;
    // w[o][i][y][x] in the order of the operand: y, x, i
    auto w = [&](int64_t o, int64_t d) {
        const int64_t i = d % inputs, place = d / inputs;
        return weight[(o * inputs + i) * kh * kw + place];
    };
    const int64_t per = outputs / groups, nseg = int64_t(op.segments.size());
    int64_t whole = 0;
    if (form == FORM_BITS) {
        if (!prepare_bits(p, op, rows ? kw : 1, pixel, w)) return false;
    } else if (form == FORM_I32 || form == FORM_WIDE || form == FORM_DEPTHWISE) {
        op.packed.resize(size_t(outputs * depth * 4));
        int32_t* to = reinterpret_cast<int32_t*>(op.packed.data());
        for (int64_t d = 0; d < depth; ++d)
            for (int64_t o = 0; o < outputs; ++o) to[d * outputs + o] = w(o, d);
    } else {
        const int64_t size = form == FORM_U8 ? 1 : 2, unit = 4 / size;
        whole = (length + unit - 1) / unit;
        if (p.kernels->tiles && form == FORM_U8) {
            const int64_t parts = (whole + 15) / 16;
            whole = (whole + parts - 1) / parts * parts;
        }
        const int64_t lanes = p.kernels->lanes, blocks = (per + lanes - 1) / lanes;
        if (form == FORM_U8 && p.kernels->saturates && !(op.pairs = pairs_in_16_bits(weight, op.at[17]))) return false;
        op.packed.assign(size_t(groups * blocks * nseg * whole * lanes * 4), 0);
        for (int64_t o = 0; o < outputs; ++o) {
            const int64_t block = o / per * blocks + o % per / lanes, lane = o % per % lanes;
            for (int64_t s = 0; s < nseg; ++s)
                for (int64_t i = 0; i < length; ++i) {
                    const int64_t place = (((block * nseg + s) * whole + i / unit) * lanes + lane) * unit + i % unit;
                    const int32_t value = w(o, s * length + i);
                    if (size == 1) {
                        if (value < -128 || value > 127) return false;
                        op.packed[size_t(place)] = static_cast<unsigned char>(int8_t(value));
                    } else {
                        if (value < -32768 || value > 32767) return false;
                        const int16_t two = int16_t(value);
                        std::memcpy(&op.packed[size_t(place * 2)], &two, 2);
                    }
                }
        }
    }
    op.tables.clear();  // as large as the weights: not needed any more
    op.bias.resize(size_t(outputs + LANES), 0);  // kernels read whole lanes
    if (form == FORM_BITS) return true;
    op.at.push_back(length);
    op.at.push_back(whole);
    return true;
}

void find_runs(const Group& g, Op& op) {
    const std::vector<int32_t>& table = op.tables[0];
    for (int64_t place = 0; place < g.places; ++place) {
        op.starts.push_back(int64_t(op.runs.size()));
        for (int64_t c = 0; c < g.channels;) {
            const int64_t to = place * g.channels + c, from = table[size_t(to)];
            int64_t n = 1;
            while (c + n < g.channels && table[size_t(to + n)] == (from < 0 ? from : from + n)) ++n;
            op.runs.push_back(Run{c, from, n});
            c += n;
        }
    }
    op.starts.push_back(int64_t(op.runs.size()));
    op.tables[0] = {};
}

bool check_op(Program& p, Group& g, Op& op) {
    const int64_t channels = g.channels, size = g.channels * g.places;
    auto table = [&](int i, int64_t n) { return int64_t(op.tables[i].size()) == n; };
    auto state = [&](int64_t at, int64_t bytes) { return at >= 0 && at % 8 == 0 && at + bytes <= p.kept_bytes; };
    auto membrane = [&](int64_t at) {
        return at >= p.kept_bytes && at % 8 == 0 && at + 4 * size <= p.state_bytes;
    };
    auto arena = [&](int64_t at, int64_t bytes) { return at >= 0 && at % 8 == 0 && at + bytes <= p.arena_bytes; };
    auto width = [&](int at) { return op.at[size_t(at)] >= 1 && g.places % op.at[size_t(at)] == 0; };
    switch (op.kind) {
    case OP_CONV: return prepare_conv(p, g, op);
    case OP_SUMPOOL: return p.values[op.in[0]].channels == channels && width(9);
    case OP_MAXPOOL: return p.values[op.in[0]].channels == channels && width(8);
    case OP_TALLY: {
        const Value& x = p.values[op.in[0]];
        return x.channels == channels && width(11) && state(op.at[8], 4 * x.channels * x.places) &&
               state(op.at[9], 4 * size) && arena(op.at[10], 4 * x.capacity * x.channels * x.places);
    }
    case OP_WINDOWS: {
        const Value& x = p.values[op.in[0]];
        return x.channels == channels && x.places == g.places && op.at[0] >= 1 && op.at[1] >= 1 &&
               (op.at[0] == 1 || (state(op.at[2], 4 * size) && state(op.at[3], 8) && arena(op.at[4], 4 * size) &&
                                  int64_t(op.tables[0].size()) > op.at[0] &&
                                  int64_t(op.tables[0].size()) == op.at[0] + 1 + 2 * op.tables[0][size_t(op.at[0])]));
    }
    case OP_REMAP: {
        const Value& x = p.values[op.in[0]];
        if (!table(0, size)) return false;
        for (int32_t at : op.tables[0])
            if (at < -1 || at >= x.channels * x.places) return false;
        find_runs(g, op);
        return true;
    }
    case OP_CONCAT: {
        int64_t sum = 0;
        for (int v : op.in) {
            if (p.values[v].places != g.places) return false;
            sum += p.values[v].channels;
        }
        return sum == channels;
    }
    case OP_LOAD: return p.values[op.in[0]].channels == channels && p.values[op.in[0]].places == g.places;
    case OP_LOAD_ROW: return p.values[op.in[0]].channels == channels && p.values[op.in[0]].places == 1;
    case OP_STORE: {
        if (op.at[0] < 0 || op.at[0] >= int64_t(p.values.size())) return false;
        const Value& y = p.values[op.at[0]];
        return y.channels == channels && y.places == g.places &&
               (y.dtype == DTYPE_I64) == g.ops[op.in[0]].wide;
    }
    case OP_RESCALE:
        return op.at[4] >= 1 && table(0, op.at[4] * channels) && (!op.at[5] || table(1, op.at[4] * channels)) &&
               state(op.at[6], 8);
    case OP_ADD: return true;
    case OP_MULTIPLY: return true;
    case OP_FIRE: {  // signed, hard, decay, shift, cancel, up, down, rows, v, sent, time, narrow, spacing shift
        const int64_t rows = op.at[7];
        if (rows < 1 || !table(0, rows * channels) || op.tables[6].empty()) return false;
        for (int i : {1, 2, 3})
            if (!op.tables[i].empty() && !table(i, rows * channels)) return false;
        for (int i : {4, 5})
            if (!op.tables[i].empty() && !table(i, channels)) return false;
        int32_t most = 0;
        for (int32_t count : op.tables[6]) most = std::max(most, count);
        if (most > 1 && op.tables[1].empty()) return false;
        for (int32_t spacing : op.tables[1])
            if (spacing < 1) return false;
        if (!op.at[1] && op.tables[2].empty()) return false;
        return membrane(op.at[8]) && (!op.at[4] || membrane(op.at[9])) && state(op.at[10], 8);
    }
    case OP_FIRE_POTENTIAL: return g.ops[op.in[0]].kind == OP_FIRE;
    case OP_LOOKUP:
        return op.at[2] >= 1 && op.at[1] >= 1 && table(0, op.at[2] * (op.at[3] ? channels : 1) * op.at[1]) &&
               state(op.at[4], 8);
    case OP_LATCH: return state(op.at[0], 4 * size) && state(op.at[1], 8);
    case OP_MEAN:
        return !op.tables[0].empty() && state(op.at[0], 8 * size) && state(op.at[1], 8) && state(op.at[2], 8);
    default: return false;
    }
}

bool read_op(Reader& r, Program& p, Group& g, const int32_t* const* tables, const int64_t* lengths, int64_t ntables) {
    Op op;
    op.kind = int(r.next(0, KINDS - 1));
    op.report = int(r.next(-1, p.reports - 1));
    op.slot = int(r.next(-1, g.slots - 1));
    op.wide = r.next(0, 1) != 0;
    const int64_t inputs = r.next(0, 1 << 16);
    for (int64_t i = 0; i < inputs && !r.bad; ++i)
        op.in.push_back(int(r.next(0, (reads_values(op.kind) ? int64_t(p.values.size()) : int64_t(g.ops.size())) - 1)));
    const int64_t numbers = r.next(0, 1 << 16);
    for (int64_t i = 0; i < numbers && !r.bad; ++i) op.at.push_back(r.next());
    const int64_t constants = r.next(0, 64);
    for (int64_t i = 0; i < constants && !r.bad; ++i) {
        const int64_t which = r.next(-1, ntables - 1);
        op.tables.emplace_back();
        if (which >= 0) op.tables.back().assign(tables[which], tables[which] + lengths[which]);
    }
    if (r.bad) return false;
    for (const Form& form : FORMS_OF_OPS)
        if (form.kind == op.kind && (numbers < form.numbers || constants < form.tables || inputs < form.inputs))
            return false;
    const bool writes = op.kind != OP_STORE && op.kind != OP_MEAN;
    if (writes != (op.slot >= 0)) return false;
    if (!reads_values(op.kind))
        for (int i : op.in) {
            const Op& from = g.ops[i];
            if (from.slot < 0 || (from.wide && op.kind != OP_RESCALE && op.kind != OP_STORE)) return false;
        }
    if (!check_op(p, g, op)) return false;
    op.id = p.ops++;
    g.ops.push_back(std::move(op));
    return true;
}

// Tiles whose buffers stay in the nearest caches; whole rows of an image where they fit.
void cut_tiles(const Program& p, Group& g) {
    int64_t steps = 1;
    bool wide = false;
    for (const Op& op : g.ops) {
        wide = wide || op.wide;
        if (reads_values(op.kind))
            for (int v : op.in) steps = std::max(steps, p.values[v].capacity);
        if (op.kind == OP_WINDOWS) {
            const int64_t frames = p.values[op.in[0]].capacity;
            steps = std::max(steps, op.at[0] == 1 ? frames * op.at[1] : op.at[1]);
        }
    }
    constexpr int64_t NUMBERS = 8192;
    int64_t width = g.places;
    for (const Op& op : g.ops)
        if (op.kind == OP_STORE && p.values[op.at[0]].places == g.places) width = p.values[op.at[0]].width;
    g.width = width;
    int64_t work = steps * g.places * g.channels;  // numbers, and a few dozen products count as one
    for (const Op& op : g.ops)
        if (op.kind == OP_CONV) {
            g.whole = g.whole || op.at[0] > 1;  // its groups do not begin where tiles do
            if (op.at[9] == FORM_GATHER) g.unit = MAX_GATHER_LANES;
            work += steps * g.places * g.channels * (op.at[1] * op.at[2] * op.at[15] / 64);
        }
    g.shared = work >= 4096;
    if (g.places == 1 && g.whole) {
        g.tile_channels = g.channels;
    } else if (g.places == 1) {
        g.tile_channels = std::min<int64_t>(g.channels, std::max<int64_t>(4 * LANES, NUMBERS / steps / g.unit * g.unit));
    }
    if (g.places == 1) {
        g.tiles = (g.channels + g.tile_channels - 1) / g.tile_channels;
    } else {
        const int64_t target = std::min(g.places, std::max<int64_t>(MAX_BLOCK, NUMBERS / (steps * g.channels)));
        if (target >= width) {
            g.tile_places = target / width * width;
        } else {
            const int64_t parts = (width + target - 1) / target;
            g.tile_places = (width + parts - 1) / parts;
        }
        g.tile_channels = g.channels;
        g.tiles = (g.places + g.tile_places - 1) / g.tile_places;
    }
    g.slot_bytes = (steps * g.tile_places * g.tile_channels * (wide ? 8 : 4) + 127) / 64 * 64;
}

// Stores that write operands know it.
bool link_operands(Program& p) {
    std::vector<Op*> stores(p.values.size(), nullptr);
    for (Group& g : p.groups) {
        for (Op& op : g.ops) {
            if (op.kind != OP_CONV || !op.at[18]) continue;
            Op* store = stores[size_t(op.in[0])];
            if (!store || (op.at[9] == FORM_BITS && p.values[size_t(op.in[0])].places == 1)) return false;
            store->feeds.push_back(&op);
        }
        for (Op& op : g.ops)
            if (op.kind == OP_STORE) stores[size_t(op.at[0])] = &op;
    }
    return true;
}

}  // namespace

void Group::tile_for(int threads, int64_t& tile, int64_t& depth) const {
    tile = tile_places;
    depth = tile_channels;
    if (threads <= 1 || !shared) return;
    auto equal = [threads](int64_t units, int64_t most) {  // units of a tile, at most so many
        const int64_t tiles = (units + most - 1) / most, rounds = (tiles + threads - 1) / threads * threads;
        return std::max<int64_t>(1, (units + rounds - 1) / rounds);
    };
    if (places == 1) {
        if (!whole) depth = unit * equal((channels + unit - 1) / unit, std::max<int64_t>(1, depth / unit));
    } else if (tile >= width) {
        tile = width * equal((places + width - 1) / width, tile / width);
    }
}

int64_t dtype_bytes(int dtype) {
    constexpr int64_t BYTES[] = {1, 1, 2, 2, 4, 8};
    return BYTES[dtype];
}

Program* parse_program(const int64_t* words, int64_t count, const int32_t* const* tables, const int64_t* lengths,
                       int64_t ntables, const Kernels* kernels, const char** error) {
    Program* p = new Program;
    Reader r{words, count};
    auto fail = [&](const char* what) -> Program* {
        *error = what;
        delete p;
        return nullptr;
    };
    p->kernels = kernels;
    if (r.next() != MAGIC) return fail("words of another version");
    const int64_t nvalues = r.next(1, 1 << 20);
    for (int64_t i = 0; i < nvalues && !r.bad; ++i) {
        Value v;
        v.channels = r.next(1, INT32_MAX);
        v.height = r.next(1, INT32_MAX);
        v.width = r.next(1, INT32_MAX);
        v.places = v.height * v.width;
        v.dtype = int(r.next(0, DTYPES - 1));
        v.capacity = r.next(1, INT32_MAX);
        v.offset = r.next(0);
        p->values.push_back(v);
    }
    p->input = int(r.next(0, nvalues - 1));
    const int64_t outputs = r.next(1, 1 << 12);
    for (int64_t i = 0; i < outputs && !r.bad; ++i) {
        Output out;
        out.value = int(r.next(-1, nvalues - 1));
        if (out.value < 0) {
            out.report = int(r.next(0, 1 << 20));
        } else {
            const Value& v = p->values[size_t(out.value)];
            out.channels = v.channels;
            out.places = v.places;
            out.capacity = v.capacity;
        }
        p->outputs.push_back(out);
    }
    p->reports = int(r.next(0, 1 << 20));
    p->chunk = r.next(1);
    p->arena_bytes = r.next(0);
    p->state_bytes = r.next(0);
    p->kept_bytes = r.next(0, p->state_bytes);
    p->max_count = r.next(1);
    const int64_t groups = r.next(0, 1 << 20);
    if (r.bad) return fail("header");
    for (const Value& v : p->values)
        if (v.offset % 64 || v.offset + v.capacity * v.channels * v.places * dtype_bytes(v.dtype) > p->arena_bytes)
            return fail("a value outside the arena");
    const int64_t echoes = r.next(0, 1 << 20);
    for (int64_t i = 0; i < echoes && !r.bad; ++i) {
        Echo e;
        e.from = int(r.next(0, nvalues - 1));
        e.to = int(r.next(0, nvalues - 1));
        e.state = r.next(0);
        if (r.bad || p->chunk != 1) return fail("echo");
        const Value &x = p->values[size_t(e.from)], &y = p->values[size_t(e.to)];
        e.bytes = y.channels * y.places * dtype_bytes(y.dtype);
        if (x.channels != y.channels || x.places != y.places || x.dtype != y.dtype || e.state + e.bytes > p->kept_bytes)
            return fail("echo");
        p->echoes.push_back(e);
    }
    p->groups.reserve(size_t(groups));
    for (int64_t i = 0; i < groups; ++i) {
        p->groups.emplace_back();
        Group& g = p->groups.back();
        g.is_join = r.next(0, 1) != 0;
        g.channels = r.next(1, INT32_MAX);
        g.places = r.next(1, INT32_MAX);
        g.slots = int(r.next(0, 1 << 12));
        const int64_t ops = r.next(0, 1 << 12);
        if (r.bad) return fail("group");
        if (g.is_join) {
            for (int64_t k = 0; k < ops; ++k) {
                g.join.from.push_back(int(r.next(0, nvalues - 1)));
                g.join.to.push_back(int(r.next(0, nvalues - 1)));
                g.join.state.push_back(r.next(0));
                g.join.count.push_back(r.next(0));
                if (r.bad) return fail("join");
                const Value &x = p->values[g.join.from.back()], &y = p->values[g.join.to.back()];
                if (x.channels != y.channels || x.places != y.places || x.dtype != y.dtype ||
                    g.join.state.back() + y.capacity * y.channels * y.places * dtype_bytes(y.dtype) > p->kept_bytes ||
                    g.join.count.back() + 8 > p->kept_bytes)
                    return fail("join");
            }
            continue;
        }
        g.ops.reserve(size_t(ops));
        for (int64_t k = 0; k < ops; ++k)
            if (!read_op(r, *p, g, tables, lengths, ntables)) return fail("operation");
        fuse(*p, g);
        cut_tiles(*p, g);
        p->scratch_bytes = std::max(p->scratch_bytes, (g.slots + 2) * g.slot_bytes);  // two for membranes
    }
    if (r.bad || r.at != r.count) return fail("length");
    if (!link_operands(*p)) return fail("an operand that no store writes");
    for (Output& out : p->outputs) {
        for (const Group& g : p->groups)
            for (const Op& op : g.ops)
                if (op.kind == OP_MEAN && op.report == out.report && out.value < 0) {
                    out.mean = &op;
                    out.channels = g.channels;
                    out.places = g.places;
                }
        if (out.value < 0 && !out.mean) return fail("output");
        p->output_numbers += out.channels * out.places * out.capacity;
    }
    return p;
}

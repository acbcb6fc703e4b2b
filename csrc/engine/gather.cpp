// Event-driven convolutions and linear maps: lists of the numbers that are not 0, and rows of weights to add for them.

#include "gather.h"

#include <cstring>

#include "sample.h"

// Lists of one row of the operand: where those of every pixel begin, then channels (as numbers of the row), then values.
// runtime/engine/layout.py has the same.
struct Lists {
    int64_t index_at, value_at, bytes;

    Lists(const Op& op, const Value& x) {
        const int64_t numbers = x.width * x.channels;
        index_at = (4 * (op.at[13] + 1) + 63) / 64 * 64;
        value_at = index_at + (2 * numbers + 127) / 64 * 64;
        bytes = value_at + (numbers + 127) / 64 * 64;
    }
};

// Where an output lies in a row of weights: kernels take 4 channels a lane of 16 bytes at a time.
static int64_t place_of(int64_t output, int64_t lanes) {
    const int64_t quads = lanes / 16, o = output % lanes;
    return quads < 2 ? output : output - o + o / 4 % quads * 16 + o / (4 * quads) * 4 + o % 4;
}

bool prepare_gather(const Program& p, Op& op) {
    const Value& x = p.values[op.in[0]];
    const int64_t kh = op.at[1], kw = op.at[2], hp = op.at[12], wp = op.at[13], outputs = op.at[14], inputs = op.at[15];
    const int64_t depth = kh * kw * inputs, lanes = p.kernels->gather_lanes;
    if (!p.kernels->gather || !p.kernels->list || op.at[0] != 1 || (x.dtype != DTYPE_I8 && x.dtype != DTYPE_U8)) return false;
    if (op.at[18] || depth >= 1 << 16 || wp * inputs > 1 << 16 || op.at[11] + x.capacity * hp * Lists(op, x).bytes > p.arena_bytes)
        return false;
    const int64_t stride = (outputs + lanes - 1) / lanes * lanes;
    op.packed.assign(size_t((depth + 1) * stride), p.kernels->gather_flip);  // the last row is 0
    const std::vector<int32_t>& weight = op.tables[0];
    for (int64_t o = 0; o < outputs; ++o)
        for (int64_t d = 0; d < depth; ++d) {
            const int32_t w = weight[size_t((o * inputs + d % inputs) * kh * kw + d / inputs)];
            if (w < -128 || w > 127) return false;
            op.packed[size_t(d * stride + place_of(o, lanes))] = static_cast<unsigned char>(w) ^ p.kernels->gather_flip;
        }
    op.at.resize(21);
    op.at.push_back(stride);
    op.at.push_back(depth);
    return true;
}

void gather_row(const Sample& s, const Op& op, int64_t step, int64_t row) {
    const Value& x = s.p->values[op.in[0]];
    const Lists lists(op, x);
    const int64_t wp = op.at[13], from = row - op.at[5], before = std::min(op.at[6], wp);
    unsigned char* to = s.arena + op.at[11] + (step * op.at[12] + row) * lists.bytes;
    int32_t* starts = reinterpret_cast<int32_t*>(to);
    uint16_t* index = reinterpret_cast<uint16_t*>(to + lists.index_at);
    unsigned char* value = to + lists.value_at;
    const int64_t inside = from < 0 || from >= x.height ? 0 : std::max<int64_t>(0, std::min(x.width, wp - before));
    const unsigned char* source = s.at(op.in[0], step) + from * x.width * x.channels;
    int n = 0;
    for (int64_t place = 0; place < wp; ++place) {
        starts[place] = n;
        const int64_t at = place - before;
        if (at >= 0 && at < inside)
            n += s.p->kernels->list(source + at * x.channels, x.channels, place * x.channels, index + n, value + n);
    }
    starts[wp] = n;
    for (int i = 0; i < 4; ++i) index[n + i] = uint16_t(op.at[22]);  // sums take 4 events together
    std::memset(value + n, 0, 4);
}

void run_gather(const Sample& s, const Op& op, const Tile& tile, int32_t* out) {
    const Value& x = s.p->values[op.in[0]];
    const Lists lists(op, x);
    GatherArgs a;
    a.linear = s.group->places == 1 && op.at[12] == 1 && op.at[13] == 1;
    a.row_bytes = lists.bytes;
    a.index_at = lists.index_at;
    a.value_at = lists.value_at;
    a.kernel_y = int(op.at[1]);
    a.kernel_x = int(op.at[2]);
    a.stride_y = op.at[3];
    a.stride_x = op.at[4];
    a.dilation_y = op.at[7];
    a.dilation_x = op.at[8];
    a.channels = x.channels;
    a.width = op.at[16];
    a.place = tile.place;
    a.places = tile.places;
    a.stride = op.at[21];
    a.weight = op.packed.data() + tile.channel;
    a.bias = op.bias.data() + tile.channel;
    a.outputs = int(tile.channels);
    a.is_unsigned = x.dtype == DTYPE_U8;
    a.most = int(op.at[17]);
    a.zero = uint16_t(op.at[22]);
    a.out_width = tile.channels;
    for (int64_t t = 0; t < s.physical(op); ++t) {
        a.lists = s.arena + op.at[11] + t * op.at[12] * lists.bytes;
        a.out = out + t * tile.size();
        s.p->kernels->gather(a);
    }
}

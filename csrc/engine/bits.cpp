// Convolutions over planes of bits: weights and operands.

#include "bits.h"

#include <cstring>
#include <numeric>

namespace {

// Levels that occur, in order; no more than 5.
std::vector<int64_t> levels_of(const std::vector<int32_t>& weight) {
    std::vector<int64_t> levels;
    for (int32_t w : weight) {
        if (std::find(levels.begin(), levels.end(), w) != levels.end()) continue;
        levels.push_back(w);
        if (levels.size() > 4) break;
    }
    std::sort(levels.begin(), levels.end());
    return levels;
}

// How the levels are written in planes; false where they are not. `forms.py` chooses by the same rules.
bool set_weights(BitForm& f, const std::vector<int64_t>& levels, bool ternary) {
    const int64_t low = levels.front(), high = levels.back();
    if (levels.size() > 4) return false;
    if (levels.size() <= 2) {
        f.weight_planes = 1;
        if (ternary && low == -high) {
            f.kind = BIT_SIGNS;
            f.base = int32_t(high);
            f.unit = int32_t(uint32_t(-2 * high));
        } else {
            f.kind = BIT_PLANES;
            f.base = int32_t(high == 0 ? high : low);
            f.unit = int32_t(uint32_t(high == 0 ? low : high - low));
        }
        return true;
    }
    f.weight_planes = 2;
    if (levels.size() == 3 && low == -high && levels[1] == 0) {
        f.kind = ternary ? BIT_BOTH : BIT_TERNARY;
        f.base = 0;
        f.unit = int32_t(high);
        return true;
    }
    int64_t unit = 0;
    for (int64_t level : levels) unit = std::gcd(unit, level - low);
    if (high - low > 3 * unit) return false;
    f.kind = BIT_PLANES;
    f.base = int32_t(low);
    f.unit = int32_t(uint32_t(unit));
    return true;
}

// Bits of a weight, plane by plane.
unsigned bits_of(const BitForm& f, int64_t weight) {
    switch (f.kind) {
    case BIT_SIGNS: return weight != f.base;
    case BIT_TERNARY: return weight == 0 ? 0 : weight == f.unit ? 1 : 2;
    case BIT_BOTH: return weight == 0 ? 0 : weight == f.unit ? 1 : 3;
    default:
        if (f.weight_planes == 1) return weight != f.base;
        return unsigned((weight - f.base) / int64_t(uint32_t(f.unit)));
    }
}

// Pixels [at, at + n) of a step of the operand, from numbers of the input, or zeros where that is null.
void put(const Sample& s, const Op& op, int64_t step, int64_t at, int64_t n, const unsigned char* from) {
    if (n <= 0) return;
    const Value& x = s.p->values[size_t(op.in[0])];
    const BitForm& f = op.bits;
    const int64_t pixels = op.at[12] * op.at[13], pixel = bits_pixel(x.channels), groups = op.at[0];
    int32_t* sums = reinterpret_cast<int32_t*>(s.arena + op.at[11]) + step * groups * pixels + at;
    unsigned char* to = s.arena + op.at[11] + sums_bytes(op, x) + step * f.planes * f.plane + at * pixel;
    if (!from) {
        for (int p = 0; p < f.planes; ++p) std::memset(to + p * f.plane, 0, size_t(n * pixel));
        for (int64_t g = 0; g < groups; ++g) std::memset(sums + g * pixels, 0, size_t(n) * 4);
        return;
    }
    const bool whole = x.channels % 8 == 0;  // whole bytes: like one long pixel
    s.p->kernels->bits(to, from, x.dtype, whole ? 1 : n, whole ? n * x.channels : x.channels, f.planes, f.plane);
    if (!f.base) return;
    const int64_t bytes = groups > 1 ? op.at[15] / 8 : pixel;
    for (int64_t g = 0; g < groups; ++g) s.p->kernels->bit_sums(sums + g * pixels, to + g * bytes, n, pixel, bytes, f);
}

}  // namespace

bool prepare_bits(const Program& p, Op& op, int64_t taps, int64_t pixel,
                  const std::function<int32_t(int64_t, int64_t)>& weight) {
    BitForm& f = op.bits;
    const int64_t groups = op.at[0], outputs = op.at[14], inputs = op.at[15], planes = op.at[19], lowest = op.at[20];
    if (planes < 1 || planes > 8 || lowest < -128 || lowest > 0 || (groups > 1 && inputs % 8)) return false;
    f.planes = int(planes);
    f.is_signed = lowest < 0;
    for (int64_t y = 0; y < op.at[1]; ++y)
        for (int64_t k = 0; k < op.at[2]; ++k) f.taps.push_back(y * op.at[7] * op.at[13] + k * op.at[8]);
    f.plane = op.at[12] * op.at[13] * pixel;
    if (!set_weights(f, levels_of(op.tables[0]), lowest == -1 && planes == 2)) return false;
    const int64_t lanes = p.kernels->lanes, per = outputs / groups, blocks = (per + lanes - 1) / lanes;
    const int64_t nseg = int64_t(op.segments.size()), q = f.weight_planes;
    const int64_t length = taps > 1 ? taps * pixel : (inputs + 7) / 8, words = (length + 3) / 4;
    op.packed.assign(size_t(groups * blocks * nseg * words * q * lanes * 4), 0);
    for (int64_t o = 0; o < outputs; ++o) {
        const int64_t block = o / per * blocks + o % per / lanes, lane = o % per % lanes;
        for (int64_t s = 0; s < nseg; ++s)
            for (int64_t i = 0; i < taps * inputs; ++i) {
                const unsigned bits = bits_of(f, weight(o, s * taps * inputs + i));
                const int64_t bit = i / inputs * pixel * 8 + i % inputs, byte = bit / 8;
                for (int64_t plane = 0; plane < q; ++plane) {
                    const int64_t word = ((block * nseg + s) * words + byte / 4) * q + plane;
                    unsigned char& to = op.packed[size_t((word * lanes + lane) * 4 + byte % 4)];
                    to = static_cast<unsigned char>(to | (bits >> plane & 1) << bit % 8);
                }
            }
    }
    op.at.push_back(length);
    op.at.push_back(words * q);
    return true;
}

void bits_row(const Sample& s, const Op& op, int64_t step, int64_t row) {
    const Value& x = s.p->values[size_t(op.in[0])];
    const int64_t wp = op.at[13], from = row - op.at[5], before = std::min(op.at[6], wp);
    const int64_t inside = from < 0 || from >= x.height ? 0 : std::min(x.width, wp - before);
    const int64_t at = row * wp, first = inside ? before : 0;
    put(s, op, step, at, first, nullptr);
    put(s, op, step, at + first, inside, s.at(op.in[0], step) + from * x.width * x.channels * dtype_bytes(x.dtype));
    put(s, op, step, at + first + inside, wp - first - inside, nullptr);
}

void feed_bits(const Sample& s, const Op& op, const Tile& tile) {
    const Value& v = s.p->values[size_t(op.in[0])];
    const int64_t hp = op.at[12], wp = op.at[13], above = op.at[5], before = std::min(op.at[6], wp);
    const int64_t inside = std::min(v.width, wp - before), pixel = v.channels * dtype_bytes(v.dtype);
    for (int64_t t = 0; t < s.value_physical(op.in[0]); ++t) {
        const unsigned char* from = s.at(op.in[0], t);
        if (tile.place == 0) put(s, op, t, 0, std::min(above, hp) * wp, nullptr);
        for (int64_t place = tile.place, end; place < tile.place + tile.places; place = end) {
            const int64_t y = place / v.width, x = place % v.width, row = (y + above) * wp;
            end = std::min(tile.place + tile.places, (y + 1) * v.width);
            if (y + above >= hp) continue;
            if (x == 0) put(s, op, t, row, before, nullptr);
            put(s, op, t, row + before + x, std::min(end - place, inside - x), from + place * pixel);
            if (end == (y + 1) * v.width) put(s, op, t, row + before + inside, wp - before - inside, nullptr);
        }
        const int64_t below = v.height + above;
        if (tile.place + tile.places == v.places) put(s, op, t, below * wp, (hp - below) * wp, nullptr);
    }
}

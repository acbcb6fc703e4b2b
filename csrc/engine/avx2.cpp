// AVX2: bytes by vpmaddubsw where a proof says that two products fit 16 bits, words by vpmaddwd; neurons and scalings 8
// numbers at a time.

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "bits.h"
#include "kernels.h"
#include "program.h"

namespace {
constexpr int WIDTH = 8;  // outputs of a block, numbers of a vector

namespace plain {
#include "generic.inc"
}  // namespace plain

// The first n of 8 lanes.
inline __m256i first_lanes(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline __m256i load(const int32_t* x, __m256i some) { return _mm256_maskload_epi32(x, some); }
inline __m256i load(const void* x) { return _mm256_loadu_si256(static_cast<const __m256i*>(x)); }
inline void store(int32_t* y, __m256i some, __m256i x) { _mm256_maskstore_epi32(y, some, x); }
inline __m256i select(__m256i no, __m256i yes, __m256i where) { return _mm256_blendv_epi8(no, yes, where); }
inline unsigned bits(__m256i lanes) { return unsigned(_mm256_movemask_ps(_mm256_castsi256_ps(lanes))); }
inline __m256i none() { return _mm256_setzero_si256(); }

// ---- convolutions -----------------------------------------------------------------------------------------------

// Words: vpmaddwd. Its one overflow, 2·(−2^15)², is right modulo 2^32. Bytes: vpmaddubsw, then its sums of two products
// are added in 16 bits as long as they fit, or widened at once.
enum Dot { WORDS, BYTES, LONG_BYTES };

constexpr int LEAST_PAIRS = 4;  // fewer sums in 16 bits save nothing

template <Dot DOT, int OB, int PX>
void block(const ConvArgs& a, const unsigned char* x, const unsigned char* w, const int32_t* bias, int32_t* out,
           __m256i last) {
    constexpr int ELEMENT = DOT == WORDS ? 2 : 1;
    const int64_t step = a.step * ELEMENT, whole = a.whole;
    const int64_t stride = a.nsegments * whole * WIDTH * 4;  // from one block of outputs to the next
    const __m256i all = first_lanes(WIDTH), ones = _mm256_set1_epi16(1);
    __m256i sum[PX][OB];
    for (int o = 0; o < OB; ++o) {
        const __m256i b = load(bias + o * WIDTH, o == OB - 1 ? last : all);
        for (int p = 0; p < PX; ++p) sum[p][o] = b;
    }
    auto row = [&](int p, int64_t d, const unsigned char* from) {
        int32_t four;
        std::memcpy(&four, from + d * 4 + p * step, 4);
        return _mm256_set1_epi32(four);
    };
    for (int s = 0; s < a.nsegments; ++s, w += whole * WIDTH * 4) {
        const unsigned char* from = x + int64_t(a.segments[s]) * ELEMENT;
        if (DOT == LONG_BYTES) {
            for (int64_t begin = 0, end; begin < whole; begin = end) {
                end = std::min<int64_t>(whole, begin + a.pairs);
                __m256i part[PX][OB];
                for (int p = 0; p < PX; ++p)
                    for (int o = 0; o < OB; ++o) part[p][o] = none();
                for (int64_t d = begin; d < end; ++d) {
                    __m256i k[OB];
                    for (int o = 0; o < OB; ++o) k[o] = load(w + d * WIDTH * 4 + o * stride);
                    for (int p = 0; p < PX; ++p) {
                        const __m256i xs = row(p, d, from);
                        for (int o = 0; o < OB; ++o)
                            part[p][o] = _mm256_add_epi16(part[p][o], _mm256_maddubs_epi16(xs, k[o]));
                    }
                }
                for (int p = 0; p < PX; ++p)
                    for (int o = 0; o < OB; ++o)
                        sum[p][o] = _mm256_add_epi32(sum[p][o], _mm256_madd_epi16(part[p][o], ones));
            }
        } else {
            for (int64_t d = 0; d < whole; ++d) {
                __m256i k[OB];
                for (int o = 0; o < OB; ++o) k[o] = load(w + d * WIDTH * 4 + o * stride);
                for (int p = 0; p < PX; ++p) {
                    const __m256i xs = row(p, d, from);
                    for (int o = 0; o < OB; ++o) {
                        const __m256i two = DOT == WORDS ? _mm256_madd_epi16(xs, k[o])
                                                         : _mm256_madd_epi16(_mm256_maddubs_epi16(xs, k[o]), ones);
                        sum[p][o] = _mm256_add_epi32(sum[p][o], two);
                    }
                }
            }
        }
    }
    for (int p = 0; p < PX; ++p)
        for (int o = 0; o < OB; ++o) store(out + p * a.width + o * WIDTH, o == OB - 1 ? last : all, sum[p][o]);
}

typedef void (*BlockFn)(const ConvArgs&, const unsigned char*, const unsigned char*, const int32_t*, int32_t*, __m256i);

constexpr int MOST[] = {0, 8, 4, 3, 2};  // pixels at a time: sums and weights stay within 16 registers

template <Dot DOT, int OB, int... PX>
void rows_of(const ConvArgs& a, const unsigned char* w, const int32_t* bias, int32_t* out, __m256i last,
             std::integer_sequence<int, PX...>) {
    static constexpr BlockFn TABLE[] = {block<DOT, OB, PX + 1>...};
    const int parts = (a.rows + MOST[OB] - 1) / MOST[OB];
    const unsigned char* x = static_cast<const unsigned char*>(a.x);
    for (int i = 0, row = 0; i < parts; ++i) {
        const int count = a.rows / parts + (i < a.rows % parts);
        TABLE[count - 1](a, x + row * a.step * (DOT == WORDS ? 2 : 1), w, bias, out + row * a.width, last);
        row += count;
    }
}

template <Dot DOT>
void conv(const ConvArgs& a) {
    // Few pixels want many outputs at a time, since every weight is read once for all pixels.
    const int most = a.rows <= 2 ? 4 : a.rows == 3 ? 3 : 2;
    const int blocks = (a.outputs + WIDTH - 1) / WIDTH, parts = (blocks + most - 1) / most;
    const int64_t stride = a.nsegments * a.whole * WIDTH * 4;
    const unsigned char* w = static_cast<const unsigned char*>(a.weight);
    for (int i = 0, first = 0; i < parts; ++i) {
        const int count = blocks / parts + (i < blocks % parts);
        const __m256i last = first_lanes(std::min(WIDTH, a.outputs - (first + count - 1) * WIDTH));
        const unsigned char* from = w + first * stride;
        const int32_t* bias = a.bias + first * WIDTH;
        int32_t* out = a.out + first * WIDTH;
        switch (count) {
        case 1: rows_of<DOT, 1>(a, from, bias, out, last, std::make_integer_sequence<int, MOST[1]>()); break;
        case 2: rows_of<DOT, 2>(a, from, bias, out, last, std::make_integer_sequence<int, MOST[2]>()); break;
        case 3: rows_of<DOT, 3>(a, from, bias, out, last, std::make_integer_sequence<int, MOST[3]>()); break;
        default: rows_of<DOT, 4>(a, from, bias, out, last, std::make_integer_sequence<int, MOST[4]>());
        }
        first += count;
    }
}

void conv_bytes(const ConvArgs& a) {
    return a.pairs >= LEAST_PAIRS ? conv<LONG_BYTES>(a) : conv<BYTES>(a);
}

// ---- event-driven sums ------------------------------------------------------------------------------------------

#include "gather.inc"
#include "gather_avx2.inc"

// ---- scalings ---------------------------------------------------------------------------------------------------

inline __m256i joined(__m256i even, __m256i odd) { return _mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA); }
inline __m256i odds(__m256i x) { return _mm256_srli_epi64(x, 32); }

// AVX2 shifts 64 bits without a sign only: numbers are moved by 2^63 there and back.
struct Shift {
    __m128i by;
    __m256i sign, back;
    explicit Shift(int shift)
        : by(_mm_cvtsi32_si128(shift)), sign(_mm256_set1_epi64x(INT64_MIN)), back(_mm256_srl_epi64(sign, by)) {}
    __m256i operator()(__m256i x) const {
        return _mm256_sub_epi64(_mm256_srl_epi64(_mm256_xor_si256(x, sign), by), back);
    }
};

inline __m256i widened(__m128i x) { return _mm256_cvtepi32_epi64(x); }

// Clamps 64-bit numbers; outside: all ones where one was.
inline __m256i clamp(__m256i z, __m256i low, __m256i high, __m256i& outside) {
    const __m256i under = _mm256_cmpgt_epi64(low, z), over = _mm256_cmpgt_epi64(z, high);
    outside = _mm256_or_si256(under, over);
    return select(select(z, low, under), high, over);
}

template <bool NARROW, bool BIAS, bool CLAMPS>
int64_t rescale_of(int32_t* y, const int32_t* x, int64_t rows, int channels, const RescaleArgs& a) {
    const Shift shift(a.shift);
    const int64_t half = a.shift ? int64_t(1) << (a.shift - 1) : 0;
    const __m256i half32 = _mm256_set1_epi32(int32_t(half)), half64 = _mm256_set1_epi64x(half);
    const __m256i low32 = _mm256_set1_epi32(a.low), high32 = _mm256_set1_epi32(a.high);
    const __m256i low64 = _mm256_set1_epi64x(a.low), high64 = _mm256_set1_epi64x(a.high);
    int64_t clamped = 0;
    for (int64_t r = 0; r < rows; ++r, x += channels, y += channels) {
        for (int c = 0; c < channels; c += WIDTH) {
            const __m256i some = first_lanes(channels - c), n = load(x + c, some), m = load(a.m + c, some);
            const __m256i b = BIAS ? load(a.b + c, some) : none();
            __m256i z, outside;
            if (NARROW) {
                z = _mm256_sra_epi32(_mm256_add_epi32(_mm256_mullo_epi32(n, m), half32), shift.by);
                if (BIAS) z = _mm256_add_epi32(z, b);
                if (CLAMPS) {
                    const __m256i k = _mm256_min_epi32(_mm256_max_epi32(z, low32), high32);
                    outside = _mm256_andnot_si256(_mm256_cmpeq_epi32(k, z), some);
                    z = k;
                }
            } else {
                __m256i even = shift(_mm256_add_epi64(_mm256_mul_epi32(n, m), half64));
                __m256i odd = shift(_mm256_add_epi64(_mm256_mul_epi32(odds(n), odds(m)), half64));
                if (BIAS) {
                    const __m256i order = _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7);
                    const __m256i sorted = _mm256_permutevar8x32_epi32(b, order);
                    even = _mm256_add_epi64(even, widened(_mm256_castsi256_si128(sorted)));
                    odd = _mm256_add_epi64(odd, widened(_mm256_extracti128_si256(sorted, 1)));
                }
                if (CLAMPS) {
                    __m256i evens, odds_out;
                    even = clamp(even, low64, high64, evens);
                    odd = clamp(odd, low64, high64, odds_out);
                    // Lanes that were not loaded hold 0: they may be clamped, too, so only the others are counted.
                    outside = _mm256_and_si256(joined(evens, odds_out), some);
                }
                z = joined(even, odd);
            }
            if (CLAMPS) clamped += __builtin_popcount(bits(outside));
            store(y + c, some, z);
        }
    }
    return clamped;
}

int64_t rescale(int32_t* y, const int32_t* x, int64_t rows, int channels, const RescaleArgs& a) {
    static constexpr RescaleFn TABLE[] = {
        rescale_of<false, false, false>, rescale_of<false, false, true>, rescale_of<false, true, false>,
        rescale_of<false, true, true>,   rescale_of<true, false, false>, rescale_of<true, false, true>,
        rescale_of<true, true, false>,   rescale_of<true, true, true>};
    return TABLE[4 * a.narrow + 2 * (a.b != nullptr) + a.clamps](y, x, rows, channels, a);
}

// ---- neurons ----------------------------------------------------------------------------------------------------

inline __m256i bound_of(__m256i sign) {  // INT32_MIN where negative, else INT32_MAX
    return _mm256_xor_si256(_mm256_srai_epi32(sign, 31), _mm256_set1_epi32(INT32_MAX));
}

// `over` is negative in lanes where a sum of `a` and something of its direction has left 32 bits; those of `some` are
// counted and clamped.
inline __m256i saturated(__m256i sum, __m256i a, __m256i over, __m256i some, int64_t& clamped) {
    const __m256i out = _mm256_and_si256(_mm256_srai_epi32(over, 31), some);
    const unsigned lanes = bits(out);
    if (__builtin_expect(lanes, 0)) {
        clamped += __builtin_popcount(lanes);
        return select(sum, bound_of(a), out);
    }
    return sum;
}

inline __m256i sat_add(__m256i a, __m256i b, __m256i some, int64_t& clamped) {
    const __m256i sum = _mm256_add_epi32(a, b);  // overflow: a and b have one sign, the sum another
    const __m256i over = _mm256_andnot_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(a, sum));
    return saturated(sum, a, over, some, clamped);
}

inline __m256i sat_sub(__m256i a, __m256i b, __m256i some, int64_t& clamped) {
    const __m256i rest = _mm256_sub_epi32(a, b);
    const __m256i over = _mm256_and_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(a, rest));
    return saturated(rest, a, over, some, clamped);
}

enum Decay { STAYS, GONE, SHIFTED, SCALED };

template <Decay DECAY>
inline __m256i decayed(__m256i v, const FireArgs& a, const Shift& shift) {
    if (DECAY == STAYS) return v;
    if (DECAY == GONE) return none();
    if (DECAY == SHIFTED) {  // (v + half) >> s without the sum that could overflow
        const __m256i carry =
            _mm256_and_si256(_mm256_sra_epi32(v, _mm_cvtsi32_si128(a.decay_shift - 1)), _mm256_set1_epi32(1));
        return _mm256_add_epi32(_mm256_sra_epi32(v, shift.by), carry);
    }
    const __m256i half = _mm256_set1_epi64x(a.decay_shift ? int64_t(1) << (a.decay_shift - 1) : 0);
    const __m256i m = _mm256_set1_epi32(a.decay);
    return joined(shift(_mm256_add_epi64(_mm256_mul_epi32(v, m), half)),
                  shift(_mm256_add_epi64(_mm256_mul_epi32(odds(v), m), half)));
}

inline __m256i at_least(__m256i a, __m256i b) { return _mm256_cmpeq_epi32(_mm256_max_epi32(a, b), a); }
inline __m256i at_least_unsigned(__m256i a, __m256i b) { return _mm256_cmpeq_epi32(_mm256_max_epu32(a, b), a); }

template <Decay DECAY, bool SIGNED, bool HARD, bool PLAIN>
int64_t fire_of(int32_t* s, int32_t* u_out, const int32_t* x, int32_t* v, int32_t* sent, int64_t rows, int channels,
                const FireArgs& a) {
    const __m256i one = _mm256_set1_epi32(1), top = _mm256_set1_epi32(a.count - 1);
    const __m128i spacing = _mm_cvtsi32_si128(a.spacing_shift < 0 ? 0 : a.spacing_shift);
    const Shift shift(a.decay_shift);
    int64_t clamped = 0;
    for (int64_t r = 0; r < rows; ++r) {
        for (int c = 0; c < channels; c += WIDTH) {
            const __m256i some = first_lanes(channels - c);
            const int64_t i = r * channels + c;
            const __m256i left = decayed<DECAY>(load(v + i, some), a, shift);
            __m256i u = sat_add(left, load(x + i, some), some, clamped);
            if (!PLAIN && a.floor) u = _mm256_max_epi32(u, load(a.floor + c, some));
            const __m256i first = load(a.first + c, some), negative = _mm256_srai_epi32(u, 31);
            const __m256i n = SIGNED ? _mm256_abs_epi32(u) : u;  // of INT32_MIN: 2^31, read without a sign
            const __m256i reached = _mm256_and_si256(SIGNED ? at_least_unsigned(n, first) : at_least(n, first), some);
            __m256i k;
            if (PLAIN || a.count == 1) {
                k = _mm256_and_si256(reached, one);
            } else {
                const __m256i q = _mm256_srl_epi32(_mm256_sub_epi32(n, first), spacing);
                k = _mm256_and_si256(reached, _mm256_add_epi32(_mm256_min_epu32(q, top), one));
            }
            __m256i fired = reached;
            if (!PLAIN && a.gate) {  // such neurons have no sign
                fired = _mm256_and_si256(at_least(u, load(a.gate + c, some)), some);
                k = _mm256_and_si256(fired, k);
            }
            if (SIGNED) k = _mm256_sub_epi32(_mm256_xor_si256(k, negative), negative);
            if (!PLAIN && a.cancel) {
                const __m256i before = load(sent + i, some);
                k = _mm256_max_epi32(k, _mm256_sub_epi32(none(), before));
                store(sent + i, some, sat_add(before, k, some, clamped));
                fired = _mm256_andnot_si256(_mm256_cmpeq_epi32(k, none()), some);
            }
            if (u_out) store(u_out + i, some, u);
            if (HARD) {
                u = _mm256_andnot_si256(fired, u);
            } else {
                const __m256i charge = load(a.charge + c, some);
                if (PLAIN && !SIGNED) {
                    u = sat_sub(u, _mm256_and_si256(charge, fired), some, clamped);
                } else {
                    u = sat_sub(u, _mm256_mullo_epi32(charge, k), some, clamped);
                }
            }
            store(v + i, some, u);
            if (!PLAIN) {
                const __m256i up = _mm256_set1_epi32(a.up), down = _mm256_set1_epi32(a.down);
                k = _mm256_mullo_epi32(k, select(up, down, _mm256_srai_epi32(k, 31)));
            }
            store(s + i, some, k);
        }
    }
    return clamped;
}

template <Decay DECAY>
FireFn fire_with(const FireArgs& a, bool simple) {
    static constexpr FireFn TABLE[] = {
        fire_of<DECAY, false, false, false>, fire_of<DECAY, false, false, true>, fire_of<DECAY, false, true, false>,
        fire_of<DECAY, false, true, true>,   fire_of<DECAY, true, false, false>, fire_of<DECAY, true, false, true>,
        fire_of<DECAY, true, true, false>,   fire_of<DECAY, true, true, true>};
    return TABLE[4 * a.is_signed + 2 * a.hard + simple];
}

int64_t fire(int32_t* s, int32_t* u_out, const int32_t* x, int32_t* v, int32_t* sent, int64_t rows, int channels,
             const FireArgs& a) {
    if ((a.count > 1 && a.spacing_shift < 0) || (!a.hard && !a.narrow))
        return plain::fire(s, u_out, x, v, sent, rows, channels, a);
    const bool simple = a.count == 1 && !a.floor && !a.gate && !a.cancel && a.up == 1 && a.down == 1;
    const int64_t unit = int64_t(1) << a.decay_shift;
    const FireFn function = a.decay == unit   ? fire_with<STAYS>(a, simple)
                            : a.decay == 0    ? fire_with<GONE>(a, simple)
                            : a.decay == 1    ? fire_with<SHIFTED>(a, simple)
                                              : fire_with<SCALED>(a, simple);
    return function(s, u_out, x, v, sent, rows, channels, a);
}

namespace spikes {
#include "spikes_avx2.inc"
#include "spikes.inc"
}  // namespace spikes

}  // namespace

const Kernels AVX2_KERNELS = {
    rescale,
    plain::rescale_wide,
    fire,
    plain::add,
    plain::sum,
    plain::maximum,
    plain::load,
    plain::store,
    {plain::operand<int32_t>, plain::operand<uint8_t>, plain::operand<int16_t>, plain::operand<int32_t>,
     plain::operand<int32_t>, nullptr},
    {plain::conv_i32, conv_bytes, conv<WORDS>, plain::conv_wide, nullptr, conv_bits_avx2},
    plain::depthwise,
    spikes::spike,
    plain::quantize,
    false,
    WIDTH,
    true,
    pack_bits_avx2,
    plain::bit_sums,
    list_events<NotZero>,
    gather<Sum>,
    32,
    0x80,
};

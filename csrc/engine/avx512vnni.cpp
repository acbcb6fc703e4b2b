// AVX-512 with VNNI: dot products of 4 bytes or 2 words a lane; neurons and scalings 16 numbers at a time.

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "bits.h"
#include "kernels.h"
#include "program.h"

namespace {
namespace plain {
#include "generic.inc"
}  // namespace plain

// ---- convolutions -----------------------------------------------------------------------------------------------

template <bool WORDS>
inline __m512i dot(__m512i sum, __m512i x, __m512i w) {
    return WORDS ? _mm512_dpwssd_epi32(sum, x, w) : _mm512_dpbusd_epi32(sum, x, w);
}

// PX pixels × OB blocks of 16 outputs, in registers over the whole depth. Sums wrap modulo 2^32, which is exact.
template <bool WORDS, int OB, int PX>
void block(const ConvArgs& a, const unsigned char* x, const unsigned char* w, const int32_t* bias, int32_t* out,
           __mmask16 last) {
    constexpr int ELEMENT = WORDS ? 2 : 1;
    const int64_t step = a.step * ELEMENT, whole = a.whole;
    const int64_t stride = a.nsegments * whole * LANES * 4;  // from one block of outputs to the next
    __m512i sum[PX][OB];
    for (int o = 0; o < OB; ++o) {
        const __m512i b = _mm512_maskz_loadu_epi32(o == OB - 1 ? last : __mmask16(0xffff), bias + o * LANES);
        for (int p = 0; p < PX; ++p) sum[p][o] = b;
    }
    for (int s = 0; s < a.nsegments; ++s) {
        const unsigned char* from = x + int64_t(a.segments[s]) * ELEMENT;
        for (int64_t d = 0; d < whole; ++d, w += LANES * 4, from += 4) {
            __m512i k[OB];
            for (int o = 0; o < OB; ++o) k[o] = _mm512_loadu_si512(w + o * stride);
            for (int p = 0; p < PX; ++p) {
                int32_t four;
                std::memcpy(&four, from + p * step, 4);
                const __m512i xs = _mm512_set1_epi32(four);
                for (int o = 0; o < OB; ++o) sum[p][o] = dot<WORDS>(sum[p][o], xs, k[o]);
            }
        }
    }
    for (int p = 0; p < PX; ++p)
        for (int o = 0; o < OB; ++o)
            _mm512_mask_storeu_epi32(out + p * a.width + o * LANES, o == OB - 1 ? last : __mmask16(0xffff), sum[p][o]);
}

typedef void (*BlockFn)(const ConvArgs&, const unsigned char*, const unsigned char*, const int32_t*, int32_t*, __mmask16);

constexpr int MOST[] = {0, 12, 12, 8, 6};  // pixels at a time: accumulators stay within 24 registers

template <bool WORDS, int OB, int... PX>
void rows_of(const ConvArgs& a, const unsigned char* w, const int32_t* bias, int32_t* out, __mmask16 last,
             std::integer_sequence<int, PX...>) {
    static constexpr BlockFn TABLE[] = {block<WORDS, OB, PX + 1>...};
    const int parts = (a.rows + MOST[OB] - 1) / MOST[OB];
    const unsigned char* x = static_cast<const unsigned char*>(a.x);
    for (int i = 0, row = 0; i < parts; ++i) {
        const int count = a.rows / parts + (i < a.rows % parts);
        TABLE[count - 1](a, x + row * a.step * (WORDS ? 2 : 1), w, bias, out + row * a.width, last);
        row += count;
    }
}

template <bool WORDS>
void conv(const ConvArgs& a) {
    const int blocks = (a.outputs + LANES - 1) / LANES, parts = (blocks + 3) / 4;
    const int64_t stride = a.nsegments * a.whole * LANES * 4;
    const unsigned char* w = static_cast<const unsigned char*>(a.weight);
    for (int i = 0, first = 0; i < parts; ++i) {
        const int count = blocks / parts + (i < blocks % parts);
        const bool end = i == parts - 1;
        const int rest = a.outputs - (first + count - 1) * LANES;
        const __mmask16 last = end && rest < LANES ? __mmask16((1 << rest) - 1) : __mmask16(0xffff);
        const unsigned char* from = w + first * stride;
        const int32_t* bias = a.bias + first * LANES;
        int32_t* out = a.out + first * LANES;
        switch (count) {
        case 1: rows_of<WORDS, 1>(a, from, bias, out, last, std::make_integer_sequence<int, MOST[1]>()); break;
        case 2: rows_of<WORDS, 2>(a, from, bias, out, last, std::make_integer_sequence<int, MOST[2]>()); break;
        case 3: rows_of<WORDS, 3>(a, from, bias, out, last, std::make_integer_sequence<int, MOST[3]>()); break;
        default: rows_of<WORDS, 4>(a, from, bias, out, last, std::make_integer_sequence<int, MOST[4]>());
        }
        first += count;
    }
}

// ---- event-driven sums ------------------------------------------------------------------------------------------

#include "gather.inc"
#include "gather_avx512.inc"

// ---- scalings ---------------------------------------------------------------------------------------------------

inline __m512i low_half(__m512i x) { return _mm512_srai_epi64(_mm512_slli_epi64(x, 32), 32); }
inline __m512i high_half(__m512i x) { return _mm512_srai_epi64(x, 32); }
inline __m512i joined(__m512i even, __m512i odd) {
    return _mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
}

template <bool NARROW, bool BIAS, bool CLAMPS>
int64_t rescale_of(int32_t* y, const int32_t* x, int64_t rows, int channels, const RescaleArgs& a) {
    const __m128i shift = _mm_cvtsi32_si128(a.shift);
    const int64_t half = a.shift ? int64_t(1) << (a.shift - 1) : 0;
    const __m512i half32 = _mm512_set1_epi32(int32_t(half)), half64 = _mm512_set1_epi64(half);
    const __m512i low32 = _mm512_set1_epi32(a.low), high32 = _mm512_set1_epi32(a.high);
    const __m512i low64 = _mm512_set1_epi64(a.low), high64 = _mm512_set1_epi64(a.high);
    int64_t clamped = 0;
    for (int64_t r = 0; r < rows; ++r, x += channels, y += channels) {
        for (int c = 0; c < channels; c += LANES) {
            const __mmask16 some = channels - c < LANES ? __mmask16((1 << (channels - c)) - 1) : __mmask16(0xffff);
            const __m512i n = _mm512_maskz_loadu_epi32(some, x + c), m = _mm512_maskz_loadu_epi32(some, a.m + c);
            const __m512i b = BIAS ? _mm512_maskz_loadu_epi32(some, a.b + c) : _mm512_setzero_si512();
            __m512i z;
            if (NARROW) {
                z = _mm512_sra_epi32(_mm512_add_epi32(_mm512_mullo_epi32(n, m), half32), shift);
                if (BIAS) z = _mm512_add_epi32(z, b);
                if (CLAMPS) {
                    const __m512i k = _mm512_min_epi32(_mm512_max_epi32(z, low32), high32);
                    clamped += __builtin_popcount(_mm512_mask_cmpneq_epi32_mask(some, k, z));
                    z = k;
                }
            } else {
                __m512i even = _mm512_mul_epi32(n, m);
                __m512i odd = _mm512_mul_epi32(_mm512_srli_epi64(n, 32), _mm512_srli_epi64(m, 32));
                even = _mm512_sra_epi64(_mm512_add_epi64(even, half64), shift);
                odd = _mm512_sra_epi64(_mm512_add_epi64(odd, half64), shift);
                if (BIAS) {
                    even = _mm512_add_epi64(even, low_half(b));
                    odd = _mm512_add_epi64(odd, high_half(b));
                }
                if (CLAMPS) {
                    const __m512i e = _mm512_min_epi64(_mm512_max_epi64(even, low64), high64);
                    const __m512i o = _mm512_min_epi64(_mm512_max_epi64(odd, low64), high64);
                    // Lanes that were not loaded hold 0: they may be clamped, too, so only the others are counted.
                    const unsigned evens = _mm512_cmpneq_epi64_mask(e, even), odds = _mm512_cmpneq_epi64_mask(o, odd);
                    if (evens | odds) {
                        for (int i = 0; i < 8; ++i) {
                            clamped += (evens >> i & 1) & (some >> (2 * i) & 1);
                            clamped += (odds >> i & 1) & (some >> (2 * i + 1) & 1);
                        }
                    }
                    even = e;
                    odd = o;
                }
                z = joined(even, odd);
            }
            _mm512_mask_storeu_epi32(y + c, some, z);
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

inline __m512i bound_of(__m512i sign) {  // INT32_MIN where negative, else INT32_MAX
    return _mm512_xor_si512(_mm512_srai_epi32(sign, 31), _mm512_set1_epi32(INT32_MAX));
}

// `over` is negative in lanes where a sum of `a` and something of its direction has left 32 bits; those of `some` are
// counted and clamped.
inline __m512i saturated(__m512i sum, __m512i a, __m512i over, __mmask16 some, int64_t& clamped) {
    const __mmask16 out = some & _mm512_movepi32_mask(over);
    if (__builtin_expect(out, 0)) {
        clamped += __builtin_popcount(out);
        return _mm512_mask_mov_epi32(sum, out, bound_of(a));
    }
    return sum;
}

inline __m512i sat_add(__m512i a, __m512i b, __mmask16 some, int64_t& clamped) {
    const __m512i sum = _mm512_add_epi32(a, b);  // overflow: a and b have one sign, the sum another
    const __m512i over = _mm512_andnot_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(a, sum));
    return saturated(sum, a, over, some, clamped);
}

inline __m512i sat_sub(__m512i a, __m512i b, __mmask16 some, int64_t& clamped) {
    const __m512i rest = _mm512_sub_epi32(a, b);
    const __m512i over = _mm512_and_si512(_mm512_xor_si512(a, b), _mm512_xor_si512(a, rest));
    return saturated(rest, a, over, some, clamped);
}

enum Decay { STAYS, GONE, SHIFTED, SCALED };

template <Decay DECAY>
inline __m512i decayed(__m512i v, const FireArgs& a) {
    if (DECAY == STAYS) return v;
    if (DECAY == GONE) return _mm512_setzero_si512();
    if (DECAY == SHIFTED) {  // (v + half) >> s without the sum that could overflow
        const __m512i carry = _mm512_and_si512(_mm512_sra_epi32(v, _mm_cvtsi32_si128(a.decay_shift - 1)),
                                               _mm512_set1_epi32(1));
        return _mm512_add_epi32(_mm512_sra_epi32(v, _mm_cvtsi32_si128(a.decay_shift)), carry);
    }
    const __m128i shift = _mm_cvtsi32_si128(a.decay_shift);
    const __m512i half = _mm512_set1_epi64(a.decay_shift ? int64_t(1) << (a.decay_shift - 1) : 0);
    const __m512i m = _mm512_set1_epi32(a.decay);
    const __m512i even = _mm512_sra_epi64(_mm512_add_epi64(_mm512_mul_epi32(v, m), half), shift);
    const __m512i odd = _mm512_sra_epi64(_mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(v, 32), m), half), shift);
    return joined(even, odd);
}

template <Decay DECAY, bool SIGNED, bool HARD, bool PLAIN>
int64_t fire_of(int32_t* s, int32_t* u_out, const int32_t* x, int32_t* v, int32_t* sent, int64_t rows, int channels,
                const FireArgs& a) {
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
    const __m128i spacing = _mm_cvtsi32_si128(a.spacing_shift < 0 ? 0 : a.spacing_shift);
    const __m512i top = _mm512_set1_epi32(a.count - 1);
    int64_t clamped = 0;
    for (int64_t r = 0; r < rows; ++r) {
        for (int c = 0; c < channels; c += LANES) {
            const __mmask16 some = channels - c < LANES ? __mmask16((1 << (channels - c)) - 1) : __mmask16(0xffff);
            const int64_t i = r * channels + c;
            const __m512i left = decayed<DECAY>(_mm512_maskz_loadu_epi32(some, v + i), a);
            __m512i u = sat_add(left, _mm512_maskz_loadu_epi32(some, x + i), some, clamped);
            if (!PLAIN && a.floor) u = _mm512_max_epi32(u, _mm512_maskz_loadu_epi32(some, a.floor + c));
            const __m512i first = _mm512_maskz_loadu_epi32(some, a.first + c);
            const __m512i n = SIGNED ? _mm512_abs_epi32(u) : u;  // of INT32_MIN: 2^31, read without a sign
            const __mmask16 reached = SIGNED ? _mm512_mask_cmpge_epu32_mask(some, n, first)
                                             : _mm512_mask_cmpge_epi32_mask(some, n, first);
            __m512i k;
            if (PLAIN || a.count == 1) {
                k = _mm512_maskz_mov_epi32(reached, one);
            } else {
                const __m512i q = _mm512_srl_epi32(_mm512_sub_epi32(n, first), spacing);
                k = _mm512_maskz_add_epi32(reached, _mm512_min_epu32(q, top), one);
            }
            __mmask16 fired = reached;
            if (!PLAIN && a.gate) {
                fired = _mm512_mask_cmpge_epi32_mask(some, u, _mm512_maskz_loadu_epi32(some, a.gate + c));
                k = _mm512_maskz_mov_epi32(fired, k);
            }
            if (SIGNED) k = _mm512_mask_sub_epi32(k, _mm512_movepi32_mask(u), zero, k);
            if (!PLAIN && a.cancel) {
                const __m512i before = _mm512_maskz_loadu_epi32(some, sent + i);
                k = _mm512_max_epi32(k, _mm512_sub_epi32(zero, before));
                _mm512_mask_storeu_epi32(sent + i, some, sat_add(before, k, some, clamped));
                fired = _mm512_test_epi32_mask(k, k);
            }
            if (u_out) _mm512_mask_storeu_epi32(u_out + i, some, u);
            if (HARD) {
                u = _mm512_mask_mov_epi32(u, fired, zero);
            } else {
                const __m512i charge = _mm512_maskz_loadu_epi32(some, a.charge + c);
                if (PLAIN && !SIGNED) {
                    u = _mm512_mask_mov_epi32(u, fired, sat_sub(u, charge, fired, clamped));
                } else {
                    u = sat_sub(u, _mm512_mullo_epi32(charge, k), some, clamped);
                }
            }
            _mm512_mask_storeu_epi32(v + i, some, u);
            if (!PLAIN) {
                __m512i factor = _mm512_set1_epi32(a.up);
                factor = _mm512_mask_mov_epi32(factor, _mm512_movepi32_mask(k), _mm512_set1_epi32(a.down));
                k = _mm512_mullo_epi32(k, factor);
            }
            _mm512_mask_storeu_epi32(s + i, some, k);
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

#include "avx512spikes.inc"

// ---- real inputs ----------------------------------------------------------------------------------------------------

bool quantize(void* y, const float* x, int dtype, int64_t n, double factor, int32_t low, int32_t high) {
    const __m512d scale = _mm512_set1_pd(factor), least = _mm512_set1_pd(low), most = _mm512_set1_pd(high);
    const __m256i exponent = _mm256_set1_epi32(0x7f800000);
    __mmask8 special = 0;  // infinity and NaN
    for (int64_t i = 0; i < n; i += 8) {
        const __mmask8 some = n - i < 8 ? __mmask8((1 << (n - i)) - 1) : __mmask8(0xff);
        const __m256 given = _mm256_maskz_loadu_ps(some, x + i);
        special |= _mm256_cmpeq_epi32_mask(_mm256_and_si256(_mm256_castps_si256(given), exponent), exponent);
        // As in generic.inc: exact products, then clipped, then rounded; of NaN comes the other operand, an end.
        const __m512d exact = _mm512_mul_pd(_mm512_cvtps_pd(given), scale);
        const __m512d inside = _mm512_min_pd(_mm512_max_pd(exact, least), most);
        const __m256i whole = _mm512_cvttpd_epi32(inside);
        const __m512d rest = _mm512_sub_pd(inside, _mm512_cvtepi32_pd(whole));
        const __m256i k = _mm256_add_epi32(whole, _mm512_cvttpd_epi32(_mm512_add_pd(rest, rest)));
        if (dtype == DTYPE_I8 || dtype == DTYPE_U8) {
            _mm_mask_storeu_epi8(static_cast<int8_t*>(y) + i, some, _mm256_cvtepi32_epi8(k));
        } else if (dtype == DTYPE_I16 || dtype == DTYPE_U16) {
            _mm_mask_storeu_epi16(static_cast<int16_t*>(y) + i, some, _mm256_cvtepi32_epi16(k));
        } else {
            _mm256_mask_storeu_epi32(static_cast<int32_t*>(y) + i, some, k);
        }
    }
    return !special;
}

}  // namespace

const Kernels AVX512VNNI_KERNELS = {
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
    {plain::conv_i32, conv<false>, conv<true>, plain::conv_wide, nullptr, conv_bits_avx512vnni},
    plain::depthwise,
    spike,
    quantize,
    false,
    LANES,
    false,
    pack_bits_avx512vnni,
    plain::bit_sums,
    list,
    gather<Sum>,
    64,
    0x80,
};

void conv_u8_avx512vnni(const ConvArgs& a) { conv<false>(a); }

// AVX-512 with VNNI: dot products of 4 bytes or 2 words a lane; neurons and scalings 16 numbers at a time.

#include <immintrin.h>

#include <algorithm>
#include <cstring>
#include <utility>

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

// ---- scaled sums to spikes ----------------------------------------------------------------------------------------

struct Scale {
    __m512i m_even, m_odd, add_even, add_odd, right, left;
    Scaling kind;
    bool has_bias;
};

inline Scale scale_at(const SpikeScale& t, int c) {
    Scale k;
    k.kind = t.kind;
    k.has_bias = t.b != nullptr;
    k.m_even = k.m_odd = k.add_even = k.add_odd = k.right = k.left = _mm512_setzero_si512();
    if (t.kind == AS_IT_IS) return k;
    if (t.kind != SHIFTED_32) k.m_even = _mm512_loadu_si512(t.m + c);
    if (t.kind == SCALED_64) {
        k.m_odd = _mm512_srli_epi64(k.m_even, 32);
        k.add_even = _mm512_loadu_si512(t.addend + c);
        k.add_odd = _mm512_loadu_si512(t.addend + c + 8);
        k.right = _mm512_set1_epi64(t.shift);
        k.left = _mm512_set1_epi64(32 - t.shift);  // read where the shift is at most 32
        return k;
    }
    k.right = _mm512_set1_epi32(t.shift);
    k.add_even = _mm512_set1_epi32(t.shift ? int32_t(1) << (t.shift - 1) : 0);
    if (t.b) k.add_odd = _mm512_loadu_si512(t.b + c);
    return k;
}

// Shifts of at most 32 need the lower halves of the shifted products alone: neither sign nor upper half.
inline __m512i scaled_64(__m512i x, const Scale& k) {
    const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, k.m_even), k.add_even);
    const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), k.m_odd), k.add_odd);
    return _mm512_mask_blend_epi32(0xAAAA, _mm512_srlv_epi64(even, k.right), _mm512_sllv_epi64(odd, k.left));
}

inline __m512i scaled(__m512i x, const Scale& k, int shift) {
    switch (k.kind) {
    case AS_IT_IS: return x;
    case SHIFTED_32: return _mm512_srav_epi32(_mm512_add_epi32(x, k.add_even), k.right);
    case SCALED_32:
        x = _mm512_srav_epi32(_mm512_add_epi32(_mm512_mullo_epi32(x, k.m_even), k.add_even), k.right);
        return k.has_bias ? _mm512_add_epi32(x, k.add_odd) : x;
    default: break;
    }
    if (shift <= 32) return scaled_64(x, k);
    const __m512i even = _mm512_add_epi64(_mm512_mul_epi32(x, k.m_even), k.add_even);
    const __m512i odd = _mm512_add_epi64(_mm512_mul_epi32(_mm512_srli_epi64(x, 32), k.m_odd), k.add_odd);
    return joined(_mm512_srav_epi64(even, k.right), _mm512_srav_epi64(odd, k.right));
}

// What is the same for 16 channels of all places and steps.
struct Lanes {
    Scale first_term, second_term, outer;
    __m512i first, minus_first, charge, initial, top;
    __m128i spacing;
    __mmask16 some;
};

// How the current is made: of one sum with a scaling of 64 bits; of that and bytes times a number, then shifted, as residual
// blocks have it; of one sum; of anything.
enum Shape { WIDE_SUM, RESIDUAL, ONE_SUM, ANY_SUM };

template <Shape SHAPE>
inline __m512i current_of(const SpikeArgs& a, const Lanes& l, int64_t i, int64_t t) {
    auto number = [&](const SpikeTerm& term) {
        const int64_t at = i + t * term.step;
        if (SHAPE != ANY_SUM || term.width == 4)
            return _mm512_maskz_loadu_epi32(l.some, static_cast<const int32_t*>(term.x) + at);
        const __m128i bytes = _mm_maskz_loadu_epi8(l.some, static_cast<const int8_t*>(term.x) + at);
        return term.is_unsigned ? _mm512_cvtepu8_epi32(bytes) : _mm512_cvtepi8_epi32(bytes);
    };
    if (SHAPE == WIDE_SUM) return scaled_64(number(a.terms[0]), l.first_term);
    if (SHAPE == RESIDUAL) {
        const __m128i bytes = _mm_maskz_loadu_epi8(l.some, static_cast<const int8_t*>(a.terms[1].x) + i + t * a.terms[1].step);
        const __m512i bypass = _mm512_mullo_epi32(_mm512_cvtepi8_epi32(bytes), l.second_term.m_even);
        const __m512i x = _mm512_add_epi32(scaled_64(number(a.terms[0]), l.first_term), bypass);
        return _mm512_srav_epi32(_mm512_add_epi32(x, l.outer.add_even), l.outer.right);  // by 0 where there is no scaling
    }
    __m512i x = scaled(number(a.terms[0]), l.first_term, a.terms[0].scale.shift);
    if (SHAPE == ONE_SUM) return x;
    if (a.nterms > 1) x = _mm512_add_epi32(x, scaled(number(a.terms[1]), l.second_term, a.terms[1].scale.shift));
    return scaled(x, l.outer, a.outer.shift);
}

template <bool SIGNED, bool MANY>
inline __m512i levels_of(__m512i u, const Lanes& l, __mmask16& fired) {
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
    const __m512i n = SIGNED ? _mm512_abs_epi32(u) : u;
    fired = SIGNED ? _mm512_mask_cmpge_epu32_mask(l.some, n, l.first) : _mm512_mask_cmpge_epi32_mask(l.some, n, l.first);
    __m512i k;
    if (MANY) {
        const __m512i q = _mm512_srl_epi32(_mm512_sub_epi32(n, l.first), l.spacing);
        k = _mm512_maskz_add_epi32(fired, _mm512_min_epu32(q, l.top), one);
    } else {
        k = _mm512_maskz_mov_epi32(fired, one);
    }
    return SIGNED ? _mm512_mask_sub_epi32(k, _mm512_movepi32_mask(u), zero, k) : k;
}

inline void store_levels(unsigned char* to, __mmask16 some, __m512i k) {
    _mm_mask_storeu_epi8(to, some, _mm512_cvtepi32_epi8(k));
}

// What 16 neurons keep from step to step.
struct Kept {
    __m512i v, sent;
};

inline Kept kept_before(const SpikeArgs& a, const Lanes& l, int64_t i) {
    return Kept{a.v ? _mm512_maskz_loadu_epi32(l.some, a.v + i) : l.initial,
                a.sent ? _mm512_maskz_loadu_epi32(l.some, a.sent + i) : _mm512_setzero_si512()};
}

inline void keep(const SpikeArgs& a, const Lanes& l, int64_t i, const Kept& kept) {
    if (a.v) _mm512_mask_storeu_epi32(a.v + i, l.some, kept.v);
    if (a.sent) _mm512_mask_storeu_epi32(a.sent + i, l.some, kept.sent);
}

// Signs of sums and differences that left 32 bits, of (a, b, result).
constexpr int OVER_ADD = 0x42, OVER_SUB = 0x18;

// A step of 16 neurons: levels. EXACT clamps and counts; else `over` becomes negative in lanes where 32 bits did not do.
template <Decay DECAY, bool SIGNED, bool HARD, bool MANY, bool CANCEL, bool EXACT>
inline __m512i step_of(const SpikeArgs& a, const Lanes& l, __m512i x, Kept& kept, __m512i& over, int64_t& clamped) {
    const __m512i zero = _mm512_setzero_si512(), left = decayed<DECAY>(kept.v, a.fire);
    __m512i u;
    if (EXACT) {
        u = sat_add(left, x, l.some, clamped);
    } else {
        u = _mm512_add_epi32(left, x);
        over = _mm512_or_si512(over, _mm512_ternarylogic_epi32(left, x, u, OVER_ADD));
    }
    if (!EXACT && SIGNED && !MANY) {  // -1, 0 or 1: masks say it all, and no difference can leave 32 bits
        const __m512i one = _mm512_set1_epi32(1);
        const __mmask16 up = _mm512_mask_cmpge_epi32_mask(l.some, u, l.first);
        __mmask16 down = _mm512_mask_cmple_epi32_mask(l.some, u, l.minus_first);
        if (CANCEL) {  // what was sent is never negative
            down = _mm512_mask_cmpgt_epi32_mask(down, kept.sent, zero);
            kept.sent = _mm512_mask_add_epi32(kept.sent, up, kept.sent, one);
            kept.sent = _mm512_mask_sub_epi32(kept.sent, down, kept.sent, one);
            over = _mm512_or_si512(over, kept.sent);
        }
        if (HARD) {
            kept.v = _mm512_mask_mov_epi32(u, __mmask16(up | down), zero);
        } else {
            kept.v = _mm512_mask_sub_epi32(u, up, u, l.charge);
            kept.v = _mm512_mask_add_epi32(kept.v, down, u, l.charge);
        }
        return _mm512_mask_sub_epi32(_mm512_maskz_mov_epi32(up, one), down, zero, one);
    }
    __mmask16 fired;
    __m512i k = levels_of<SIGNED, MANY>(u, l, fired);
    if (CANCEL) {
        k = _mm512_max_epi32(k, _mm512_sub_epi32(zero, kept.sent));
        const __m512i before = kept.sent;
        if (EXACT) {
            kept.sent = sat_add(before, k, l.some, clamped);
        } else {
            kept.sent = _mm512_add_epi32(before, k);
            over = _mm512_or_si512(over, _mm512_ternarylogic_epi32(before, k, kept.sent, OVER_ADD));
        }
        fired = _mm512_mask_test_epi32_mask(l.some, k, k);
    }
    if (HARD) {
        kept.v = _mm512_mask_mov_epi32(u, fired, zero);
    } else if (!EXACT && !SIGNED && !MANY) {
        kept.v = _mm512_mask_sub_epi32(u, fired, u, l.charge);  // u >= first > 0: the difference fits
    } else {
        __m512i charge;
        if (MANY) {
            charge = _mm512_mullo_epi32(l.charge, k);
        } else {  // k is -1, 0 or 1
            charge = _mm512_maskz_mov_epi32(fired, l.charge);
            if (SIGNED) charge = _mm512_mask_sub_epi32(charge, _mm512_movepi32_mask(k), zero, charge);
        }
        if (EXACT) {
            kept.v = sat_sub(u, charge, l.some, clamped);
        } else {
            kept.v = _mm512_sub_epi32(u, charge);
            over = _mm512_or_si512(over, _mm512_ternarylogic_epi32(u, charge, kept.v, OVER_SUB));
        }
    }
    return k;
}

// All steps of 16 neurons, clamping and counting at every step.
template <Decay DECAY, bool SIGNED, bool HARD, bool MANY, bool CANCEL>
__attribute__((noinline)) int64_t clamped_steps(const SpikeArgs& a, const Lanes& l, int64_t i) {
    int64_t clamped = 0;
    Kept kept = kept_before(a, l, i);
    __m512i over;
    for (int64_t t = 0; t < a.steps; ++t)
        store_levels(a.out + i + t * a.out_step, l.some,
                     step_of<DECAY, SIGNED, HARD, MANY, CANCEL, true>(a, l, current_of<ANY_SUM>(a, l, i, t), kept, over, clamped));
    keep(a, l, i, kept);
    return clamped;
}

template <Decay DECAY, bool SIGNED, bool HARD, bool MANY, bool CANCEL, Shape SHAPE>
int64_t spike_of(const SpikeArgs& given) {
    const SpikeArgs a = given;  // a copy that stored bytes cannot change
    const __m512i zero = _mm512_setzero_si512();
    int64_t clamped = 0;
    Lanes l;
    l.spacing = _mm_cvtsi32_si128(a.fire.spacing_shift < 0 ? 0 : a.fire.spacing_shift);
    l.top = _mm512_set1_epi32(a.fire.count - 1);
    for (int c = 0; c < a.channels; c += LANES) {
        l.some = a.channels - c < LANES ? __mmask16((1 << (a.channels - c)) - 1) : __mmask16(0xffff);
        l.first_term = scale_at(a.terms[0].scale, c);
        l.second_term = scale_at(a.terms[a.nterms - 1].scale, c);
        l.outer = scale_at(a.outer, c);
        l.first = _mm512_maskz_loadu_epi32(l.some, a.fire.first + c);
        l.minus_first = _mm512_sub_epi32(zero, l.first);
        l.charge = HARD ? zero : _mm512_maskz_loadu_epi32(l.some, a.fire.charge + c);
        l.initial = a.initial ? _mm512_maskz_loadu_epi32(l.some, a.initial + c) : zero;
        for (int64_t r = 0; r < a.rows; ++r) {
            const int64_t i = r * a.channels + c;
            Kept kept = kept_before(a, l, i);
            __m512i over = zero;
            unsigned char* to = a.out + i;
            for (int64_t t = 0; t < a.steps; ++t, to += a.out_step)
                store_levels(to, l.some,
                             step_of<DECAY, SIGNED, HARD, MANY, CANCEL, false>(a, l, current_of<SHAPE>(a, l, i, t), kept, over,
                                                                               clamped));
            if (__builtin_expect(l.some & _mm512_movepi32_mask(over), 0)) {
                const Lanes copy = l;
                clamped += clamped_steps<DECAY, SIGNED, HARD, MANY, CANCEL>(given, copy, i);
            } else {
                keep(a, l, i, kept);
            }
        }
    }
    return clamped;
}

template <Decay DECAY, Shape SHAPE>
SpikeFn spike_with(const FireArgs& f) {
    static constexpr SpikeFn TABLE[] = {
        spike_of<DECAY, false, false, false, false, SHAPE>, spike_of<DECAY, false, false, true, false, SHAPE>,
        spike_of<DECAY, false, true, false, false, SHAPE>,  spike_of<DECAY, false, true, true, false, SHAPE>,
        spike_of<DECAY, true, false, false, false, SHAPE>,  spike_of<DECAY, true, false, true, false, SHAPE>,
        spike_of<DECAY, true, true, false, false, SHAPE>,   spike_of<DECAY, true, true, true, false, SHAPE>};
    static constexpr SpikeFn CANCELS[] = {
        spike_of<DECAY, true, false, false, true, SHAPE>, spike_of<DECAY, true, false, true, true, SHAPE>,
        spike_of<DECAY, true, true, false, true, SHAPE>, spike_of<DECAY, true, true, true, true, SHAPE>};
    if (f.cancel) return CANCELS[2 * f.hard + (f.count > 1)];
    return TABLE[4 * f.is_signed + 2 * f.hard + (f.count > 1)];
}

template <Shape SHAPE>
SpikeFn spike_by_decay(const FireArgs& f) {
    const int64_t unit = int64_t(1) << f.decay_shift;
    return f.decay == unit ? spike_with<STAYS, SHAPE>(f)
           : f.decay == 0  ? spike_with<GONE, SHAPE>(f)
           : f.decay == 1  ? spike_with<SHIFTED, SHAPE>(f)
                           : spike_with<SCALED, SHAPE>(f);
}

int64_t spike(const SpikeArgs& a) {
    const SpikeTerm &first = a.terms[0], &second = a.terms[1];
    const bool wide = first.scale.kind == SCALED_64 && first.scale.shift <= 32 && first.width == 4;
    const bool bypass = a.nterms == 2 && second.width == 1 && !second.is_unsigned && second.scale.kind == SCALED_32 &&
                        !second.scale.shift && !second.scale.b;
    if (wide && bypass && (a.outer.kind == AS_IT_IS || a.outer.kind == SHIFTED_32)) return spike_by_decay<RESIDUAL>(a.fire)(a);
    const bool one = a.nterms == 1 && a.outer.kind == AS_IT_IS && first.width == 4;
    if (!one) return spike_by_decay<ANY_SUM>(a.fire)(a);
    return (wide ? spike_by_decay<WIDE_SUM> : spike_by_decay<ONE_SUM>)(a.fire)(a);
}

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
     plain::operand<int32_t>},
    {plain::conv_i32, conv<false>, conv<true>, plain::conv_wide, nullptr},
    plain::depthwise,
    spike,
    quantize,
    false,
    LANES,
    false,
};

void conv_u8_avx512vnni(const ConvArgs& a) { conv<false>(a); }

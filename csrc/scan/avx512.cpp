// AVX-512 (F, BW, DQ, VL): sixteen lanes; a mask is sixteen bits.

#include <immintrin.h>

#include "adaptive.h"
#include "norm.h"
#include "pack.h"
#include "scan.h"

namespace {

struct Avx512 {
    static constexpr int W = 16;
    typedef __m512 reg;
    typedef __mmask16 mask;

    static reg set(float value) { return _mm512_set1_ps(value); }
    static reg load(const float* p) { return _mm512_loadu_ps(p); }
    static void store(float* p, reg r) { _mm512_storeu_ps(p, r); }
    static void stream(float* p, reg r) { _mm512_stream_ps(p, r); }
    static reg load_bf16(const uint16_t* p) {
        __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
        return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
    }
    static void store_bf16(uint16_t* p, reg r) {
        __m512i bits = _mm512_castps_si512(r);
        __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
        __m512i rounded =
            _mm512_srli_epi32(_mm512_add_epi32(bits, _mm512_add_epi32(_mm512_set1_epi32(0x7fff), odd)), 16);
        mask nan = _mm512_cmp_ps_mask(r, r, _CMP_UNORD_Q);
        rounded = _mm512_mask_mov_epi32(rounded, nan, _mm512_set1_epi32(0x7fc0));
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(rounded));
    }
    static reg add(reg a, reg b) { return _mm512_add_ps(a, b); }
    static reg sub(reg a, reg b) { return _mm512_sub_ps(a, b); }
    static reg mul(reg a, reg b) { return _mm512_mul_ps(a, b); }
    static reg div(reg a, reg b) { return _mm512_div_ps(a, b); }
    static reg min(reg a, reg b) { return _mm512_min_ps(a, b); }
    static reg max(reg a, reg b) { return _mm512_max_ps(a, b); }
    static reg signs() { return _mm512_castsi512_ps(_mm512_set1_epi32(int(0x80000000u))); }
    static reg abs(reg a) { return _mm512_andnot_ps(signs(), a); }
    static reg neg(reg a) { return _mm512_xor_ps(a, signs()); }
    static reg floor(reg a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC); }
    static reg flip(reg a, reg sign) { return _mm512_xor_ps(a, _mm512_and_ps(sign, signs())); }
    static reg power_of_two(reg n) {
        __m512i exponent = _mm512_add_epi32(_mm512_cvttps_epi32(n), _mm512_set1_epi32(127));
        return _mm512_castsi512_ps(_mm512_slli_epi32(exponent, 23));
    }
    static mask ge(reg a, reg b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
    static mask either(mask a, mask b) { return mask(a | b); }
    static mask both(mask a, mask b) { return mask(a & b); }
    static reg keep(mask m, reg a) { return _mm512_maskz_mov_ps(m, a); }
    static reg drop(mask m, reg a) { return _mm512_maskz_mov_ps(mask(~m), a); }
    static void store_bits(uint8_t* p, mask m) { std::memcpy(p, &m, 2); }
    static mask load_bits(const uint8_t* p) {
        mask m;
        std::memcpy(&m, p, 2);
        return m;
    }
};

}  // namespace

const Kernels avx512_kernels = {
    scan_forward<Avx512>, scan_backward_bits<Avx512>, scan_backward_again<Avx512>, pack_levels, unpack_levels,
    norm_forward<Avx512>, norm_backward<Avx512>, adaptive_forward<Avx512>, adaptive_backward<Avx512>, squeeze_forward<Avx512>,
    squeeze_backward<Avx512>};

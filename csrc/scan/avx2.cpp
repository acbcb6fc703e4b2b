// AVX2: eight lanes; a mask is a vector of all-ones and all-zeros.

#include <immintrin.h>

#include "adaptive.h"
#include "norm.h"
#include "pack.h"
#include "scan.h"

namespace {

struct Avx2 {
    static constexpr int W = 8;
    typedef __m256 reg;
    typedef __m256 mask;

    static reg set(float value) { return _mm256_set1_ps(value); }
    static reg load(const float* p) { return _mm256_loadu_ps(p); }
    static void store(float* p, reg r) { _mm256_storeu_ps(p, r); }
    static void stream(float* p, reg r) { _mm256_stream_ps(p, r); }
    static reg load_bf16(const uint16_t* p) {
        __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
        return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
    }
    static void store_bf16(uint16_t* p, reg r) {
        __m256i bits = _mm256_castps_si256(r);
        __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        __m256i rounded = _mm256_srli_epi32(
            _mm256_add_epi32(bits, _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd)), 16);
        __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(r, r, _CMP_UNORD_Q));
        rounded = _mm256_blendv_epi8(rounded, _mm256_set1_epi32(0x7fc0), nan);
        __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi32(rounded, rounded), 0x08);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(packed));
    }
    static reg add(reg a, reg b) { return _mm256_add_ps(a, b); }
    static reg sub(reg a, reg b) { return _mm256_sub_ps(a, b); }
    static reg mul(reg a, reg b) { return _mm256_mul_ps(a, b); }
    static reg div(reg a, reg b) { return _mm256_div_ps(a, b); }
    static reg min(reg a, reg b) { return _mm256_min_ps(a, b); }
    static reg max(reg a, reg b) { return _mm256_max_ps(a, b); }
    static reg signs() { return _mm256_castsi256_ps(_mm256_set1_epi32(int(0x80000000u))); }
    static reg abs(reg a) { return _mm256_andnot_ps(signs(), a); }
    static reg neg(reg a) { return _mm256_xor_ps(a, signs()); }
    static reg floor(reg a) { return _mm256_floor_ps(a); }
    static reg flip(reg a, reg sign) { return _mm256_xor_ps(a, _mm256_and_ps(sign, signs())); }
    static reg power_of_two(reg n) {
        __m256i exponent = _mm256_add_epi32(_mm256_cvttps_epi32(n), _mm256_set1_epi32(127));
        return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
    }
    static mask ge(reg a, reg b) { return _mm256_cmp_ps(a, b, _CMP_GE_OQ); }
    static mask either(mask a, mask b) { return _mm256_or_ps(a, b); }
    static mask both(mask a, mask b) { return _mm256_and_ps(a, b); }
    static reg keep(mask m, reg a) { return _mm256_and_ps(m, a); }
    static reg drop(mask m, reg a) { return _mm256_andnot_ps(m, a); }
    static void store_bits(uint8_t* p, mask m) { *p = uint8_t(_mm256_movemask_ps(m)); }
    static mask load_bits(const uint8_t* p) {
        const __m256i bit = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
        __m256i all = _mm256_and_si256(_mm256_set1_epi32(*p), bit);
        return _mm256_castsi256_ps(_mm256_cmpeq_epi32(all, bit));
    }
};

}  // namespace

const Kernels avx2_kernels = {
    scan_forward<Avx2>, scan_backward_bits<Avx2>, scan_backward_again<Avx2>, pack_levels, unpack_levels,
    norm_forward<Avx2>, norm_backward<Avx2>, adaptive_forward<Avx2>, adaptive_backward<Avx2>, squeeze_forward<Avx2>,
    squeeze_backward<Avx2>};

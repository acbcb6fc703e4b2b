// Planes of bits with AVX2: a byte's ones are looked up by halves.

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#include "bits.h"
#include "kernels.h"
#include "program.h"

namespace {
typedef __m256i V;
constexpr int WIDTH = 8, PIXELS = 2;
constexpr int MOST = 15;  // counts of bytes, with a sign

inline V zero() { return _mm256_setzero_si256(); }
inline V load(const unsigned char* x) { return _mm256_loadu_si256(reinterpret_cast<const V*>(x)); }
inline V word(const unsigned char* x) {
    int32_t four;
    std::memcpy(&four, x, 4);
    return _mm256_set1_epi32(four);
}
inline V common(V a, V b) { return _mm256_and_si256(a, b); }
inline V differ(V a, V b, V c) { return _mm256_and_si256(a, _mm256_xor_si256(b, c)); }
inline V counted(V x) {
    const V table = _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const V low = _mm256_set1_epi8(15);
    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(x, low)),
                           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi32(x, 4), low)));
}
inline V plus(V a, V b) { return _mm256_add_epi8(a, b); }
inline V minus(V a, V b) { return _mm256_sub_epi8(a, b); }
inline V total(V x) { return _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), x), _mm256_set1_epi16(1)); }
inline V add(V a, V b) { return _mm256_add_epi32(a, b); }
inline V subtract(V a, V b) { return _mm256_sub_epi32(a, b); }
inline V shifted(V a, int n) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(n)); }
inline V times(V a, V b) { return _mm256_mullo_epi32(a, b); }
inline V set(int32_t x) { return _mm256_set1_epi32(x); }
inline void write(int32_t* y, int n, V x) {
    _mm256_maskstore_epi32(y, _mm256_cmpgt_epi32(set(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)), x);
}

#include "bits.inc"
}  // namespace

void conv_bits_avx2(const ConvArgs& a) { conv(a); }

void pack_bits_avx2(unsigned char* y, const void* x, int dtype, int64_t pixels, int64_t channels, int planes,
                    int64_t plane) {
    if (dtype != DTYPE_I8 && dtype != DTYPE_U8) return SCALAR_KERNELS.bits(y, x, dtype, pixels, channels, planes, plane);
    const unsigned char* from = static_cast<const unsigned char*>(x);
    const int64_t bytes = (channels + 7) / 8;
    for (int64_t pixel = 0; pixel < pixels; ++pixel, from += channels, y += bytes)
        for (int64_t c = 0; c < channels; c += 32) {
            const int64_t n = std::min<int64_t>(32, channels - c);
            unsigned char some[32] = {};
            const unsigned char* at = from + c;
            if (n < 32) at = static_cast<unsigned char*>(std::memcpy(some, at, size_t(n)));
            const V v = load(at);
            for (int p = 0; p < planes; ++p) {
                const uint32_t ones = uint32_t(_mm256_movemask_epi8(_mm256_sll_epi16(v, _mm_cvtsi32_si128(7 - p))));
                if (n == 32) {
                    std::memcpy(y + p * plane + c / 8, &ones, 4);
                } else {
                    std::memcpy(y + p * plane + c / 8, &ones, size_t((n + 7) / 8));
                }
            }
        }
}

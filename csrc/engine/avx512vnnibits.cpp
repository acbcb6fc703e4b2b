// Planes of bits on CPUs with AVX-512 that do not count bits; and their operands.

#include "avx512bits.inc"

void conv_bits_avx512vnni(const ConvArgs& a) { conv(a); }

void pack_bits_avx512vnni(unsigned char* y, const void* x, int dtype, int64_t pixels, int64_t channels, int planes,
                      int64_t plane) {
    if (dtype != DTYPE_I8 && dtype != DTYPE_U8) return SCALAR_KERNELS.bits(y, x, dtype, pixels, channels, planes, plane);
    const unsigned char* from = static_cast<const unsigned char*>(x);
    const int64_t bytes = (channels + 7) / 8;
    for (int64_t pixel = 0; pixel < pixels; ++pixel, from += channels, y += bytes)
        for (int64_t c = 0; c < channels; c += 64) {
            const int64_t n = std::min<int64_t>(64, channels - c);
            const __m512i v = _mm512_maskz_loadu_epi8(__mmask64(~uint64_t(0) >> (64 - n)), from + c);
            for (int p = 0; p < planes; ++p) {
                const uint64_t bits = _mm512_test_epi8_mask(v, _mm512_set1_epi8(char(1 << p)));
                if (n == 64) {
                    std::memcpy(y + p * plane + c / 8, &bits, 8);
                } else {
                    std::memcpy(y + p * plane + c / 8, &bits, size_t((n + 7) / 8));
                }
            }
        }
}

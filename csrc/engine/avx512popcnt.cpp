// AVX-512 that counts bits (VPOPCNTDQ): planes of bits. All else is that of AVX-512.

#include "avx512bits.inc"

#include "kernels.h"

#if !defined(__AVX512VPOPCNTDQ__)
#error built without the count of bits
#endif

namespace {
Kernels made() {
    Kernels kernels = AVX512VNNI_KERNELS;
    kernels.conv[FORM_BITS] = conv;
    return kernels;
}
}  // namespace

const Kernels& avx512popcnt_kernels() {
    static const Kernels kernels = made();
    return kernels;
}

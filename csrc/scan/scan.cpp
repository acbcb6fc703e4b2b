// The exported scans and packing: each calls the kernel of the instruction set in use.

#include <cstdlib>

#include "isa.h"
#include "kernels.h"
#include "scratch.h"

namespace {

const Kernels& kernels() {
    switch (bitspike_current_isa()) {
#if defined(BITSPIKE_AVX512)
    case ISA_AVX512: return avx512_kernels;
#endif
#if defined(BITSPIKE_AVX2)
    case ISA_AVX2: return avx2_kernels;
#endif
    default: return scalar_kernels;
    }
}

struct Scratch {
    float* data = nullptr;
    int64_t size = 0;
    ~Scratch() { std::free(data); }
};

}  // namespace

float* scratch(int64_t floats) {
    static thread_local Scratch mine;
    if (mine.size < floats) {
        std::free(mine.data);
        mine.data = static_cast<float*>(std::malloc(floats * sizeof(float)));
        mine.size = mine.data ? floats : 0;
        if (!mine.data) std::abort();
    }
    return mine.data;
}

BITSPIKE_EXPORT int64_t bitspike_scan_args_size(void) { return sizeof(ScanArgs); }
BITSPIKE_EXPORT int64_t bitspike_row_bytes(int64_t size) { return row_bytes(size); }

// Rows of the array `partial` that the backward pass of class U fills.
BITSPIKE_EXPORT int64_t bitspike_scan_blocks(int64_t size, int64_t steps) {
    const int64_t block = block_size(size, steps + 2);
    return (size + block - 1) / block;
}

BITSPIKE_EXPORT void bitspike_scan_forward(const ScanArgs* args) { kernels().forward(*args); }
BITSPIKE_EXPORT void bitspike_scan_backward_bits(const ScanArgs* args) { kernels().backward_bits(*args); }
BITSPIKE_EXPORT void bitspike_scan_backward_again(const ScanArgs* args) { kernels().backward_again(*args); }

// Rows of the array `partial` that batch norm and the adaptive neuron work in.
BITSPIKE_EXPORT int64_t bitspike_norm_blocks(int64_t size) {
    const int64_t block = block_size(size, NORM_ROWS);
    return (size + block - 1) / block;
}
BITSPIKE_EXPORT int64_t bitspike_norm_args_size(void) { return sizeof(NormArgs); }
BITSPIKE_EXPORT void bitspike_norm_forward(const NormArgs* args) { kernels().norm_forward(*args); }
BITSPIKE_EXPORT void bitspike_norm_backward(const NormArgs* args) { kernels().norm_backward(*args); }

BITSPIKE_EXPORT int64_t bitspike_adaptive_args_size(void) { return sizeof(AdaptiveArgs); }
BITSPIKE_EXPORT void bitspike_adaptive_forward(const AdaptiveArgs* args) { kernels().adaptive_forward(*args); }
BITSPIKE_EXPORT void bitspike_adaptive_backward(const AdaptiveArgs* args) { kernels().adaptive_backward(*args); }
BITSPIKE_EXPORT void bitspike_squeeze_forward(const AdaptiveArgs* args) { kernels().squeeze_forward(*args); }
BITSPIKE_EXPORT void bitspike_squeeze_backward(const AdaptiveArgs* args) { kernels().squeeze_backward(*args); }

BITSPIKE_EXPORT int64_t bitspike_pack_args_size(void) { return sizeof(PackArgs); }
BITSPIKE_EXPORT int64_t bitspike_pack(const PackArgs* args) { return kernels().pack(*args); }
BITSPIKE_EXPORT void bitspike_unpack(const PackArgs* args) { kernels().unpack(*args); }

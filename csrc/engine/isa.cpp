// Which instruction sets this build holds and this CPU runs.

#include "kernels.h"

namespace {

bool cpu_runs(int isa) {
    if (isa == ENGINE_SCALAR) return true;
#if defined(BITSPIKE_X86)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
    return false;
#endif
}

}  // namespace

const Kernels* kernels_of(int isa) {
    if (isa < 0 || isa >= ENGINE_ISAS || !cpu_runs(isa)) return nullptr;
    switch (isa) {
    case ENGINE_SCALAR: return &SCALAR_KERNELS;
#if defined(BITSPIKE_AVX512VNNI)
    case ENGINE_AVX512VNNI: return &AVX512VNNI_KERNELS;
#endif
    default: return nullptr;
    }
}

const char* isa_name(int isa) {
    constexpr const char* NAMES[] = {"scalar", "avx512vnni"};
    return NAMES[isa];
}

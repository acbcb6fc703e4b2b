// Which instruction sets this build holds and this CPU runs.

#include "kernels.h"

#if defined(BITSPIKE_X86)
#include <cpuid.h>
#endif

namespace {

bool cpu_runs(int isa) {
    if (isa == ENGINE_SCALAR) return true;
#if defined(BITSPIKE_X86)
    __builtin_cpu_init();
#if defined(BITSPIKE_AMX)
    unsigned a, b, c, d = 0;
    constexpr unsigned AMX_TILE = 1u << 24, AMX_INT8 = 1u << 25;
    if (isa == ENGINE_AMX && !(__get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_TILE) && (d & AMX_INT8) && amx_allowed()))
        return false;
#endif
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
#if defined(BITSPIKE_AMX)
    case ENGINE_AMX: return &amx_kernels();
#endif
    default: return nullptr;
    }
}

const char* isa_name(int isa) {
    constexpr const char* NAMES[] = {"scalar", "avx512vnni", "amx"};
    return NAMES[isa];
}

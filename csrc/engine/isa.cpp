// Which instruction sets this build holds and this CPU runs.

#include "kernels.h"

#if defined(BITSPIKE_AMX)
#include <cpuid.h>
#endif

#if defined(BITSPIKE_NEONDOT) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(BITSPIKE_NEONDOT) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace {

#if defined(BITSPIKE_NEONDOT)
bool has_dot_products() {
#if defined(__linux__)
    constexpr unsigned long ASIMDDP = 1ul << 20;  // HWCAP_ASIMDDP
    return (getauxval(AT_HWCAP) & ASIMDDP) != 0;
#elif defined(__APPLE__)
    int has = 0;
    size_t size = sizeof has;
    return !sysctlbyname("hw.optional.arm.FEAT_DotProd", &has, &size, nullptr, 0) && has;
#else
    return false;
#endif
}
#endif

#if defined(BITSPIKE_AVX512VNNI)
bool has_vnni() {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
}
#endif

#if defined(BITSPIKE_AVX512POPCNT)
bool has_popcnt() { return has_vnni() && __builtin_cpu_supports("avx512vpopcntdq"); }
#endif

#if defined(BITSPIKE_AMX)
bool has_amx() {
    unsigned a, b, c, d = 0;
    constexpr unsigned AMX_TILE = 1u << 24, AMX_INT8 = 1u << 25;
    return has_popcnt() && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & AMX_TILE) && (d & AMX_INT8) && amx_allowed();
}
#endif

// Everything that the flags of an instruction set's file name.
bool cpu_runs(int isa) {
    switch (isa) {
    case ENGINE_SCALAR: return true;
#if defined(BITSPIKE_AVX2)
    case ENGINE_AVX2: __builtin_cpu_init(); return __builtin_cpu_supports("avx2");
#endif
#if defined(BITSPIKE_AVX512VNNI)
    case ENGINE_AVX512VNNI: return has_vnni();
#endif
#if defined(BITSPIKE_AVX512POPCNT)
    case ENGINE_AVX512POPCNT: return has_popcnt();
#endif
#if defined(BITSPIKE_AMX)
    case ENGINE_AMX: return has_amx();
#endif
#if defined(BITSPIKE_NEON)
    case ENGINE_NEON: return true;  // every 64-bit ARM has it
#endif
#if defined(BITSPIKE_NEONDOT)
    case ENGINE_NEONDOT: return has_dot_products();
#endif
    default: return false;
    }
}

}  // namespace

const Kernels* kernels_of(int isa) {
    if (isa < 0 || isa >= ENGINE_ISAS || !cpu_runs(isa)) return nullptr;
    switch (isa) {
#if defined(BITSPIKE_AVX2)
    case ENGINE_AVX2: return &AVX2_KERNELS;
#endif
#if defined(BITSPIKE_AVX512VNNI)
    case ENGINE_AVX512VNNI: return &AVX512VNNI_KERNELS;
#endif
#if defined(BITSPIKE_AVX512POPCNT)
    case ENGINE_AVX512POPCNT: return &avx512popcnt_kernels();
#endif
#if defined(BITSPIKE_AMX)
    case ENGINE_AMX: return &amx_kernels();
#endif
#if defined(BITSPIKE_NEON)
    case ENGINE_NEON: return &NEON_KERNELS;
#endif
#if defined(BITSPIKE_NEONDOT)
    case ENGINE_NEONDOT: return &NEONDOT_KERNELS;
#endif
    default: return &SCALAR_KERNELS;
    }
}

const char* isa_name(int isa) {
    constexpr const char* NAMES[] = {"scalar", "avx2", "avx512vnni", "avx512popcnt", "amx", "neon", "neondot"};
    return NAMES[isa];
}

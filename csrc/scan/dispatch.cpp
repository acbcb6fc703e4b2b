// What the library tells Python about itself, the choice of an instruction set, and parallel loops.

#include <atomic>

#include "isa.h"
#include "parallel.h"

#if defined(BITSPIKE_X86)
#include <cpuid.h>
#endif

namespace {

constexpr int ABI = 6;  // equals ABI in src/bitspike/native.py; raise both when an exported signature or struct changes

typedef void (*GompParallel)(void (*fn)(void*), void* data, unsigned num_threads, unsigned flags);

std::atomic<GompParallel> gomp_parallel{nullptr};
std::atomic<int> current_isa{-1};  // -1: not asked yet

int best_isa() {
    int best = ISA_SCALAR;
#if defined(BITSPIKE_X86)
    // These also ask whether the system saves the wide registers. Every name is known to old compilers; f16c is not.
    __builtin_cpu_init();
#if defined(BITSPIKE_AVX2)
    unsigned a, b, c = 0, d;
    const bool f16c = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
    if (__builtin_cpu_supports("avx2") && f16c) best = ISA_AVX2;
#endif
#if defined(BITSPIKE_AVX512)
    if (best == ISA_AVX2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        best = ISA_AVX512;
#endif
#endif
    return best;
}

struct Loop {
    std::atomic<long> next;  // run of neighbouring blocks
    long runs, blocks;
    void (*body)(void*, long, long);
    void* ctx;
};

void run_blocks(void* data) {
    Loop& loop = *static_cast<Loop*>(data);
    for (;;) {
        const long run = loop.next.fetch_add(1, std::memory_order_relaxed);
        if (run >= loop.runs) return;
        const long end = (run + 1) * loop.blocks / loop.runs;
        for (long block = run * loop.blocks / loop.runs; block < end; ++block)
            loop.body(loop.ctx, block, block + 1 < end ? block + 1 : -1);
    }
}

}  // namespace

int bitspike_current_isa() {
    int isa = current_isa.load(std::memory_order_relaxed);
    if (isa < 0) {
        isa = best_isa();
        current_isa.store(isa, std::memory_order_relaxed);
    }
    return isa;
}

void parallel_blocks(long blocks, int threads, void (*body)(void*, long, long), void* ctx) {
    const GompParallel parallel = gomp_parallel.load(std::memory_order_acquire);
    if (threads <= 1 || blocks <= 1 || !parallel) {
        for (long block = 0; block < blocks; ++block) body(ctx, block, block + 1 < blocks ? block + 1 : -1);
        return;
    }
    // Four runs a thread: neighbours can be fetched ahead, and a thread that is held up does not hold up the rest.
    const long runs = blocks < 4L * threads ? blocks : 4L * threads;
    Loop loop{{0}, runs, blocks, body, ctx};
    parallel(run_blocks, &loop, blocks < threads ? unsigned(blocks) : unsigned(threads), 0);
}

BITSPIKE_EXPORT int bitspike_abi(void) { return ABI; }

// The GOMP_parallel of torch's OpenMP runtime, or null for serial loops.
BITSPIKE_EXPORT void bitspike_set_parallel(void* function) {
    gomp_parallel.store(reinterpret_cast<GompParallel>(function), std::memory_order_release);
}

// Caps the instruction set for every thread and returns the one now in use, never above what the CPU runs.
BITSPIKE_EXPORT int bitspike_set_isa(int cap) {
    const int best = best_isa();
    const int isa = cap < ISA_SCALAR ? ISA_SCALAR : cap < best ? cap : best;
    current_isa.store(isa, std::memory_order_relaxed);
    return isa;
}

BITSPIKE_EXPORT const char* bitspike_isa(void) {
    switch (bitspike_current_isa()) {
    case ISA_AVX512: return "avx512";
    case ISA_AVX2: return "avx2";
    default: return "scalar";
    }
}

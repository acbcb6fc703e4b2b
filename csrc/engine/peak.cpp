// How fast this machine multiplies and adds bytes at best: the dot product instruction of an instruction set on numbers
// in registers, with enough sums under way that none waits for another. What a convolution reaches is a share of it.

#include <atomic>
#include <chrono>
#include <cstring>

#include "api.h"
#include "kernels.h"
#include "pool.h"

#if defined(BITSPIKE_AVX2)
#include <immintrin.h>
#elif defined(__ARM_FEATURE_DOTPROD)
#include <arm_neon.h>
#endif

namespace {

constexpr int SUMS = 12;        // under way at a time
constexpr long ROUNDS = 20000;  // of all sums, in one task

std::atomic<int32_t> kept;  // where results go: otherwise nothing would need them

struct Peak {
    void (*burn)();
    int64_t macs;  // of one call of it
};

// Products of 32 bits, as the plain kernels take them.
void burn_plain() {
    constexpr int WIDTH = 64;
    int32_t sum[WIDTH] = {}, w[WIDTH];
    for (int i = 0; i < WIDTH; ++i) w[i] = kept + i;
    int32_t x = kept;
    for (long r = 0; r < ROUNDS; ++r) {
        for (int i = 0; i < WIDTH; ++i) sum[i] = int32_t(uint32_t(sum[i]) + uint32_t(x) * uint32_t(w[i]));
        x ^= int32_t(r);
    }
    int32_t all = 0;
    for (int i = 0; i < WIDTH; ++i) all ^= sum[i];
    kept = all;
}

#if defined(BITSPIKE_AVX2)
__attribute__((target("avx2"))) void burn_avx2() {
    __m256i sum[SUMS], x = _mm256_set1_epi8(3), w = _mm256_set1_epi8(5);
    const __m256i ones = _mm256_set1_epi16(1);
    for (int i = 0; i < SUMS; ++i) sum[i] = _mm256_setzero_si256();
    for (long r = 0; r < ROUNDS; ++r)
        for (int i = 0; i < SUMS; ++i) {
            asm volatile("" : "+x"(x));  // each sum has a product of its own
            sum[i] = _mm256_add_epi32(sum[i], _mm256_madd_epi16(_mm256_maddubs_epi16(x, w), ones));
        }
    for (int i = 1; i < SUMS; ++i) sum[0] = _mm256_add_epi32(sum[0], sum[i]);
    kept = _mm256_extract_epi32(sum[0], 0);
}

#if defined(BITSPIKE_AVX512VNNI)
__attribute__((target("avx512f,avx512vnni"))) void burn_avx512vnni() {
    __m512i sum[SUMS], x = _mm512_set1_epi32(0x03030303), w = _mm512_set1_epi32(0x05050505);
    for (int i = 0; i < SUMS; ++i) sum[i] = _mm512_setzero_si512();
    for (long r = 0; r < ROUNDS; ++r)
        for (int i = 0; i < SUMS; ++i) {
            asm volatile("" : "+v"(x));
            sum[i] = _mm512_dpbusd_epi32(sum[i], x, w);
        }
    for (int i = 1; i < SUMS; ++i) sum[0] = _mm512_add_epi32(sum[0], sum[i]);
    kept = _mm_cvtsi128_si32(_mm512_castsi512_si128(sum[0]));
}
#endif

#if defined(BITSPIKE_AMX)
// Four tiles of sums, as many as a convolution has under way.
__attribute__((target("amx-tile,amx-int8"))) void burn_amx() {
    struct alignas(64) {
        uint8_t palette = 1, start = 0, reserved[14] = {};
        uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    alignas(64) int32_t numbers[16 * 16] = {kept};
    _tile_loadconfig(&config);
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(4, numbers, 64);
    _tile_loadd(5, numbers, 64);
    _tile_loadd(6, numbers, 64);
    _tile_loadd(7, numbers, 64);
    for (long r = 0; r < ROUNDS / 20; ++r) {
        _tile_dpbusd(0, 4, 6);
        _tile_dpbusd(1, 5, 6);
        _tile_dpbusd(2, 4, 7);
        _tile_dpbusd(3, 5, 7);
    }
    _tile_stored(0, numbers, 64);
    kept = numbers[0];
    _tile_release();
}
#endif
#elif defined(__ARM_FEATURE_DOTPROD)
void burn_dotprod() {
    int32x4_t sum[SUMS];
    int8x16_t x = vdupq_n_s8(3), w = vdupq_n_s8(5);
    for (int i = 0; i < SUMS; ++i) sum[i] = vdupq_n_s32(0);
    for (long r = 0; r < ROUNDS; ++r)
        for (int i = 0; i < SUMS; ++i) {
            asm volatile("" : "+w"(x));
            sum[i] = vdotq_s32(sum[i], x, w);
        }
    for (int i = 1; i < SUMS; ++i) sum[0] = vaddq_s32(sum[0], sum[i]);
    kept = vgetq_lane_s32(sum[0], 0);
}
#endif

Peak peak_of([[maybe_unused]] int isa) {
#if defined(BITSPIKE_AVX2)
    if (!std::strcmp(isa_name(isa), "avx2")) return {burn_avx2, ROUNDS * SUMS * 32};
#if defined(BITSPIKE_AVX512VNNI)
    if (!std::strncmp(isa_name(isa), "avx512", 6)) return {burn_avx512vnni, ROUNDS * SUMS * 64};
#endif
#if defined(BITSPIKE_AMX)
    if (!std::strcmp(isa_name(isa), "amx")) return {burn_amx, ROUNDS / 20 * 4 * 16 * 16 * 64};
#endif
#elif defined(__ARM_FEATURE_DOTPROD)
    if (isa != ENGINE_SCALAR) return {burn_dotprod, ROUNDS * SUMS * 16};
#endif
    return {burn_plain, ROUNDS * 64};
}

void task(void* burn, long, int) { static_cast<const Peak*>(burn)->burn(); }

}  // namespace

double bitspike_engine_peak(int isa, int threads, int tries) {
    if (!kernels_of(isa)) return 0;
    Peak peak = peak_of(isa);
    if (threads < 1) threads = 1;
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    if (threads > 1 && !pool_take(threads)) threads = 1;
    double best = 0;
    const long tasks = 8L * threads;
    for (int i = 0; i < tries; ++i) {
        const auto start = std::chrono::steady_clock::now();
        pool_run(tasks, threads, task, &peak);
        const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
        const double found = double(tasks) * double(peak.macs) / seconds;
        if (found > best) best = found;
    }
    pool_release();
    return best;
}

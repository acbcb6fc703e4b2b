// What the native scan is asked to do, and the table of functions that every instruction set fills.
//
// Layout: a sequence [T, ...] is T rows of `size` elements each, row after row, in memory order; which axis of a step
// is innermost does not matter, except for per-channel factors: element n belongs to channel (n / inner) % channels.
// Saved bits: one row of row_bytes(size) bytes per step, bit n of a row is element n, least significant bit first.

#pragma once

#include <cstddef>
#include <cstdint>

enum Alphabet : int32_t { BINARY = 0, TERNARY = 1, GRADED = 2, REAL = 3 };
enum Bump : int32_t { WINDOW = 0, WINDOWS = 1, TRIANGLE = 2, ATAN = 3, SIGMOID = 4, FAST_SIGMOID = 5 };
enum Element : int32_t { FLOAT32 = 0, BFLOAT16 = 1 };

extern "C" {

// One field per line, 8 bytes each, so that the caller packs it without padding; mirrored in ops/scan_native.py.
struct ScanArgs {
    // pointers: null where there is nothing
    const void* x;            // [T, size] currents
    const float* v0;          // [size] membrane before the first step; null is a discharged one
    const float* amplitude;   // [amplitudes]
    const void* grad_s;       // [T, size]
    const float* grad_v;      // [size]
    void* s;                  // [T, size] spikes
    float* v;                 // [size] membrane after the last step
    uint8_t* window;          // [T, row_bytes] inside a surrogate window (class M)
    uint8_t* fired;           // [T, row_bytes] |level| > 0 (class M, hard reset and real spikes)
    void* grad_x;             // [T, size]
    float* grad_v0;           // [size]
    double* partial;          // [scan_blocks, 1 + amplitudes]: gradients of decay and amplitude per block
    // sizes
    int64_t steps;
    int64_t size;
    int64_t inner;
    int64_t channels;         // of the amplitude; 1 where it is shared or fixed
    int64_t amplitudes;       // 0: fixed
    int64_t threads;
    int64_t element;          // of x, s and their gradients
    // neuron
    int64_t alphabet;
    int64_t count;
    int64_t soft;
    int64_t detach;
    int64_t bump;
    int64_t gate;             // real spikes: whether the gate has a surrogate gradient (option B)
    int64_t learn_decay;
    double first;
    double spacing;
    double charge;            // membrane value that one level carries away in a soft reset
    double decay;
    double factor;            // of the emission, times the amplitude where there is one
    double p0, p1, p2;        // of the surrogate, see surrogate() in scan.h
};

// Rows of NormArgs.moments and NormArgs.grads.
enum Moment : int32_t { MEAN = 0, INVERSE = 1, UNBIASED = 2, SCALE = 3, SHIFT = 4 };
enum NormGrad : int32_t { OF_WEIGHT = 0, OF_BIAS = 1, SLOPE = 2, OFFSET = 3 };

// Batch norm and the scan behind it: x, grad_x, channels and partial of `scan` are those of the norm's input y.
// Amplitudes, if any, are one per channel.
struct NormArgs {
    ScanArgs scan;            // partial: [norm_blocks, 2 * channels], working memory; backwards in class U [scan_blocks,
                              // 2 * channels + 1 + amplitudes], whose first row holds the gradients behind 2 * channels
    const void* shortcut;     // [T, size] added to the normalised values, or null
    const float* weight;      // [channels]
    const float* bias;        // [channels]
    float* moments;           // [5, channels] mean, 1 / deviation, unbiased variance, scale, shift
    void* grad_shortcut;      // [T, size] or null
    float* grads;             // [4, channels] of weight and of bias; then working memory
    double eps;
    int64_t onward;           // elements from a row of y to the next: size, or 0 where all are the same
};

// The adaptive neuron; in its refined form the current is held for all steps and the spikes are averaged. `scan` has its
// x, v0, grad_s, s, v, grad_x, grad_v0 and decay, and partial: [norm_blocks, 2 + rows * (1 + channels)], zeros before,
// the gradients of decay, divisor and, row by row, of the greatest level and the step sizes. Squeeze: partial
// [norm_blocks], and s is what the forward pass gave, or null.
struct AdaptiveArgs {
    ScanArgs scan;
    const float* sizes;       // [rows, channels] step sizes
    const float* tops;        // [rows] greatest levels
    int64_t rows;             // time steps with sizes and levels of their own; the last row for all later ones
    int64_t begin;            // row of the first step
    int64_t is_signed;        // levels -top .. top instead of 0 .. top
    int64_t levels;           // spikes are levels, not levels times step size
    int64_t onward;           // elements from a row of x to the next: size, or 0 where all are the same
    int64_t grad_onward;      // the same of grad_s
    int64_t averaged;         // s and grad_s are [1, size], of the sum over all steps / divisor; float32
    int64_t held;             // grad_x is [1, size], the sum over all steps; float32
    double divisor;
};

// Spikes and their packed levels; the same rules. Level k is `low` or more, its spike is k * factor.
struct PackArgs {
    float* levels;            // [size] spikes; only read when packing
    uint8_t* packed;          // [(size * bits + 7) / 8]
    int64_t size;
    int64_t bits;             // 1, 2, 4 or 8 a level
    int64_t low;
    int64_t threads;
    double factor;
    double inverse;           // 1 / factor
};
}

typedef void (*ScanFunction)(const ScanArgs&);
typedef void (*NormFunction)(const NormArgs&);
typedef void (*AdaptiveFunction)(const AdaptiveArgs&);
typedef int64_t (*PackFunction)(const PackArgs&);  // 0, or 1 where a value is no such level
typedef void (*UnpackFunction)(const PackArgs&);

struct Kernels {
    ScanFunction forward;        // s, v; window and fired where asked for
    ScanFunction backward_bits;  // class M: from saved bits
    ScanFunction backward_again; // class U: the membrane is computed again from x
    PackFunction pack;           // spikes as bits
    UnpackFunction unpack;       // and back
    NormFunction norm_forward;   // moments, s; window and fired where asked for
    NormFunction norm_backward;  // grads, grad_x, and grad_shortcut where asked for; class U where there are no bits
    AdaptiveFunction adaptive_forward;   // s, v
    AdaptiveFunction adaptive_backward;  // grad_x, grad_v0, partial
    AdaptiveFunction squeeze_forward;    // s
    AdaptiveFunction squeeze_backward;   // grad_x [1, size], partial where s is given
};

extern const Kernels scalar_kernels, avx2_kernels, avx512_kernels;

static inline int64_t row_bytes(int64_t size) { return (size + 63) / 64 * 8; }

// Elements of a block: a multiple of 64 that depends on the shape alone, never on threads or instruction set, so that
// sums over blocks come out the same everywhere. `rows` steps of it stay in the second-level cache.
static inline int64_t block_size(int64_t size, int64_t rows) {
    int64_t block = 4096;
    while (block > 64 && (block * rows > 65536 || block * 8 > size)) block /= 2;
    return block;
}

constexpr int64_t NORM_ROWS = 32;  // so that the rows of a block that batch norm works on stay in the caches

// The table of kernels: scalar.cpp is the definition, other files override entries for an instruction set. All of them
// give the same integers.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

// Largest blocks of pixels that the widest kernel takes at a time.
constexpr int MAX_BLOCK = 12;

// y = clamp(((x·m_c + half) >> shift) + b_c, low, high); m, b point to the first channel of a tile, b may be null.
struct RescaleArgs {
    const int32_t* m;
    const int32_t* b;
    int shift;
    int32_t low, high;
    bool clamps;
    bool narrow;  // products and their half fit 32 bits
};

// One step of a neuron; the table pointers are at the first channel of a tile, null where there is none.
struct FireArgs {
    const int32_t *first, *spacing, *charge, *gate, *floor;
    int32_t count;
    bool is_signed, hard, cancel;
    int32_t decay, decay_shift;  // decay == 1 << decay_shift: v stays
    int32_t up, down;
    int spacing_shift;  // all spacings are 1 << it, or -1
    bool narrow;        // charge·count fits 31 bits
};

struct ConvRun {
    int64_t x;    // offset of the first pixel, in elements
    int64_t row;  // of out
};

// A scaling without bounds in a neuron: ((x·m_c + half) >> shift) + b_c in 32 or 64 bits; SHIFTED: m is 1 and b is 0.
enum Scaling { AS_IT_IS, SHIFTED_32, SCALED_32, SCALED_64 };
struct SpikeScale {
    Scaling kind = AS_IT_IS;
    const int32_t *m, *b;   // [channels], whole lanes; b null where there is none
    const int64_t* addend;  // SCALED_64: half + (b << shift), 8 even channels, then 8 odd ones, and so on
    int shift;
};

// A current that a neuron sums: numbers of a tile, scaled or as they are.
struct SpikeTerm {
    const void* x;     // [steps][rows][channels]
    int width;         // bytes of a number: 4, or 1
    bool is_unsigned;  // of 1 byte
    int64_t step;      // numbers from one step to the next; 0 where all are the same
    SpikeScale scale;
};

// All steps of a neuron at once, from scaled sums to stored spikes: the membrane stays in a register.
struct SpikeArgs {
    SpikeTerm terms[2];
    int nterms;
    SpikeScale outer;      // of their sum
    FireArgs fire;         // without floor; cancel only where it is signed, a gate where many levels reset to 0; spikes as they are
    int32_t* v;            // [rows][channels]; null: it begins with `initial` and is not kept
    int32_t* sent;         // as v, of what cancels; begins with 0
    const int32_t* initial;  // [channels], or null for 0
    unsigned char* out;    // a byte a spike
    int64_t out_step;      // bytes from one step to the next
    int64_t rows, steps;
    int channels;
};

// FORM_BITS: the operand of a step is planes of bits, each with the pixels side by side, a pixel's channels from bit 0 of its
// first byte on and zeros behind them. x = Σ 2^p·plane_p, the last plane negative where numbers have a sign, so that bits of
// 0 are the number 0 and a border needs no correction.
enum BitWeights {
    BIT_PLANES,   // w = base + unit·Σ 2^q·plane_q
    BIT_TERNARY,  // w = unit·(plane_0 − plane_1)
    BIT_SIGNS,    // x is ternary, its planes are "not 0" and "negative"; w = base where plane_0 is 0, −base where it is 1
    BIT_BOTH,     // both are ternary: x as before, w = unit·(plane_0 − 2·plane_1)
};
struct BitForm {
    BitWeights kind;
    int planes;         // of x
    bool is_signed;     // x
    int weight_planes;
    int32_t base, unit;  // modulo 2^32; unit of BIT_SIGNS is −2·base
    int64_t plane;      // bytes from a plane of x to the next
    std::vector<int64_t> taps;  // pixels from the first one of a window to the others
};

// Sums over a padded operand: out[r][o] = bias_o + Σ_s Σ_i w·x[base + r·step + segment_s + i].
// `weight` is what `pack` made of this kernel's layout; channels [o0, o0 + outputs) are written.
struct ConvArgs {
    const void* x;            // operand at the first pixel of a run
    const void* weight;       // packed, at its first output block
    const int32_t* bias;      // [O], with what an offset of x adds taken off
    const int32_t* segments;  // offsets into the operand, in elements
    int nsegments, length;    // elements of a segment
    int64_t whole;            // 4-byte units of a segment in packed weights; those beyond its length are 0
    int64_t step;             // elements between neighbouring pixels
    int rows;                 // pixels
    int outputs;              // of this call
    int64_t weight_width;     // outputs of the whole layer: rows of unpacked weights
    int64_t width;            // numbers between rows of out
    int pairs;                // FORM_U8: sums of two products that 16 bits hold, added up
    // FORM_BITS: elements are bytes, a segment is read in words of 4 that may go beyond its end, where weights are 0;
    // packed: blocks of `lanes` outputs, then segment, word, plane, output; `whole` counts words of all planes.
    const BitForm* bits;
    const int32_t* sums;      // of every pixel, as BitSumsFn makes them; read where base is not 0
    int64_t sums_step;        // between neighbouring outputs
    int32_t* out;
    // For kernels with `tiles`: many runs of pixels in one call. They may go over the end of a row of the image: of every
    // `period` pixels, counted from `phase`, the first `valid` ones are outputs, the others are left out. period 0: all are.
    const ConvRun* runs;
    int nruns;
    int64_t period, valid, phase;
};

// Depthwise: one input channel an output channel; taps are segments of length 1.
struct DepthwiseArgs {
    const void* x;
    const int32_t* weight;  // [taps][C]
    const int32_t* bias;    // [C]
    const int32_t* taps;
    int ntaps, channels;
    int64_t step;
    int rows;
    int32_t* out;
};

// Event-driven sums of FORM_GATHER, one step: out[place][o] = bias_o + Σ value·w over what is not 0 of the pixels that a
// place reads. `lists` are rows of the padded operand, `row_bytes` apart: where the events of every pixel begin, then, at
// `index_at`, their places in the row, and at `value_at` their numbers of 8 bits, of which 32 more may be read.
struct GatherArgs {
    const unsigned char* lists;
    int64_t row_bytes, index_at, value_at;
    bool linear;       // one list of a pixel for all; 4 events more are 0
    bool is_unsigned;  // numbers are 0 … 255, else -128 … 127
    int most;          // no magnitude of a number is larger
    uint16_t zero;     // number of a row of weights that are 0
    int kernel_y, kernel_x;
    int64_t stride_y, stride_x, dilation_y, dilation_x, channels;
    int64_t width;          // places of a row of the output
    int64_t place, places;  // of this call
    const unsigned char* weight;  // at the first output: a row of bytes for every channel of every tap
    int64_t stride;               // bytes between rows
    const int32_t* bias;
    int outputs;        // of this call
    int64_t out_width;  // numbers between places of out
    int32_t* out;
};

typedef int64_t (*RescaleFn)(int32_t* y, const int32_t* x, int64_t rows, int channels, const RescaleArgs& a);
typedef int64_t (*RescaleWideFn)(int32_t* y, const int64_t* x, int64_t rows, int channels, const RescaleArgs& a);
typedef int64_t (*FireFn)(int32_t* s, int32_t* u, const int32_t* x, int32_t* v, int32_t* sent, int64_t rows,
                          int channels, const FireArgs& a);
typedef void (*AddFn)(int32_t* y, const int32_t* x, int64_t n);  // y += x modulo 2^32
typedef void (*FoldFn)(int32_t* y, const void* x, int dtype, int64_t n);  // y = y + x, or max(y, x)
typedef void (*LoadFn)(int32_t* y, const void* x, int dtype, int64_t n);
typedef void (*StoreFn)(void* y, const int32_t* x, int dtype, int64_t n);
// Operand of a convolution: numbers of a row, plus an offset, in the form of the kernel (int32, uint8 or int16).
typedef void (*OperandFn)(void* y, const void* x, int dtype, int64_t n, int32_t offset);
// Bits 0 … planes − 1 of numbers [pixels][channels], as FORM_BITS has them; planes lie `plane` bytes apart.
typedef void (*BitsFn)(unsigned char* y, const void* x, int dtype, int64_t pixels, int64_t channels, int planes,
                       int64_t plane);
// Of planes of bits: sums of the numbers in `bytes` bytes of every pixel, or of the first plane alone for BIT_SIGNS. A pixel
// has `pixel` bytes.
typedef void (*BitSumsFn)(int32_t* sums, const unsigned char* x, int64_t pixels, int64_t pixel, int64_t bytes,
                          const BitForm& f);
typedef int64_t (*SpikeFn)(const SpikeArgs& a);
// Real numbers to levels of an input: y = clip(round_half(x·factor), low, high), halves away from zero; false where one
// is no finite number.
typedef bool (*QuantizeFn)(void* y, const float* x, int dtype, int64_t n, double factor, int32_t low, int32_t high);
typedef void (*ConvFn)(const ConvArgs& a);
typedef void (*DepthwiseFn)(const DepthwiseArgs& a);
typedef void (*GatherFn)(const GatherArgs& a);
// Events of `count` numbers of 8 bits, the first of which is number `first` of its row; returns how many.
typedef int (*ListFn)(const unsigned char* x, int64_t count, int64_t first, uint16_t* index, unsigned char* value);

enum Form {
    FORM_I32 = 0,
    FORM_U8 = 1,
    FORM_I16 = 2,
    FORM_WIDE = 3,
    FORM_DEPTHWISE = 4,
    FORM_BITS = 5,
    FORM_GATHER = 6,
    FORMS = 7
};

struct Kernels {
    RescaleFn rescale;
    RescaleWideFn rescale_wide;
    FireFn fire;
    AddFn add;
    FoldFn sum, maximum;
    LoadFn load;
    StoreFn store;
    OperandFn operand[FORMS];
    ConvFn conv[FORMS];  // by form of the operand; null where this instruction set has none
    DepthwiseFn depthwise;
    SpikeFn spike;  // or null
    QuantizeFn quantize;
    bool tiles;  // FORM_U8: segments are cut into equal parts of at most 64 bytes; a call has many runs
    int lanes;       // outputs of a block of packed weights
    bool saturates;  // FORM_U8 adds two products in 16 bits, so a proof must say that they fit
    BitsFn bits;     // operand of FORM_BITS
    BitSumsFn bit_sums;
    ListFn list;
    GatherFn gather;
    int gather_lanes;            // outputs of a block of a row of weights: bytes of a vector, or 1
    unsigned char gather_flip;   // what weights of FORM_GATHER are xored with
};

extern const Kernels SCALAR_KERNELS;
extern const Kernels AVX2_KERNELS, AVX512VNNI_KERNELS, NEON_KERNELS, NEONDOT_KERNELS;  // where the build has them
#if defined(BITSPIKE_AVX512VNNI)
void conv_u8_avx512vnni(const ConvArgs& a);
#endif
#if defined(BITSPIKE_AVX512POPCNT)
const Kernels& avx512popcnt_kernels();
#endif
#if defined(BITSPIKE_AMX)
const Kernels& amx_kernels();
bool amx_allowed();  // asks the system once
#endif

// Numbers of the names in src/bitspike/runtime/engine/library.py.
enum EngineIsa {
    ENGINE_SCALAR,
    ENGINE_AVX2,
    ENGINE_AVX512VNNI,
    ENGINE_AVX512POPCNT,
    ENGINE_AMX,
    ENGINE_NEON,
    ENGINE_NEONDOT,
    ENGINE_ISAS
};

// Kernels of an instruction set, or null where this build or this CPU lacks it.
const Kernels* kernels_of(int isa);
const char* isa_name(int isa);

// Layout of packed weights of FORM_U8 and FORM_I16: blocks of `lanes` outputs, then depth by 4 bytes, then output.
// The widest; tiles begin at multiples of it.
constexpr int LANES = 16;
constexpr int MAX_GATHER_LANES = 64;

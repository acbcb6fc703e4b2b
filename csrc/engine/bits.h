// Convolutions over planes of bits: what is the same for all instruction sets.

#pragma once

#include <functional>

#include "program.h"
#include "sample.h"

// What sums of whole windows add to the outputs of `rows` pixels from the one at `row` on.
[[maybe_unused]] static inline void bit_windows(const ConvArgs& a, int row, int rows, uint32_t* to) {
    for (int r = 0; r < rows; ++r) to[r] = 0;
    if (!a.bits->base) return;
    for (int64_t tap : a.bits->taps) {
        const int32_t* from = a.sums + tap + row * a.sums_step;
        if (a.sums_step == 1) {
            for (int r = 0; r < rows; ++r) to[r] += uint32_t(from[r]);
        } else {
            for (int r = 0; r < rows; ++r) to[r] += uint32_t(from[r * a.sums_step]);
        }
    }
    for (int r = 0; r < rows; ++r) to[r] *= uint32_t(a.bits->base);
}

// Packs the weights of an operation of FORM_BITS; false where planes of bits do not hold them. A segment has `taps` pixels
// of `inputs` numbers; `weight` takes an output and a place in the depth.
bool prepare_bits(const Program& p, Op& op, int64_t taps, int64_t pixel,
                  const std::function<int32_t(int64_t, int64_t)>& weight);

void conv_bits_avx2(const ConvArgs& a);
void conv_bits_avx512vnni(const ConvArgs& a);
void pack_bits_avx2(unsigned char* y, const void* x, int dtype, int64_t pixels, int64_t channels, int planes, int64_t plane);
void pack_bits_avx512vnni(unsigned char* y, const void* x, int dtype, int64_t pixels, int64_t channels, int planes, int64_t plane);

// A row of the operand with its border.
void bits_row(const Sample& s, const Op& op, int64_t step, int64_t row);

// What a store has written of a tile of whole pixels.
void feed_bits(const Sample& s, const Op& op, const Tile& tile);

// Bytes of a pixel in one plane; bytes of the sums, [steps][groups][pixels] before the planes.
inline int64_t bits_pixel(int64_t channels) { return (channels + 7) / 8; }
inline int64_t sums_bytes(const Op& op, const Value& x) { return x.capacity * op.at[0] * op.at[12] * op.at[13] * 4; }

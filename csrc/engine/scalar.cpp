// The definition of every kernel.

#include <algorithm>
#include <cstring>

#include "bits.h"
#include "kernels.h"
#include "program.h"

namespace {
#include "gather.inc"
#include "gather_plain.inc"
#include "generic.inc"
}  // namespace

const Kernels SCALAR_KERNELS = {
    rescale,
    rescale_wide,
    fire,
    add,
    sum,
    maximum,
    load,
    store,
    {operand<int32_t>, nullptr, nullptr, operand<int32_t>, operand<int32_t>, nullptr},
    {conv_i32, nullptr, nullptr, conv_wide, nullptr, conv_bits<8>},
    depthwise,
    nullptr,
    quantize,
    false,
    8,
    false,
    pack_bits,
    bit_sums,
    list_events<NotZero>,
    gather<Sum>,
    1,
    0,
};

// The definition of every kernel.

#include <cstring>

#include "kernels.h"
#include "program.h"

namespace {
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
    {operand<int32_t>, nullptr, nullptr, operand<int32_t>, operand<int32_t>},
    {conv_i32, nullptr, nullptr, conv_wide, nullptr},
    depthwise,
    nullptr,
    quantize,
    false,
    1,
    false,
};

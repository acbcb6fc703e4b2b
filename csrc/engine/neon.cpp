// 64-bit ARM as it always is.

#include "neon.inc"

const Kernels NEON_KERNELS = NEON_TABLE;

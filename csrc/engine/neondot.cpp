// 64-bit ARM with dot products of 4 bytes a lane (FEAT_DotProd).

#include "neon.inc"

#if !defined(__ARM_FEATURE_DOTPROD)
#error built without dot products
#endif

const Kernels NEONDOT_KERNELS = NEON_TABLE;

// Which instruction set the kernels use, and how a function is exported.

#pragma once

enum Isa { ISA_SCALAR = 0, ISA_AVX2 = 1, ISA_AVX512 = 2 };

// The instruction set in use: the best one that this build holds and this CPU runs, unless bitspike_set_isa capped it.
int bitspike_current_isa();

#if defined(_WIN32)
#define BITSPIKE_EXPORT extern "C" __declspec(dllexport)
#else
#define BITSPIKE_EXPORT extern "C" __attribute__((visibility("default")))
#endif

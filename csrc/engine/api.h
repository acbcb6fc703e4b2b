// What the library exports; src/bitspike/runtime/engine/library.py says the same in ctypes.

#pragma once

#include <cstdint>

#if defined(_WIN32)
#define ENGINE_EXPORT extern "C" __declspec(dllexport)
#else
#define ENGINE_EXPORT extern "C" __attribute__((visibility("default")))
#endif

ENGINE_EXPORT int bitspike_engine_abi(void);

// Name of an instruction set, or null where this build or this CPU lacks it.
ENGINE_EXPORT const char* bitspike_engine_isa(int isa);

ENGINE_EXPORT void* bitspike_engine_create(const int64_t* words, int64_t count, const int32_t* const* tables,
                                           const int64_t* lengths, int64_t ntables, int isa, const char** error);
ENGINE_EXPORT void bitspike_engine_free(void* given);

// The state of so many samples before the first step.
ENGINE_EXPORT void bitspike_engine_reset(const void* given, unsigned char* states, int64_t batch);

// Bytes that a call of so many samples takes beside states, inputs and outputs.
ENGINE_EXPORT int64_t bitspike_engine_workspace(const void* given, int64_t batch, int threads);

// Of a group: bytes of its packed weights, tiles, bytes of the buffers of one thread.
ENGINE_EXPORT void bitspike_engine_group(const void* given, int64_t group, int64_t* facts);

// How real inputs become levels, as QuantizeFn of kernels.h; called once, before all that uses it.
ENGINE_EXPORT void bitspike_engine_scale(void* given, double factor, int32_t low, int32_t high);

// Real numbers to levels of the input, in its type; 1 where one is not finite.
ENGINE_EXPORT int bitspike_engine_quantize(const void* given, void* y, const float* x, int64_t n);

// `profile`: null, or [groups + 2] nanoseconds that are added to: groups, then input and output. The rest as in run.h.
ENGINE_EXPORT int bitspike_engine_run(void* given, const void* x, int real, int64_t step_stride, int64_t batch_stride,
                                      int64_t steps, int held, int64_t batch, unsigned char* states, int64_t* out,
                                      int64_t* clamped, int threads, int64_t* profile, int64_t* out_steps);

// Multiply-accumulates a second of so many threads: the best of several tries.
ENGINE_EXPORT double bitspike_engine_peak(int isa, int threads, int tries);

// Working memory of a thread, kept between calls.

#pragma once

#include <cstdint>

// At least `floats` floats, uninitialised, valid until this thread asks again.
float* scratch(int64_t floats);

// Large buffers for results, kept for the next call: giving them to the system and taking them back costs a page fault
// for every 4 KiB. They start at a huge page where the system has such pages.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "isa.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

// `bytes` bytes at a multiple of `align` (a power of two, of which `bytes` is a multiple), or null.
BITSPIKE_EXPORT void* bitspike_buffer_new(int64_t bytes, int64_t align) {
#if defined(_WIN32)
    return _aligned_malloc(size_t(bytes), size_t(align));
#else
    void* buffer = nullptr;
    if (posix_memalign(&buffer, size_t(align), size_t(bytes))) return nullptr;
#if defined(__linux__) && defined(MADV_HUGEPAGE)
    if (align >= 1 << 21) madvise(buffer, size_t(bytes), MADV_HUGEPAGE);  // a hint: a system without them goes on
#endif
    return buffer;
#endif
}

BITSPIKE_EXPORT void bitspike_buffer_free(void* buffer) {
#if defined(_WIN32)
    _aligned_free(buffer);
#else
    std::free(buffer);
#endif
}

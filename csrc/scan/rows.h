// Rows of a block as float32, whatever they are in memory.

#pragma once

#include <cstring>

#include "kernels.h"

namespace {

constexpr int64_t MAX_BLOCK = 4096;

inline void prefetch(const void* at) {
#if defined(__GNUC__)
    __builtin_prefetch(at);
#else
    (void)at;
#endif
}

// A row to read, of float32 or, where `half` is not null, of bfloat16, and the one that is read after it, which is
// fetched early: hardware stops at the end of a page.
struct Ahead {
    static constexpr int64_t DISTANCE = 512;
    const float *row, *next;
    int64_t n;
    const uint16_t *half = nullptr, *half_next = nullptr;

    template <class T> static const T* fetched(const T* row, const T* next, int64_t n, int64_t i) {
        prefetch(i + DISTANCE < n ? row + i + DISTANCE : next + (i + DISTANCE - n));
        return row + i;
    }
};

// The vector at element i of a row.
template <class V> inline typename V::reg take(const Ahead& of, int64_t i) {
    return of.half ? V::load_bf16(Ahead::fetched(of.half, of.half_next, of.n, i))
                   : V::load(Ahead::fetched(of.row, of.next, of.n, i));
}

// A row of a block as float32: the memory itself, or a buffer that is filled before and written back after. Whole vectors
// of bfloat16 are read from memory, too.
template <class V> class Row {
    alignas(64) float buffer[MAX_BLOCK + 64];  // a whole vector is cleared behind the last element
    const int64_t element;

    bool direct(int64_t n) const { return element == FLOAT32 && n % V::W == 0; }

  public:
    explicit Row(int64_t element_) : element(element_) {}

    // n elements of the row at `at`, of a sequence whose next row lies `onward` elements on (0: there is none).
    Ahead read(const void* base, int64_t at, int64_t n, int64_t onward) {
        const float* wide = static_cast<const float*>(base) + at;
        const uint16_t* half = static_cast<const uint16_t*>(base) + at;
        if (n % V::W) return Ahead{copied(base, at, n), buffer, n};
        return element == FLOAT32 ? Ahead{wide, wide + onward, n} : Ahead{nullptr, nullptr, n, half, half + onward};
    }

    const float* copied(const void* base, int64_t at, int64_t n) {
        const float* wide = static_cast<const float*>(base) + at;
        std::memset(buffer + n / V::W * V::W, 0, V::W * sizeof(float));
        if (element == FLOAT32) {
            std::memcpy(buffer, wide, n * sizeof(float));
            return buffer;
        }
        const uint16_t* half = static_cast<const uint16_t*>(base) + at;
        int64_t i = 0;
        for (; i + V::W <= n; i += V::W) V::store(buffer + i, V::load_bf16(half + i));
        if (i < n) {
            uint16_t lane[V::W] = {};
            std::memcpy(lane, half + i, (n - i) * sizeof(uint16_t));
            V::store(buffer + i, V::load_bf16(lane));
        }
        return buffer;
    }

    float* place(void* base, int64_t at, int64_t n) {
        return direct(n) ? static_cast<float*>(base) + at : buffer;
    }

    void write(void* base, int64_t at, int64_t n) const {
        if (direct(n)) return;
        if (element == FLOAT32) {
            std::memcpy(static_cast<float*>(base) + at, buffer, n * sizeof(float));
            return;
        }
        uint16_t* half = static_cast<uint16_t*>(base) + at;
        int64_t i = 0;
        for (; i + V::W <= n; i += V::W) V::store_bf16(half + i, V::load(buffer + i));
        if (i < n) {
            uint16_t lane[V::W];
            V::store_bf16(lane, V::load(buffer + i));
            std::memcpy(half + i, lane, (n - i) * sizeof(uint16_t));
        }
    }
};

}  // namespace

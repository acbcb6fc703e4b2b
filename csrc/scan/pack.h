// Levels of spikes as 1, 2, 4 or 8 bits each, least significant bits first, and back. Plain loops: the compiler turns
// them into the vectors of the instruction set whose file includes this.

#pragma once

#include <atomic>
#include <cstring>

#include "kernels.h"
#include "parallel.h"

namespace {

constexpr int64_t PACK_BLOCK = 1 << 15;  // elements of one task
constexpr int64_t CODES = 2048;          // elements at a time

// Returns 0 where every code gives its value back. NaN becomes code 0, whose value is not NaN.
inline int32_t levels_to_codes(const PackArgs& a, const float* s, uint8_t* codes, int64_t n) {
    const float inverse = float(a.inverse), factor = float(a.factor), offset = 0.5f - float(a.low);
    const int32_t low = int32_t(a.low), most = (1 << a.bits) - 1;
    int32_t wrong = 0;
    for (int64_t i = 0; i < n; ++i) {
        const float place = s[i] * inverse + offset;
        const int32_t code = int32_t(place > 0.0f ? (place < 256.0f ? place : 256.0f) : 0.0f);
        codes[i] = uint8_t(code);
        wrong |= int32_t(code > most) | int32_t(!(float(code + low) * factor == s[i]));
    }
    return wrong;
}

inline void codes_to_levels(const uint8_t* codes, float* s, int64_t n, int32_t low, float factor) {
    for (int64_t i = 0; i < n; ++i) s[i] = float(int32_t(codes[i]) + low) * factor;
}

// Bytes that hold small numbers, 8 / bits of them to one byte; n is a multiple of 8.
inline void squeeze(const uint8_t* codes, uint8_t* packed, int64_t n, int64_t bits) {
    if (bits == 8) {
        std::memcpy(packed, codes, size_t(n));
    } else if (bits == 4) {
        for (int64_t i = 0; i < n; i += 2) packed[i / 2] = uint8_t(codes[i] | codes[i + 1] << 4);
    } else if (bits == 2) {  // the product moves field i of a byte each to bits 24 + 2i
        for (int64_t i = 0; i < n; i += 4) {
            uint32_t four;
            std::memcpy(&four, codes + i, 4);
            packed[i / 4] = uint8_t(four * 0x01041040u >> 24);
        }
    } else {  // the product moves bit 0 of byte i to bit 56 + i
        for (int64_t i = 0; i < n; i += 8) {
            uint64_t eight;
            std::memcpy(&eight, codes + i, 8);
            packed[i / 8] = uint8_t(eight * 0x0102040810204080u >> 56);
        }
    }
}

inline void spread(const uint8_t* packed, uint8_t* codes, int64_t n, int64_t bits) {
    if (bits == 8) {
        std::memcpy(codes, packed, size_t(n));
    } else if (bits == 4) {
        for (int64_t i = 0; i < n; i += 2) {
            codes[i] = packed[i / 2] & 15;
            codes[i + 1] = packed[i / 2] >> 4;
        }
    } else if (bits == 2) {
        for (int64_t i = 0; i < n; i += 4) {
            const uint32_t four = packed[i / 4];
            const uint32_t bytes = (four | four << 6 | four << 12 | four << 18) & 0x03030303u;
            std::memcpy(codes + i, &bytes, 4);
        }
    } else {
        for (int64_t i = 0; i < n; i += 8) {  // byte i keeps bit i, then becomes 0 or 1
            uint64_t eight = packed[i / 8] * 0x0101010101010101u & 0x8040201008040201u;
            eight = (eight + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
            std::memcpy(codes + i, &eight, 8);
        }
    }
}

template <class F> void over_pieces(const PackArgs& a, F body) {
    const int64_t blocks = (a.size + PACK_BLOCK - 1) / PACK_BLOCK;
    struct Context {
        const PackArgs& a;
        F& body;
    } context{a, body};
    parallel_blocks(
        long(blocks), int(a.threads),
        [](void* raw, long index, long) {
            Context& c = *static_cast<Context*>(raw);
            const int64_t begin = index * PACK_BLOCK;
            const int64_t end = begin + PACK_BLOCK < c.a.size ? begin + PACK_BLOCK : c.a.size;
            uint8_t codes[CODES];
            for (int64_t at = begin; at < end; at += CODES) c.body(codes, at, at + CODES < end ? CODES : end - at);
        },
        &context);
}

inline int64_t pack_levels(const PackArgs& a) {
    std::atomic<int32_t> wrong{0};
    over_pieces(a, [&](uint8_t* codes, int64_t at, int64_t n) {
        if (levels_to_codes(a, a.levels + at, codes, n)) wrong.store(1, std::memory_order_relaxed);
        const int64_t whole = n / 8 * 8;
        uint8_t* packed = a.packed + at * a.bits / 8;
        squeeze(codes, packed, whole, a.bits);
        if (whole < n) {
            uint8_t last[8] = {}, bytes[8];
            std::memcpy(last, codes + whole, size_t(n - whole));
            squeeze(last, bytes, 8, a.bits);
            std::memcpy(packed + whole * a.bits / 8, bytes, size_t(((n - whole) * a.bits + 7) / 8));
        }
    });
    return wrong.load(std::memory_order_relaxed);
}

inline void unpack_levels(const PackArgs& a) {
    over_pieces(a, [&](uint8_t* codes, int64_t at, int64_t n) {
        const int64_t whole = n / 8 * 8;
        const uint8_t* packed = a.packed + at * a.bits / 8;
        spread(packed, codes, whole, a.bits);
        if (whole < n) {
            uint8_t last[8] = {}, bytes[8];
            std::memcpy(last, packed + whole * a.bits / 8, size_t(((n - whole) * a.bits + 7) / 8));
            spread(last, bytes, 8, a.bits);
            std::memcpy(codes + whole, bytes, size_t(n - whole));
        }
        codes_to_levels(codes, a.levels + at, n, int32_t(a.low), float(a.factor));
    });
}

}  // namespace

// AMX: tiles of 16 pixels × 64 bytes of depth times 64 bytes of depth × 16 outputs. A tile of pixels is read where it lies:
// its rows are neighbouring pixels of the padded operand. All else is that of AVX-512.

#include <immintrin.h>

#include <algorithm>
#include <cstring>

#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "kernels.h"

namespace {

struct alignas(64) TileConfig {
    uint8_t palette = 1, start = 0, reserved[14] = {};
    uint16_t bytes[16] = {};
    uint8_t rows[16] = {};
};

// Sums 0 … 3, pixels 4 and 5, weights 6 and 7; a part of a segment has `units` times 4 bytes.
void configure(int units) {
    TileConfig config;
    for (int i = 0; i < 8; ++i) {
        config.rows[i] = uint8_t(i < 6 ? 16 : units);
        config.bytes[i] = uint16_t(i == 4 || i == 5 ? units * 4 : 64);
    }
    _tile_loadconfig(&config);
}

struct Place {
    const ConvArgs& a;
    const unsigned char* x;  // first pixel
    const unsigned char* w;  // first block of outputs
    int64_t stride;          // bytes between blocks of outputs
    int units;               // of a part
    int parts;               // of a segment
    int row;                 // pixel of the run
    int output;
};

void write_rows(const ConvArgs& a, const int32_t* part, int row, int output) {
    const int outputs = std::min(LANES, a.outputs - output), rows = std::min(16, a.rows - row);
    const __mmask16 some = __mmask16((1u << outputs) - 1);
    for (int r = 0; r < rows; ++r, part += 16) {
        int64_t to = row + r;
        if (a.period) {
            const int64_t place = a.phase + row + r, line = place / a.period, inside = place % a.period;
            if (inside >= a.valid) continue;
            to = line * a.valid + inside - a.phase;
        }
        _mm512_mask_storeu_epi32(a.out + to * a.width + output, some, _mm512_loadu_si512(part));
    }
}

// Numbers of tiles must be literals, hence macros. A tile of sums is written at once where all of it is output.
#define STORE_SUMS(TILE, PIXELS, BLOCK)                                                       \
    do {                                                                                      \
        const int row = at.row + (PIXELS)*16, output = at.output + (BLOCK)*LANES;             \
        if (!a.period && row + 16 <= a.rows && output + LANES <= a.outputs) {                 \
            _tile_stored(TILE, a.out + row * a.width + output, int64_t(a.width) * 4);         \
        } else {                                                                              \
            alignas(64) int32_t part[256];                                                    \
            _tile_stored(TILE, part, 64);                                                     \
            write_rows(a, part, row, output);                                                 \
        }                                                                                     \
    } while (0)
#define LOAD_X(TILE, PIXELS) _tile_loadd(TILE, x + (PIXELS)*16 * a.step, a.step)
#define LOAD_W(TILE, BLOCK) _tile_loadd(TILE, w + (BLOCK)*at.stride, 64)
#define LOAD_BIAS(TILE, BLOCK) _tile_loadd(TILE, a.bias + at.output + (BLOCK)*LANES, 0)
#define FOR_ALL_DEPTH                                        \
    const unsigned char* w = at.w;                           \
    for (int s = 0; s < a.nsegments; ++s) {                  \
        const unsigned char* x = at.x + a.segments[s];       \
        for (int k = 0; k < at.parts; ++k, w += at.units * 64, x += at.units * 4)

void block_2_2(const Place& at) {
    const ConvArgs& a = at.a;
    LOAD_BIAS(0, 0);
    LOAD_BIAS(1, 1);
    LOAD_BIAS(2, 0);
    LOAD_BIAS(3, 1);
    FOR_ALL_DEPTH {
        LOAD_X(4, 0);
        LOAD_W(6, 0);
        _tile_dpbusd(0, 4, 6);
        LOAD_W(7, 1);
        _tile_dpbusd(1, 4, 7);
        LOAD_X(5, 1);
        _tile_dpbusd(2, 5, 6);
        _tile_dpbusd(3, 5, 7);
    }}
    STORE_SUMS(0, 0, 0);
    STORE_SUMS(1, 0, 1);
    STORE_SUMS(2, 1, 0);
    STORE_SUMS(3, 1, 1);
}

void block_4_1(const Place& at) {
    const ConvArgs& a = at.a;
    LOAD_BIAS(0, 0);
    LOAD_BIAS(1, 0);
    LOAD_BIAS(2, 0);
    LOAD_BIAS(3, 0);
    FOR_ALL_DEPTH {
        LOAD_W(6, 0);
        LOAD_X(4, 0);
        _tile_dpbusd(0, 4, 6);
        LOAD_X(5, 1);
        _tile_dpbusd(1, 5, 6);
        LOAD_X(4, 2);
        _tile_dpbusd(2, 4, 6);
        LOAD_X(5, 3);
        _tile_dpbusd(3, 5, 6);
    }}
    STORE_SUMS(0, 0, 0);
    STORE_SUMS(1, 1, 0);
    STORE_SUMS(2, 2, 0);
    STORE_SUMS(3, 3, 0);
}

void block_1_2(const Place& at) {
    const ConvArgs& a = at.a;
    LOAD_BIAS(0, 0);
    LOAD_BIAS(1, 1);
    FOR_ALL_DEPTH {
        LOAD_X(4, 0);
        LOAD_W(6, 0);
        _tile_dpbusd(0, 4, 6);
        LOAD_W(7, 1);
        _tile_dpbusd(1, 4, 7);
    }}
    STORE_SUMS(0, 0, 0);
    STORE_SUMS(1, 0, 1);
}

void block_1_1(const Place& at) {
    const ConvArgs& a = at.a;
    LOAD_BIAS(0, 0);
    FOR_ALL_DEPTH {
        LOAD_X(4, 0);
        LOAD_W(6, 0);
        _tile_dpbusd(0, 4, 6);
    }}
    STORE_SUMS(0, 0, 0);
}

void conv(const ConvArgs& a) {
    if (a.rows < 8 && !a.period) return conv_u8_avx512vnni(a);
    const int blocks = (a.outputs + LANES - 1) / LANES, tiles = (a.rows + 15) / 16;
    const int parts = int((a.whole + 15) / 16), units = int(a.whole / parts);
    const int64_t stride = a.nsegments * a.whole * LANES * 4;
    const unsigned char *x = static_cast<const unsigned char*>(a.x), *w = static_cast<const unsigned char*>(a.weight);
    configure(units);
    auto place = [&](int tile, int block) {
        return Place{a, x + tile * 16 * a.step, w + block * stride, stride, units, parts, tile * 16, block * LANES};
    };
    int block = 0;
    for (; block + 2 <= blocks; block += 2) {
        int tile = 0;
        for (; tile + 2 <= tiles; tile += 2) block_2_2(place(tile, block));
        if (tile < tiles) block_1_2(place(tile, block));
    }
    if (block < blocks) {
        int tile = 0;
        for (; tile + 4 <= tiles; tile += 4) block_4_1(place(tile, block));
        for (; tile < tiles; ++tile) block_1_1(place(tile, block));
    }
    _tile_release();
}

Kernels made() {
    Kernels kernels = AVX512VNNI_KERNELS;
    kernels.conv[FORM_U8] = conv;
    kernels.tiles = true;
    return kernels;
}

}  // namespace

const Kernels& amx_kernels() {
    static const Kernels kernels = made();
    return kernels;
}

bool amx_allowed() {
#if defined(__linux__)
    constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;  // arch_prctl(2)
    static const bool allowed = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    return allowed;
#else
    return false;
#endif
}

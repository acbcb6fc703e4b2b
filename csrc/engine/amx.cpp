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

// A tile of 16 pixels: where it is read, and where its sums go.
struct Pixels {
    const unsigned char* x;
    int64_t out_row;  // of the run it belongs to
    int row;          // of its first pixel in the run
};

struct Place {
    const ConvArgs& a;
    const Pixels* pixels;
    const unsigned char* w;  // first block of outputs
    int64_t stride;          // bytes between blocks of outputs
    int units;               // of a part
    int parts;               // of a segment
    int output;
};

void write_rows(const ConvArgs& a, const int32_t* part, const Pixels& pixels, int output) {
    const int outputs = std::min(LANES, a.outputs - output), rows = std::min(16, a.rows - pixels.row);
    const __mmask16 some = __mmask16((1u << outputs) - 1);
    int32_t* out = a.out + pixels.out_row * a.width + output;
    if (!a.period) {
        out += pixels.row * a.width;
        for (int r = 0; r < rows; ++r, part += 16, out += a.width)
            _mm512_mask_storeu_epi32(out, some, _mm512_loadu_si512(part));
        return;
    }
    const int64_t place = a.phase + pixels.row;
    int64_t line = place / a.period, inside = place % a.period;
    for (int r = 0; r < rows; ++r, part += 16) {
        if (inside < a.valid)
            _mm512_mask_storeu_epi32(out + (line * a.valid + inside - a.phase) * a.width, some, _mm512_loadu_si512(part));
        if (++inside == a.period) {
            inside = 0;
            ++line;
        }
    }
}

// Numbers of tiles must be literals, hence macros. A tile of sums is written at once where all of it is output.
#define STORE_SUMS(TILE, PIXELS, BLOCK)                                                                       \
    do {                                                                                                      \
        const Pixels& pixels = at.pixels[PIXELS];                                                             \
        const int output = at.output + (BLOCK)*LANES;                                                         \
        if (!a.period && pixels.row + 16 <= a.rows && output + LANES <= a.outputs) {                          \
            _tile_stored(TILE, a.out + (pixels.out_row + pixels.row) * a.width + output, a.width * 4);        \
        } else {                                                                                              \
            alignas(64) int32_t part[256];                                                                    \
            _tile_stored(TILE, part, 64);                                                                     \
            write_rows(a, part, pixels, output);                                                              \
        }                                                                                                     \
    } while (0)
#define LOAD_X(TILE, PIXELS) _tile_loadd(TILE, at.pixels[PIXELS].x + x, a.step)
#define LOAD_W(TILE, BLOCK) _tile_loadd(TILE, w + (BLOCK)*at.stride, 64)
#define LOAD_BIAS(TILE, BLOCK) _tile_loadd(TILE, a.bias + at.output + (BLOCK)*LANES, 0)
#define FOR_ALL_DEPTH                            \
    const unsigned char* w = at.w;               \
    for (int s = 0; s < a.nsegments; ++s)        \
        for (int64_t k = 0, x = a.segments[s]; k < at.parts; ++k, w += at.units * 64, x += at.units * 4)

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
    }
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
    }
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
    }
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
    }
    STORE_SUMS(0, 0, 0);
}

void without_tiles(const ConvArgs& a) {  // too few pixels to fill one
    ConvArgs one = a;
    for (int i = 0; i < a.nruns; ++i) {
        one.x = static_cast<const unsigned char*>(a.x) + a.runs[i].x;
        one.out = a.out + a.runs[i].row * a.width;
        conv_u8_avx512vnni(one);
    }
}

void conv(const ConvArgs& a) {
    if (a.rows < 8 && !a.period) return without_tiles(a);
    constexpr int MANY = 256;  // tiles at a time, so that weights stay near
    const int blocks = (a.outputs + LANES - 1) / LANES, each = (a.rows + 15) / 16;
    const int parts = int((a.whole + 15) / 16), units = int(a.whole / parts);
    const int64_t stride = a.nsegments * a.whole * LANES * 4;
    const unsigned char *x = static_cast<const unsigned char*>(a.x), *w = static_cast<const unsigned char*>(a.weight);
    configure(units);
    Pixels pixels[MANY];
    for (int run = 0, tile = 0; run < a.nruns;) {
        int tiles = 0;
        for (; run < a.nruns && tiles < MANY; ++tiles) {
            pixels[tiles] = Pixels{x + a.runs[run].x + tile * 16 * a.step, a.runs[run].row, tile * 16};
            if (++tile == each) {
                tile = 0;
                ++run;
            }
        }
        int block = 0;
        auto place = [&](int i) {
            return Place{a, pixels + i, w + block * stride, stride, units, parts, block * LANES};
        };
        for (; block + 2 <= blocks; block += 2) {
            int i = 0;
            for (; i + 2 <= tiles; i += 2) block_2_2(place(i));
            if (i < tiles) block_1_2(place(i));
        }
        if (block < blocks) {
            int i = 0;
            for (; i + 4 <= tiles; i += 4) block_4_1(place(i));
            for (; i < tiles; ++i) block_1_1(place(i));
        }
    }
    _tile_release();
}

Kernels made() {
    Kernels kernels = avx512popcnt_kernels();
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

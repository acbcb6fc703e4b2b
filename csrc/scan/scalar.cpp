// The definition: plain C++ over eight lanes, for every machine. The other instruction sets must equal it bit for bit.

#include <cmath>

#include "adaptive.h"
#include "norm.h"
#include "pack.h"
#include "scan.h"

namespace {

struct Lanes {
    static constexpr int W = 8;
    struct reg { float lane[8]; };
    typedef uint8_t mask;

    template <class F> static reg each(F f) {
        reg r;
        for (int i = 0; i < 8; ++i) r.lane[i] = f(i);
        return r;
    }
    template <class F> static mask which(F f) {
        mask m = 0;
        for (int i = 0; i < 8; ++i) m |= mask(mask(f(i) ? 1 : 0) << i);
        return m;
    }
    static float from_bits(uint32_t bits) {
        float value;
        std::memcpy(&value, &bits, 4);
        return value;
    }
    static uint32_t to_bits(float value) {
        uint32_t bits;
        std::memcpy(&bits, &value, 4);
        return bits;
    }

    static reg set(float value) { return each([&](int) { return value; }); }
    static reg load(const float* p) { return each([&](int i) { return p[i]; }); }
    static void store(float* p, reg r) { std::memcpy(p, r.lane, sizeof r.lane); }
    static void stream(float* p, reg r) { store(p, r); }
    static reg load_bf16(const uint16_t* p) { return each([&](int i) { return from_bits(uint32_t(p[i]) << 16); }); }
    static void store_bf16(uint16_t* p, reg r) {
        for (int i = 0; i < 8; ++i) {
            uint32_t bits = to_bits(r.lane[i]);
            p[i] = r.lane[i] != r.lane[i] ? 0x7fc0 : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        }
    }
    static reg add(reg a, reg b) { return each([&](int i) { return a.lane[i] + b.lane[i]; }); }
    static reg sub(reg a, reg b) { return each([&](int i) { return a.lane[i] - b.lane[i]; }); }
    static reg mul(reg a, reg b) { return each([&](int i) { return a.lane[i] * b.lane[i]; }); }
    static reg div(reg a, reg b) { return each([&](int i) { return a.lane[i] / b.lane[i]; }); }
    static reg min(reg a, reg b) { return each([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; }); }
    static reg max(reg a, reg b) { return each([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; }); }
    static reg abs(reg a) { return each([&](int i) { return std::fabs(a.lane[i]); }); }
    static reg neg(reg a) { return each([&](int i) { return -a.lane[i]; }); }
    static reg floor(reg a) { return each([&](int i) { return std::floor(a.lane[i]); }); }
    static reg flip(reg a, reg sign) {  // a where sign is positive, -a where it is negative
        return each([&](int i) { return from_bits(to_bits(a.lane[i]) ^ (to_bits(sign.lane[i]) & 0x80000000u)); });
    }
    static reg power_of_two(reg n) {
        return each([&](int i) {  // of NaN: anything
            const float known = n.lane[i] == n.lane[i] ? n.lane[i] : 0.0f;
            return from_bits(uint32_t(int32_t(known) + 127) << 23);
        });
    }
    static mask ge(reg a, reg b) { return which([&](int i) { return a.lane[i] >= b.lane[i]; }); }
    static mask either(mask a, mask b) { return a | b; }
    static mask both(mask a, mask b) { return a & b; }
    static reg keep(mask m, reg a) { return each([&](int i) { return m >> i & 1 ? a.lane[i] : 0.0f; }); }
    static reg drop(mask m, reg a) { return each([&](int i) { return m >> i & 1 ? 0.0f : a.lane[i]; }); }
    static void store_bits(uint8_t* p, mask m) { *p = m; }
    static mask load_bits(const uint8_t* p) { return *p; }
};

}  // namespace

const Kernels scalar_kernels = {
    scan_forward<Lanes>, scan_backward_bits<Lanes>, scan_backward_again<Lanes>, pack_levels, unpack_levels,
    norm_forward<Lanes>, norm_backward<Lanes>, adaptive_forward<Lanes>, adaptive_backward<Lanes>, squeeze_forward<Lanes>,
    squeeze_backward<Lanes>};

"""Real numbers to the input's integers, without floating-point arithmetic."""

from __future__ import annotations

from bitspike.runtime.spec import Input

from .names import literal


def quantizer(given: Input, prefix: str) -> list[str]:
    """clip(round_half(x * m * 2^-s), low, high), halves away from zero, on the bits of a binary32; none without scale.

    |x| = f * 2^e with an f of 24 bits, m has 24 bits, so f * m fits 48 and is only shifted.
    """
    if given.scale is None:
        return []
    m, s = given.scale
    low, high = given.value.low, given.value.high
    return f"""
#ifndef {prefix.upper()}_NO_FLOAT
int {prefix}_quantize(const float *x, {prefix}_input *q)
{{
    for (uint32_t i = 0; i < {prefix.upper()}_INPUT_SIZE; i++) {{
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        const uint32_t field = bits >> 23 & 255u;
        if (field == 255u) return -1;
        const uint64_t product = (uint64_t)((bits & 0x7fffffu) | (field ? 0x800000u : 0u)) * {m}u;
        const int32_t e = (field ? (int32_t)field : 1) - {150 + s}; /* |x| * m * 2^-s = product * 2^e */
        uint64_t size = 0;
        if (e >= 0)
            size = product == 0 ? 0 : e > 40 || product > UINT64_C(0x100000000) >> (e > 32 ? 32 : e)
                                          ? UINT64_C(0x100000000) : product << e;
        else if (e > -64)
            size = (product + (UINT64_C(1) << (-e - 1))) >> -e;
        const int64_t level = bits >> 31 ? -(int64_t)size : (int64_t)size;
        const int64_t least = {literal(low)}, most = {literal(high)};
        q[i] = ({prefix}_input)(level < least ? least : level > most ? most : level);
    }}
    return 0;
}}
#endif""".split("\n")

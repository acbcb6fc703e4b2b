"""Signs and ternary weights on numbers of few bits: 32 places at a time, by counting bits."""

from __future__ import annotations

import numpy as np

from bitspike.runtime.arithmetic import Array

from .kernels import Kernel

COUNT = """
static uint32_t {name}(uint32_t a)
{{
    a -= a >> 1 & 0x55555555u;
    a = (a & 0x33333333u) + (a >> 2 & 0x33333333u);
    return ((a + (a >> 4)) & 0x0f0f0f0fu) * 0x01010101u >> 24;
}}
"""


class Planes(Kernel):
    """A number x is its sign and the bits of |x|: planes of 32-bit words, of which those without a bit are left out.

    Of signs w the sum is 2·Σ_b 2^b·#(plane_b and same) − Σ|x|, where a bit of "same" says that x and w have one sign:
    an exclusive or. Of ternary weights it is Σ_b 2^b·(2·#(plane_b and w ≠ 0 and same) − #(plane_b and w ≠ 0)).
    """

    def prepare(self) -> None:
        unit, count = self.f.unit, self.rows.shape[1]
        self.bits: int = magnitude_bits(self.x.low, self.x.high)
        self.signed: bool = self.x.low < 0
        self.size: int = self.bits + self.signed
        self.words: int = -(-count // 32)
        self.ternary: bool = bool((self.rows == 0).any())
        planes = [words(self.rows > 0)] if not self.ternary else [words(self.rows != 0), words(self.rows > 0)]
        self.step: int = len(planes)
        self.table: str = unit.constants.table(np.stack(planes, -1), np.uint32)
        self.planes: str = self.room("planes", self.words * self.size)
        self.at: str = self.room("at", self.words)
        counting = f"{unit.prefix}_bits"
        unit.kernels.setdefault(counting, COUNT.format(name=counting))
        self.name: str = (
            f"{unit.prefix}_{'ternary' if self.ternary else 'signs'}_{self.bits}{'s' if self.signed else ''}"
        )
        unit.kernels[self.name] = self._helper(counting)

    def _helper(self, counting: str) -> str:
        positive = "w[at[k] * 2u + 1u]" if self.ternary else "w[at[k]]"
        same = f"{positive} ^ planes[{self.bits}]" if self.signed else positive
        lines = [f"const uint32_t same = {same};"]
        if self.ternary:
            lines.append("const uint32_t some = w[at[k] * 2u];")
        for bit in range(self.bits):
            shift = f" << {bit}" if bit else ""
            if self.ternary:
                lines.append(f"const uint32_t a{bit} = planes[{bit}] & some;")
                lines.append(f"sum += ({counting}(a{bit} & same) * 2u - {counting}(a{bit})){shift};")
            else:
                lines.append(f"sum += {counting}(planes[{bit}] & same){shift};")
        body = "\n        ".join(lines)
        whole = "(int32_t)sum" if self.ternary else "(int32_t)(sum * 2u) - total"
        total = "" if self.ternary else ", int32_t total"
        if self.ternary:  # differences are summed modulo 2^32, and the sum is small
            whole = "sum > 0x7fffffffu ? -(int32_t)(0u - sum) : (int32_t)sum"
        return f"""
static int32_t {self.name}(const uint32_t *w, const uint32_t *planes, const uint16_t *at, uint32_t n{total})
{{
    uint32_t sum = 0;
    for (uint32_t k = 0; k < n; k++, planes += {self.size}) {{
        {body}
    }}
    return {whole};
}}
"""

    def begin(self) -> list[str]:
        clear = f"for (uint32_t k = 0; k < {self.words * self.size}u; k++) {self.planes}[k] = 0;"
        return [clear] if self.ternary else [clear, "int32_t total = 0;"]

    def each(self, number: str) -> list[str]:
        size = "m < 0 ? 0u - (uint32_t)m : (uint32_t)m" if self.signed else "(uint32_t)m"
        lines = [
            f"const int32_t m = {number};",
            "if (m == 0) continue;",
            f"uint32_t *a = {self.planes} + j / 32u * {self.size}u;",
            f"const uint32_t size = {size};",
        ]
        for bit in range(self.bits):
            lines.append(
                f"a[{bit}] |= (size >> {bit} & 1u) << j % 32u;" if self.bits > 1 else "a[0] |= size << j % 32u;"
            )
        if self.signed:
            lines.append(f"if (m < 0) a[{self.bits}] |= 1u << j % 32u;")
        return lines if self.ternary else [*lines, "total += (int32_t)size;"]

    def end(self) -> list[str]:
        some = " | ".join(f"a[{bit}]" for bit in range(self.bits))
        return [
            "uint32_t active = 0;",
            f"for (uint32_t k = 0; k < {self.words}u; k++) {{",
            f"const uint32_t *a = {self.planes} + k * {self.size}u;",
            f"if (({some}) == 0u) continue;",
            f"memmove({self.planes} + active * {self.size}u, a, {self.size}u * sizeof *a);",
            f"{self.at}[active++] = (uint16_t)k;",
            "}",
        ]

    def sums(self, block: str) -> str:
        rows = f"r < {self.block}u && n + r < {self.outputs}u" if self.outputs % self.block else f"r < {self.block}u"
        more = "" if self.ternary else ", total"
        call = (
            f"{self.name}({self.table} + (o + r) * {self.words * self.step}u, {self.planes}, {self.at}, active{more})"
        )
        return f"for (uint32_t r = 0; {rows}; r++) sums[r] = {call};"


def words(bits: Array) -> Array:
    """[O, K] of bool → uint32 [O, ⌈K/32⌉], the first place in the lowest bit.

    >>> words(np.array([[True, False, True]])).tolist()
    [[5]]
    """
    outputs, count = bits.shape
    held = np.zeros((outputs, -(-count // 32), 32), np.uint32)
    held.reshape(outputs, -1)[:, :count] = bits
    return np.asarray((held << np.arange(32, dtype=np.uint32)).sum(2, dtype=np.uint32))


def magnitude_bits(low: int, high: int) -> int:
    """Bits of the largest |x|, at least 1."""
    return max(max(-low, high).bit_length(), 1)

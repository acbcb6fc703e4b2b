"""Every number of a window, four at a time: 8-bit weights on what is seldom silent."""

from __future__ import annotations

import numpy as np

from .kernels import Kernel


class Dense(Kernel):
    """Weights of four places lie as 0, 2, 1, 3: two instructions of a Cortex-M with DSP widen them in pairs."""

    def prepare(self) -> None:
        outputs, count = self.rows.shape
        self.count: int = -(-count // 4) * 4
        padded = np.zeros((outputs, self.count), np.int8)
        padded[:, :count] = self.rows
        turned = padded.reshape(outputs, -1, 4)[:, :, [0, 2, 1, 3]]
        self.table: str = self.f.unit.constants.table(turned, np.int8)
        self.numbers: str = self.room("number", self.count)
        p = self.f.unit.prefix
        self.name: str = f"{p}_dense"
        self.f.unit.kernels[self.name] = f"""
#ifdef {p.upper()}_DSP
#ifdef __ARM_BIG_ENDIAN
#error "{p.upper()}_DSP reads four weights at once in the order of a little-endian machine: leave it out"
#endif
#include <arm_acle.h>
static int32_t {self.name}(const int8_t *w, const int16_t *x, uint32_t n)
{{
    int32_t sum = 0;
    for (uint32_t k = 0; k < n; k += 4) {{
        uint32_t quad, low, high;
        memcpy(&quad, w + k, sizeof quad);
        memcpy(&low, x + k, sizeof low);
        memcpy(&high, x + k + 2, sizeof high);
        sum = __smlad((int16x2_t)__sxtb16((int8x4_t)quad), (int16x2_t)low, sum);
        sum = __smlad((int16x2_t)__sxtb16((int8x4_t)(quad >> 8)), (int16x2_t)high, sum);
    }}
    return sum;
}}
#else
static int32_t {self.name}(const int8_t *w, const int16_t *x, uint32_t n)
{{
    int32_t sum = 0;
    for (uint32_t k = 0; k < n; k += 4) {{
        sum += x[k] * (int32_t)w[k] + x[k + 1] * (int32_t)w[k + 2];
        sum += x[k + 2] * (int32_t)w[k + 1] + x[k + 3] * (int32_t)w[k + 3];
    }}
    return sum;
}}
#endif
"""

    def begin(self) -> list[str]:
        return [f"for (uint32_t k = 0; k < {self.count}u; k++) {self.numbers}[k] = 0;"]

    def each(self, number: str) -> list[str]:
        return [f"{self.numbers}[j] = (int16_t){number};"]

    def end(self) -> list[str]:
        return []

    def sums(self, block: str) -> str:
        rows = f"r < {self.block}u && n + r < {self.outputs}u" if self.outputs % self.block else f"r < {self.block}u"
        row = f"(o + r) * {self.count}u"
        call = f"{self.name}({self.table} + {row}, {self.numbers}, {self.count}u)"
        return f"for (uint32_t r = 0; {rows}; r++) sums[r] = {call};"

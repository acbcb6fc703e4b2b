"""A list of what is not silent: any weights, of any bits."""

from __future__ import annotations

import numpy as np

from bitspike.runtime.arithmetic import storage
from bitspike.runtime.packing import pack
from bitspike.runtime.spec import Grid

from .kernels import Kernel
from .names import literal


class Events(Kernel):
    """A list of the places that are not silent; any weights, of any bits."""

    def prepare(self) -> None:
        unit, count = self.f.unit, self.rows.shape[1]
        self.wide = self.x.low < -32768 or self.x.high > 32767
        self.far = count > 65536
        self.at, self.number = ("far" if self.far else "at"), ("wide" if self.wide else "number")
        for member in (self.at, self.number):
            self.room(member, count)
        grid = self.constant.grid
        packed = grid is not None and grid.bits < 8
        if packed and grid is not None:
            self.table = unit.constants.table(np.append(pack(self.rows, grid), np.uint8(0)), np.uint8)
        else:
            low, high = int(self.rows.min()), int(self.rows.max())
            self.table = unit.constants.table(self.rows, storage(low, high))
        self.name = self._helper(grid if packed else None)

    def _helper(self, grid: Grid | None) -> str:
        unit, p = self.f.unit, self.f.unit.prefix
        at_type = "uint32_t" if self.far else "uint16_t"
        number_type = "int32_t" if self.wide else "int16_t"
        if grid is None:
            low, high = int(self.rows.min()), int(self.rows.max())
            kind = storage(low, high).name
            weight = "w[base + at[k]]"
            w_type, key = f"{kind}_t", kind
        else:
            bits = grid.bits
            mask = (1 << bits) - 1
            if 8 % bits == 0:
                code = f"((uint32_t)w[(base + at[k]) / {8 // bits}u] >> ((base + at[k]) % {8 // bits}u * {bits}u)) & {mask}u"
            else:
                place = f"(base + at[k]) * {bits}u"
                code = (
                    f"(((uint32_t)w[{place} / 8u] | (uint32_t)w[{place} / 8u + 1u] << 8) >> ({place} % 8u)) & {mask}u"
                )
            if grid.spacing == "power":
                levels = unit.constants.table(np.array(grid.levels))
                weight = f"{levels}[{code}]"
            else:
                scaled = f"(int32_t)({code}) * {grid.stride}" if grid.stride > 1 else f"(int32_t)({code})"
                weight = f"{scaled} + {literal(grid.low)}" if grid.low >= 0 else f"{scaled} - {-grid.low}"
            w_type, key = "uint8_t", f"b{bits}_{grid.low}_{grid.stride}_{grid.spacing}".replace("-", "m")
        name = f"{p}_events_{key}_{self.sum[3:5]}{'w' if self.wide else ''}{'f' if self.far else ''}"
        unit.kernels[name] = f"""
static {self.sum} {name}(const {w_type} *w, uint32_t base, const {at_type} *at, const {number_type} *number, uint32_t n)
{{
    {self.sum} sum = 0;
    for (uint32_t k = 0; k < n; k++) sum += ({self.sum})({weight}) * number[k];
    return sum;
}}
"""
        return name

    def begin(self) -> list[str]:
        return ["uint32_t n_events = 0;"]

    def each(self, number: str) -> list[str]:
        to, at = ("int32_t" if self.wide else "int16_t"), ("uint32_t" if self.far else "uint16_t")
        return [
            f"const int32_t m = {number};",
            f"if (m != 0) {{ c->{self.at}[n_events] = ({at})j; "
            f"c->{self.number}[n_events++] = ({to})m; }}",
        ]

    def end(self) -> list[str]:
        return []

    def total(self) -> str:
        base = f"o * {self.rows.shape[1]}u"
        return f"{self.name}({self.table}, {base}, c->{self.at}, c->{self.number}, n_events)"

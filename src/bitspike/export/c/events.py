"""A list of what is not silent: any weights, of any bits."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.runtime.arithmetic import Array, storage
from bitspike.runtime.packing import pack
from bitspike.runtime.spec import Grid

from .kernels import ROWS, Kernel

LISTS = {"at": "uint16_t", "far": "uint32_t", "number": "int16_t", "wide": "int32_t"}


class Events(Kernel):
    """Every event is read once for a block of outputs, whose weights at one place lie side by side.

    Weights of an alphabet are summed as codes c: Σ (stride·c + low)·x = stride·Σ c·x + low·Σ x. Sums are modulo 2^32
    (or 2^64), which the range that is proved of the result makes exact.
    """

    def prepare(self) -> None:
        unit, count = self.f.unit, self.rows.shape[1]
        self.block = 1 if self.outputs < 3 else ROWS
        self.at = "far" if count > 65536 else "at"
        self.number = "wide" if self.x.low < -32768 or self.x.high > 32767 else "number"
        self.lists: str = f"{self.room(self.at, count)}, {self.room(self.number, count)}"
        grid = self.constant.grid
        self.grid: Grid | None = grid if grid is not None and grid.bits < 8 else None
        self.summed: bool = self.grid is not None and self.grid.spacing == "uniform" and self.grid.low != 0
        blocks = self._blocks()
        if self.grid is not None:
            self.table: str = unit.constants.table(np.append(pack(blocks, self.grid), np.zeros(1, np.uint8)), np.uint8)
        else:
            self.kind: np.dtype[Any] = storage(int(blocks.min()), int(blocks.max()))
            self.table = unit.constants.table(blocks, self.kind)
        self.name: str = self._helper()

    def _blocks(self) -> Array:
        """Weights [O, K] → [blocks of outputs, K, outputs of a block]; a block belongs to one group."""
        groups = self.rows.reshape(-1, self.outputs, self.rows.shape[1])
        more = -self.outputs % self.block
        fill = self.grid.low if self.grid is not None else 0
        whole = np.pad(groups, ((0, 0), (0, more), (0, 0)), constant_values=fill)
        return np.ascontiguousarray(whole.reshape(-1, self.block, self.rows.shape[1]).swapaxes(1, 2))

    def _helper(self) -> str:
        p, wide = self.f.unit.prefix, self.sum == "int64_t"
        key = self.kind.name if self.grid is None else _named(self.grid)
        marks = f"{self.block}" + "w" * (self.number == "wide") + "f" * (self.at == "far") + "l" * wide
        name, word = f"{p}_events_{key}_{marks}", f"u{self.sum}"
        element = "uint8_t" if self.grid is not None else f"{self.kind.name}_t"
        rows = range(self.block)
        lines = [f"const {word} x = ({word})number[k];"]
        if self.grid is None:
            place = f"(block + at[k]) * {self.block}u" if self.block > 1 else "block + at[k]"
            lines.append(f"const {element} *v = w + {place};")
            lines += [f"s{r} += ({word})v[{r}] * x;" for r in rows]
        else:
            lines += [*self._codes(self.grid), *(f"s{r} += {self._level(self.grid, r, word)} * x;" for r in rows)]
            if self.summed:
                lines.append("total += x;")
        ends = [f"sums[{r}] = {p}_signed{self.sum[3:5]}({self._whole(r, word)});" for r in rows]
        starts = ", ".join([*(f"s{r} = 0" for r in rows), *(["total = 0"] if self.summed else [])])
        text = "\n".join(
            [
                f"static void {name}(const {element} *w, uint32_t block, const {LISTS[self.at]} *at,",
                f"    const {LISTS[self.number]} *number, uint32_t n, {self.sum} *sums)",
                "{",
                f"    {word} {starts};",
                "    for (uint32_t k = 0; k < n; k++) {",
                *(f"        {line}" for line in lines),
                "    }",
                *(f"    {line}" for line in ends),
                "}",
            ]
        )
        self.f.unit.kernels.setdefault(f"signed{self.sum}", _signed(p, self.sum))
        self.f.unit.kernels[name] = f"\n{text}\n"
        return name

    def _codes(self, grid: Grid) -> list[str]:
        """All codes of a block at one place, in a word."""
        bits = grid.bits * self.block
        whole = bits % 8 == 0
        reach = -(-(bits if whole else bits + 8 - _common(bits)) // 8)
        place = f"(block + at[k]) * {bits}u"
        lines = [f"const uint8_t *v = w + {place} / 8u;" if bits != 8 else "const uint8_t *v = w + block + at[k];"]
        loads = " | ".join(f"(uint32_t)v[{i}] << {8 * i}" if i else "(uint32_t)v[0]" for i in range(reach))
        lines.append(
            f"const uint32_t codes = {loads};" if whole else f"const uint32_t codes = ({loads}) >> {place} % 8u;"
        )
        return lines

    def _level(self, grid: Grid, row: int, word: str) -> str:
        shift = f"codes >> {row * grid.bits}" if row else "codes"
        code = f"({shift} & {(1 << grid.bits) - 1}u)"
        if grid.spacing == "power":
            return f"({word}){self.f.unit.constants.table(np.array(grid.levels))}[{code}]"
        return code

    def _whole(self, row: int, word: str) -> str:
        if not self.summed or self.grid is None:
            return (
                f"s{row}"
                if self.grid is None or self.grid.stride == 1 or self.grid.spacing == "power"
                else f"s{row} * 2u"
            )
        stride = f" * {self.grid.stride}u" if self.grid.stride > 1 else ""
        low = self.grid.low
        return f"s{row}{stride} {'-' if low < 0 else '+'} total * {abs(low)}u"

    def begin(self) -> list[str]:
        return ["uint32_t n_events = 0;"]

    def each(self, number: str) -> list[str]:
        return [
            f"const int32_t m = {number};",
            f"if (m != 0) {{ c->{self.at}[n_events] = ({LISTS[self.at]})j; "
            f"c->{self.number}[n_events++] = ({LISTS[self.number]})m; }}",
        ]

    def end(self) -> list[str]:
        return []

    def sums(self, block: str) -> str:
        return f"{self.name}({self.table}, ({block}) * {self.rows.shape[1]}u, {self.lists}, n_events, sums);"


def _common(bits: int) -> int:
    """Greatest power of two in a number of bits, 8 at most."""
    return min(bits & -bits, 8)


def _named(grid: Grid) -> str:
    return f"{grid.bits}_{grid.low}_{grid.stride}{grid.spacing[0]}".replace("-", "m")


def _signed(prefix: str, kind: str) -> str:
    """The number of a signed type that is a word, modulo its size."""
    bits = int(kind[3:5])
    top = f"0x7fffffff{'ffffffff' if bits == 64 else ''}"
    most = f"UINT{bits}_C({top})"
    return f"""
static {kind} {prefix}_signed{bits}(u{kind} a)
{{
    return a <= {most} ? ({kind})a : ({kind})(a - {most} - 1u) - INT{bits}_C({top}) - 1;
}}
"""

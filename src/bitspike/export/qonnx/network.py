"""Programs of one step as QONNX: quantized weights, integers between them, a line and `Quant` a neuron."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bitspike.export.onnx.memoryless import ROWS
from bitspike.export.onnx.nodes import Nodes, spread
from bitspike.export.onnx.numbers import LIMIT, Exact, Num
from bitspike.export.onnx.values import Clock
from bitspike.export.qonnx.staircase import MOST, Above, Line, Summand, line
from bitspike.runtime import INPUT, Program
from bitspike.runtime.arithmetic import Array, scaled
from bitspike.runtime.limits import INT32
from bitspike.runtime.spec import Grid, Value

DOMAIN = "qonnx.custom_op.general"
SAME = ("latch", "windows")
PLAIN = ("convolution", "linear", "reshape", "concat", "slice", "pad", "maxpool", "sumpool")
KNOWN = (*PLAIN, *SAME, "rescale", "add", "fire", "tally", "mean")


_SINGLE = 15
"""Steps that may be written one by one."""


class RefusedError(Exception):
    """What cannot be said."""


class Quantized(Exact):
    """Constants of synapses come in through quantizers of their bits."""

    grid: Grid | None = None

    def weight(self, array: Array) -> str:
        name = self.nodes.const(array)
        grid = self.grid
        if grid is not None and (grid.low, grid.high, grid.stride) == (-1, 1, 2):
            return self.nodes.add("BipolarQuant", name, self.nodes.const(np.float32(1)), domain=DOMAIN)
        low, high = (int(array.min()), int(array.max())) if grid is None else (grid.low, grid.high)
        return self.quant(name, low, high)

    def quant(self, name: str, low: int, high: int) -> str:
        """Integers rounded down and clipped to the range, in as few bits as hold it."""
        signed = low < 0
        bits = max(int(high).bit_length(), (-low - 1).bit_length() if signed else 0) + signed
        bits = max(bits, 2 if signed else 1)
        least = -(2 ** (bits - 1)) if signed else 0
        narrow = signed and low > least
        most = 2 ** (bits - signed) - 1
        if (low, high) != (least + narrow, most):
            ends = (self.nodes.const(np.float32(low)), self.nodes.const(np.float32(high)))
            name = self.nodes.add("Min", self.nodes.add("Max", name, ends[0]), ends[1])
        parts = [self.nodes.const(np.float32(k)) for k in (1, 0, bits)]
        return self.nodes.add(
            "Quant", name, *parts, domain=DOMAIN, signed=int(signed), narrow=int(narrow), rounding_mode="FLOOR"
        )


@dataclass(frozen=True)
class Current:
    """A sum of rescaled integers, and what is done with it: the last first."""

    parts: list[Summand]
    above: list[Above] = field(default_factory=list)

    @property
    def plain(self) -> str:
        """Name of the tensor that it is, or nothing."""
        return self.parts[0].name if len(self.parts) == 1 and not self.above and _is_plain(self.parts[0]) else ""


class Writer:
    """Writes operation by operation; what is refused is collected."""

    def __init__(self, program: Program) -> None:
        self.program: Program = program
        self.nodes: Nodes = Nodes()
        self.lost: list[str] = []
        self.exact: Quantized = Quantized(self.nodes)
        self.then: list[dict[str, Any]] = []
        self.values: dict[str, Current] = {}
        self.shapes: dict[str, Value] = {INPUT: program.spec.input.value}
        for made in program.operations:
            self.shapes.update(zip(made.op.outputs, made.written, strict=True))

    def run(self) -> str:
        """Write everything; the name of what comes out ("" where something is refused)."""
        given = self.program.spec.input.value
        if len(self.program.spec.sent) > 1:
            names = ", ".join(self.program.spec.sent)
            self.lost.append(f"outputs {names}: its tools take one; compile graph.only(name), or take --to onnx")
            return ""
        (sent,) = self.program.spec.sent_values
        if any(value.steps > 1 for value in self.shapes.values()):
            steps = max(value.steps for value in self.shapes.values())
            self.lost.append(f"{steps} steps: QONNX has no time; train or convert with T = 1")
            return ""
        if max(-given.low, given.high) > LIMIT:
            self.lost.append("the input has more than 24 bits: quantize it to fewer")
            return ""
        entry = self.exact.quant(INPUT, given.low, given.high)
        self.values[INPUT] = _plain(entry, given.low, given.high)
        for made in self.program.operations:
            try:
                self._operation(made)
            except RefusedError as error:
                self.lost.append(f"{made.where}: {error}")
                for name, value in zip(made.op.outputs, made.written, strict=True):
                    self.values[name] = _plain(INPUT, max(value.low, -1), min(value.high, 1))
        if self.lost:
            return ""
        out = self.values[sent]
        if out.plain:
            return out.plain
        if len(out.parts) > 1:
            self.lost.append(f"output {sent}: it is a sum of rescaled sums; take --to onnx")
            return ""
        (x,) = out.parts
        rows = [*reversed(out.above)]
        if not _is_plain(x):
            rows.insert(0, Above(x.factor, x.shift, x.bias, x.least, x.most))
        self.then = [
            {
                "multiplier": row.factor.tolist(),
                "shift": row.shift,
                "bias": row.bias.tolist(),
                "low": row.least,
                "high": row.most,
            }
            for row in rows
        ]
        return x.name

    def _operation(self, made: Any) -> None:
        kind, name, (y, *more) = made.op.kind, made.op.outputs[0], made.written
        if kind not in KNOWN:
            raise RefusedError("QONNX has no such operation; take --to onnx")
        if more:
            raise RefusedError("the membrane that comes out has no place; take --to onnx")
        if kind == "rescale":
            self.values[name] = self._rescaled(made)
        elif kind == "add":
            self.values[name] = self._added(made)
        elif kind == "fire":
            self.values[name] = self._fired(made)
        elif kind in SAME or (kind == "mean" and made.attributes["keep"][0]):
            self.values[name] = self.values[made.op.inputs[0]]
        else:
            self.values[name] = self._plainly(made, y)

    def _rescaled(self, made: Any) -> Current:
        x, at = self.values[made.op.inputs[0]], made.attributes
        row = Above(made.multiplier[0], at["shift"], made.bias[0], at["low"], at["high"])
        if x.plain:
            part = replace(
                x.parts[0], factor=row.factor, shift=row.shift, bias=row.bias, least=row.least, most=row.most
            )
            found = Current([part])
        elif (row.factor < 0).any():
            raise RefusedError("a factor below 0 behind another rescale; take --to onnx")
        else:
            found = Current(x.parts, [row, *x.above])
        return found

    def _added(self, made: Any) -> Current:
        inputs = [self.values[source] for source in made.op.inputs]
        if any(x.above for x in inputs):
            raise RefusedError("a summand is rescaled twice; take --to onnx")
        parts = [part for x in inputs for part in x.parts]
        one = np.ones(1, np.int64)
        return Current(parts, [Above(one, 0, one - 1, *INT32)] if made.clamps else [])

    def _plainly(self, made: Any, y: Value) -> Current:
        inputs = [self._whole(source) for source in made.op.inputs]
        if max(-y.low, y.high) > LIMIT:
            raise RefusedError(
                f"its numbers reach {max(-y.low, y.high):,}, and float32 is exact to 2^24; take --to onnx"
            )
        kind = made.op.kind
        if kind == "mean":
            return _plain(self.exact.zero(inputs[0].digits[0]), 0, 0)
        row = ROWS["maxpool" if kind == "tally" else kind]
        if "weight" in made.constants:
            self.exact.grid = self.program.spec.constants[made.op.tensors["weight"]].grid
        found = row(self.exact, made, inputs, Clock(self.exact))
        self.exact.grid = None
        if len(found.digits) > 1:
            raise RefusedError("its numbers are wider than float32 is exact; take --to onnx")
        return _plain(found.digits[0], y.low, y.high)

    def _whole(self, name: str) -> Num:
        """A value as integers in one tensor."""
        x, value = self.values[name], self.shapes[name]
        if not x.plain:
            x = self.values[name] = self._settled(x, value)
        return Num((x.plain,), value.low, value.high)

    def _settled(self, x: Current, value: Value) -> Current:
        """A current as integers."""
        bound = sum(max(-part.low, part.high) for part in x.parts)
        if not x.above and all(map(_is_plain, x.parts)) and bound <= LIMIT:
            total = x.parts[0].name
            for part in x.parts[1:]:
                total = self.exact.plus(total, part.name)
            return _plain(total, value.low, value.high)
        if value.high - value.low >= MOST or max(-value.low, value.high) > LIMIT:
            raise RefusedError(
                f"it reads {value.high - value.low + 1:,} levels, too many for one tensor; take --to onnx"
            )
        steps = np.arange(value.low + 1, value.high + 1, dtype=np.int64)[:, None]
        if not len(steps):
            zero, low = self.exact.zero(x.parts[0].name), np.float32(value.low)
            return _plain(self.exact.plus(zero, self.nodes.const(low)), value.low, value.high)
        axes = len(value.shape)
        return _plain(self._climbed(x, steps, value.low, value.low, value.high, axes), value.low, value.high)

    def _climbed(self, x: Current, steps: Array, start: int, low: int, high: int, axes: int) -> str:
        """start + how many steps the current has reached."""
        if any(max(-part.low, part.high) > LIMIT for part in x.parts):
            raise RefusedError("its sums reach beyond 2^24; take --to onnx")
        for row in x.above:
            steps = row.below(steps)
        found = line(x.parts, steps, start)
        if isinstance(found, Line):
            return self.exact.quant(self._line(x.parts, found, axes), low, high)
        if 1 < len(steps) <= _SINGLE:
            return self._step_by_step(x.parts, steps, start, axes)
        raise RefusedError(f"{found}; take --to onnx")

    def _step_by_step(self, parts: list[Summand], steps: Array, start: int, axes: int) -> str:
        """Every step by a line and a quantizer of one bit."""
        total = ""
        for step in steps:
            found = line(parts, step[None], 0)
            if isinstance(found, str):
                raise RefusedError(f"{found}; take --to onnx")
            one = self.exact.quant(self._line(parts, found, axes), 0, 1)
            total = self.exact.plus(total, one) if total else one
        return self.exact.plus(total, self.nodes.const(np.float32(start))) if start else total

    def _line(self, parts: list[Summand], found: Line, axes: int) -> str:
        total = ""
        for part, slope in zip(parts, found.slopes, strict=True):
            scale = self.nodes.const(spread(slope[None], axes)[0] if len(slope) > 1 else slope[0])
            one = self.nodes.add("Mul", part.name, scale)
            total = self.nodes.add("Add", total, one) if total else one
        offset = spread(found.offset[None], axes)[0] if len(found.offset) > 1 else found.offset[0]
        return self.nodes.add("Add", total, self.nodes.const(offset))

    def _fired(self, made: Any) -> Current:
        """A neuron: one line where its steps are even, else one up and one down."""
        at, tables, axes = made.attributes, made.tables, len(made.read[0].shape)
        count, x = at["count"][0], self._charged(made)
        jumps = np.arange(count, dtype=np.int64)[:, None]
        steps = tables["first"][0][None] + jumps * (0 if tables["spacing"] is None else tables["spacing"][0])
        floor, gate = tables["floor"], tables["gate"]
        if floor is not None and (at["signed"] or (floor[0] >= steps.min(0)).any()):
            raise RefusedError("its floor changes what it sends; take --to onnx")
        if not at["signed"] or at["cancel"]:
            k = self._climbed(x, steps, 0, 0, count, axes)
            if gate is not None and (gate[0] > steps[0]).any():
                k = self.nodes.add("Mul", k, self._climbed(x, gate[0][None], 0, 0, 1, axes))
            return self._sent(k, at["up"], 0, count)
        falls = 1 - steps[::-1]  # -U >= θ where U < 1 - θ
        try:
            if at["up"] == at["down"]:
                k = self._climbed(x, np.concatenate([falls, steps]), -count, -count, count, axes)
                return self._sent(k, at["up"], -count, count)
        except RefusedError:
            pass
        up = self._sent(self._climbed(x, steps, 0, 0, count, axes), at["up"], 0, count)
        down = self._sent(self._climbed(x, falls, -count, -count, 0, axes), at["down"], -count, 0)
        return _plain(self.exact.plus(up.plain, down.plain), -count * at["down"], count * at["up"])

    def _charged(self, made: Any) -> Current:
        """Currents with what the membrane starts with, clamped to 32 bits."""
        x, initial, one = self.values[made.op.inputs[0]], made.tables["initial"], np.ones(1, np.int64)
        multiplier, shift = made.attributes["decay"]
        start = one - 1
        if initial is not None and multiplier:
            start = initial[0] if multiplier == 1 << shift else scaled(initial[0], multiplier, shift)
        return Current(x.parts, [Above(one, 0, start, *INT32), *x.above])

    def _sent(self, k: str, factor: int, low: int, high: int) -> Current:
        name = k if factor == 1 else self.nodes.add("Mul", k, self.nodes.const(np.float32(factor)))
        return _plain(name, low * factor, high * factor)


def _plain(name: str, low: int, high: int) -> Current:
    one = np.ones(1, np.int64)
    return Current([Summand(name, low, high, one, 0, one - 1)])


def _is_plain(x: Summand) -> bool:
    return x.shift == 0 and len(x.factor) == len(x.bias) == 1 and x.factor[0] == 1 and x.bias[0] == 0

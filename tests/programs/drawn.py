"""Legal programs drawn at random: every operation, residual paths, branches with other numbers of steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, ProgramError, Value
from bitspike.runtime.echoes import in_step

GRIDS = (Grid(0, 1), Grid(-1, 1), Grid(-1, 1, stride=2), Grid(-7, 7), Grid(-127, 127), Grid(-4, 4, 1, "power"))


class Draw:
    """Adds operations to a program, each on values that were written before.

    Args:
        seed: of everything. size: operations that are tried. wide: channels and sides of real layers, so that kernels
            fill their registers; few numbers otherwise. echoes: whether values may come back a step later.
    """

    def __init__(self, seed: int, size: int = 14, wide: bool = False, echoes: bool = True) -> None:
        self.r, self.wide = np.random.default_rng(seed), wide
        steps = int(self.r.choice([1, 2, 3, 4, 4]))
        channels, side = (40, 14) if wide else (4, 6)
        sides = (
            int(self.r.integers(1, channels)),
            *(int(self.r.integers(2, side)) for _ in range(self.r.integers(1, 3))),
        )
        low, high = [(0, 1), (-1, 1), (0, 255), (-128, 127)][self.r.integers(4)]
        repeat = bool(self.r.integers(2))
        self.b = Builder(Input(Value(sides, low, high, 0, steps), repeat, (1, 0)))
        moves: list[Callable[[], str]] = [
            *(
                self.convolve,
                self.fire,
                self.fire,
                self.add,
                self.concat,
                self.windows,
                self.windows,
                self.pool,
                self.tally,
            ),
            *(self.multiply, self.lookup, self.sums, self.slice, self.latch, self.pad, self.spike, self.spike),
            *((self.delay, self.loop) if echoes else ()),
        ]
        while len(self.b.operations) < size:
            try:
                moves[self.r.integers(len(moves))]()
            except ProgramError:
                continue  # what does not fit is not added

    def names(self) -> list[str]:
        """The input twice as likely as it was, the last values most."""
        return [INPUT, *list(self.b.values)[-6:]]

    def any(self) -> str:
        names = self.names()
        return names[self.r.integers(len(names))]

    def ints(self, low: int, high: int, *shape: int) -> np.ndarray:
        return self.r.integers(low, high + 1, shape)

    def small(self, x: str, low: int = -100, high: int = 100) -> str:
        """A value brought to a small range, some of it clamped."""
        value, channels = self.b.values[x], self.b.values[x].shape[0]
        span = max(abs(value.low), value.high, 1)
        by_step = (int(self.ints(1, 3)),) if self.r.integers(3) == 0 else ()
        top = 2 ** min(30, 61 - span.bit_length())
        factor = max(1, min(top - 1, (100 << 24) // span * 2))
        multiplier = self.ints(-factor, factor, *by_step, self.r.choice([1, channels]))
        tensors = {"multiplier": self.b.constant(multiplier)}
        if self.r.integers(2):
            tensors["bias"] = self.b.constant(self.ints(-9, 9, channels))
        return self.b.add("rescale", [x], {"shift": 24, "low": low, "high": high, "exponent": 0}, tensors)

    def convolve(self) -> str:
        x = self.any()
        channels, *sides = self.b.values[x].shape
        grid, axes = GRIDS[self.r.integers(len(GRIDS))], len(sides)
        if not sides:
            outputs = int(self.ints(1, 200 if self.wide else 4))
            weight = self.b.constant(self.r.choice(np.array(grid.levels), (outputs, channels)), grid)
            return self.small(self.b.add("linear", [x], {"exponent": None}, {"weight": weight}))
        groups = channels if self.r.integers(3) == 0 else 1
        outputs = groups * int(self.ints(1, 2) if groups > 1 or not self.wide else self.ints(1, 90))
        shape = (outputs, channels // groups, *(int(self.ints(1, 3)) for _ in range(axes)))
        place = {name: [int(self.ints(0, 2)) for _ in range(axes)] for name in ("before", "after")}
        place |= {name: [int(self.ints(1, 2)) for _ in range(axes)] for name in ("stride", "dilation")}
        tensors = {"weight": self.b.constant(self.r.choice(np.array(grid.levels), shape), grid)}
        if self.r.integers(2):
            tensors["bias"] = self.b.constant(self.ints(-50, 50, outputs))
        return self.small(self.b.add("convolution", [x], {**place, "groups": groups, "exponent": None}, tensors))

    def scale(self, x: str) -> str:
        """A current: scaled to hundreds, nothing clamped."""
        value, channels = self.b.values[x], self.b.values[x].shape[0]
        span, shift = max(abs(value.low), value.high, 1), int(self.r.choice([0, 3, 20]))
        factor = max(1, (300 << shift) // span)
        tensors = {"multiplier": self.b.constant(self.ints(-factor, factor, self.r.choice([1, channels])))}
        if self.r.integers(2):
            tensors["bias"] = self.b.constant(self.ints(-99, 99, channels))
        return self.b.add("rescale", [x], {"shift": shift, "exponent": 0}, tensors)

    def spike(self) -> str:
        """What residual networks do: a neuron on one scaled value, or on the sum of two."""
        x = self.any()
        others = [name for name in self.names() if self._alike(name, x)]
        current = self.scale(x)
        if self.r.integers(2):
            current = self.b.add("add", [current, self.scale(others[self.r.integers(len(others))])])
        return self.fire(current)

    def fire(self, x: str = "") -> str:
        x = x or self.any()
        channels, r = self.b.values[x].shape[0], self.r

        def tensor(low: int, high: int) -> str:
            by_step = (2,) if r.integers(3) == 0 else ()
            return self.b.constant(self.ints(low, high, *by_step, r.choice([1, channels])))

        signed, soft = bool(r.integers(2)), bool(r.integers(2))
        count = [int(r.choice([1, 2, 3, 85])) for _ in range(self.ints(1, 2))]
        attributes = {"count": count, "signed": signed, "reset": "soft" if soft else "hard"}
        attributes["decay"] = [[1, 0], [0, 0], [1, 2], [5, 3]][r.integers(4)]
        tensors = {"first": tensor(1, 40)}
        if max(count) > 1:
            tensors["spacing"] = self.b.constant(np.array([8])) if r.integers(2) else tensor(1, 40)
        if soft:
            tensors["charge"] = tensor(1, 40)
        if signed:
            attributes |= {"cancel": bool(r.integers(2)), "up": int(self.ints(1, 3)), "down": int(self.ints(1, 3))}
        elif r.integers(2):
            tensors["gate"] = tensor(-5, 60)
        for role in ("initial", "floor"):
            if r.integers(3) == 0:
                tensors[role] = self.b.constant(self.ints(-40, 10, channels))
        name = f"fire{len(self.b.operations)}"
        outputs = (name, f"{name}.u") if r.integers(3) == 0 else (name,)
        return self.b.add("fire", [x], attributes, tensors, name, outputs)

    def add(self) -> str:
        names = self.names()
        pairs = [(a, c) for a in names for c in names if self._alike(a, c)]
        a, c = pairs[self.r.integers(len(pairs))]
        return self.b.add("add", [a, c])

    def _alike(self, a: str, c: str) -> bool:
        return self.b.values[a].shape == self.b.values[c].shape and self.b.values[a].steps == self.b.values[c].steps

    def concat(self) -> str:
        a = self.any()
        return self.b.add("concat", [a, self.any(), a])

    def windows(self) -> str:
        x = self.any()
        now, own = self.b.values[x].steps, self.b.given.value.steps
        steps = int(self.ints(1, 4)) if now == own else own  # away from the input's steps, or back
        return self.b.add("windows", [x], {"frames": self.b.values[x].steps, "steps": steps})

    def _window(self, x: str) -> dict[str, list[int]]:
        sides = self.b.values[x].shape[1:]
        kernel = [int(self.ints(1, min(3, side))) for side in sides]
        padding = [int(self.ints(0, k // 2)) for k in kernel]
        return {"kernel": kernel, "stride": [int(self.ints(1, 2)) for _ in sides], "padding": padding}

    def _maximum(self, kind: str) -> str:
        x = self.any()
        place = self._window(x)
        dilation = [1] * len(place["kernel"])
        return self.b.add(kind, [x], {**place, "dilation": dilation, "ceil": bool(self.r.integers(2))})

    def pool(self) -> str:
        return self._maximum("maxpool")

    def tally(self) -> str:
        return self._maximum("tally")

    def sums(self) -> str:
        x = self.any()
        return self.b.add("sumpool", [x], {**self._window(x), "ceil": bool(self.r.integers(2)), "divisor": 36})

    def multiply(self) -> str:
        x = self.any()
        return self.b.add("multiply", [self.small(x), self.small(x)])

    def lookup(self) -> str:
        x = self.small(self.any(), -5, 6)
        shape = (*((2,) if self.r.integers(2) else ()), self.b.values[x].shape[0], 12)
        return self.b.add(
            "lookup", [x], {"first": -5, "exponent": 0}, {"table": self.b.constant(self.ints(-99, 99, *shape))}
        )

    def slice(self) -> str:
        x = self.any()
        shape = self.b.values[x].shape
        start = [int(self.ints(0, n - 1)) for n in shape]
        stride = [int(self.ints(1, 2)) for _ in shape]
        return self.b.add("slice", [x], {"start": start, "stop": list(shape), "stride": stride})

    def pad(self) -> str:
        x = self.any()
        axes = len(self.b.values[x].shape)
        before, after = ([int(self.ints(0, 1)) for _ in range(axes)] for _ in range(2))
        return self.b.add("pad", [x], {"before": before, "after": after})

    def latch(self) -> str:
        return self.b.add("latch", [self.any()])

    def delay(self) -> str:
        """A value of the step before, which does not depend on it."""
        return self._echo(self.any(), self.any())

    def _echo(self, x: str, of: str) -> str:
        value = self.b.values[of]
        at = {"of": of, "shape": list(value.shape), "low": min(value.low, 0), "high": max(value.high, 0)}
        at["exponent"] = value.exponent
        if (value.low > 0 or value.high < 0) or not {x, of} <= in_step(self.b.operations):
            raise ProgramError("no echo")
        return self.b.add("echo", [x], at)

    def loop(self) -> str:
        """A recurrent layer: neurons charged by a current and, through weights, by their spikes of the step before."""
        x = self.any()
        if x not in in_step(self.b.operations):
            raise ProgramError("no loop")
        kept = dict(self.b.values), list(self.b.operations)
        try:
            return self._looped(x)
        except ProgramError:
            self.b.values, self.b.operations = kept  # no echo of what is not there
            raise

    def _looped(self, x: str) -> str:
        current = self.scale(x)
        shape, name = self.b.values[current].shape, f"loop{len(self.b.operations)}"
        top, signed = int(self.ints(1, 3)), bool(self.r.integers(2))
        at = {"of": name, "shape": list(shape), "low": -top if signed else 0, "high": top, "exponent": 0}
        back = self.b.add("echo", [x], at, name=f"{name}.before")
        grid = GRIDS[self.r.integers(len(GRIDS))]
        kernel = [3] * (len(shape) - 1)
        weight = self.b.constant(self.r.choice(np.array(grid.levels), (shape[0], shape[0], *kernel)), grid)
        same = {name: [1] * len(kernel) for name in ("before", "after")} if kernel else {}
        same |= {name: [1] * len(kernel) for name in ("stride", "dilation")} if kernel else {}
        back = self.b.add("convolution" if kernel else "linear", [back], {**same, "exponent": None}, {"weight": weight})
        total = self.b.add("add", [current, self.small(back)])
        tensors = {"first": self.b.constant(self.ints(1, 40, self.r.choice([1, shape[0]])))}
        tensors |= {"spacing": self.b.constant(np.array([8]))} if top > 1 else {}
        attributes = {"count": [top], "signed": signed, "reset": "hard", "decay": [1, 1]}
        return self.b.add("fire", [total], attributes, tensors, name)

    def finish(self, several: bool = False) -> Program:
        """What was written last comes out, as it is or through a read-out; ``several``: up to four others, too."""
        y, classes = self._last()
        if not several:
            return self._whole(y, classes)
        named = {"last": y}
        known = [name for name, value in self.b.values.items() if name != INPUT and name != y and self._sends(value)]
        for k in range(int(self.r.integers(5))):
            x = known[self.r.integers(len(known))] if known else y
            if self.r.integers(3) == 0 and x != y:
                x = self.b.add("mean", [x], {"keep": [[1], [0, 1], [1, 0, 1]][self.r.integers(3)]})
            named[f"other.{k}"] = x
        return self._whole(named, {"last": classes})

    def _sends(self, value: Value) -> bool:
        """Whether a value may come out, through a mean as well."""
        return value.exponent is not None and value.dtype.itemsize < 8

    def _last(self) -> tuple[str, list[str]]:
        x = list(self.b.values)[-1]
        size, kind = self.b.values[x].size, int(self.r.integers(3))
        if kind == 0:
            return x, []
        flat = self.b.add("reshape", [x], {"shape": [size]})
        weight = self.b.constant(self.ints(-7, 7, 3, size), Grid(-7, 7))
        y = self.b.add("linear", [self.small(flat)], tensors={"weight": weight})
        y = self.b.add("mean", [y], {"keep": [0, 1]}) if kind == 1 else y
        return y, ["a", "b", "c"]

    def _whole(self, y: Any, classes: Any) -> Program:
        used = {name for op in self.b.operations for name in op.tensors.values()}  # some belong to what did not fit
        self.b.constants = {name: constant for name, constant in self.b.constants.items() if name in used}
        return self.b.finish(y, classes, {"drawn": True})


def drawn(seed: int, size: int = 14, wide: bool = False, echoes: bool = True, several: bool = False) -> Program:
    """A program; the same for the same seed. ``several``: its outputs have names, and are one to five."""
    return Draw(seed, size, wide, echoes).finish(several)


def input_of(program: Program, seed: int, batch: int = 2, windows: int = 1) -> np.ndarray:
    """Levels for so many windows of steps, or samples where the input is repeated."""
    value, random = program.spec.input.value, np.random.default_rng(seed)
    lead = (batch,) if program.spec.input.repeat and windows == 1 else (value.steps * windows, batch)
    return random.integers(value.low, value.high + 1, (*lead, *value.shape))

"""A verified program: call it on samples, or stream to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .arithmetic import Array
from .backends import Engine, choose
from .engine.tuned import Tuned
from .errors import fault
from .limits import MAX_ARENA_BYTES
from .ops import Operation
from .ops.sums import accumulator_bits
from .plan import Plan, plan
from .spec import Spec
from .verifier import verify

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Result:
    """What a program sends.

    Attributes:
        levels: integers: [B, ...] behind a mean read-out, else [steps, B, ...].
        steps: what levels are to be divided by for a mean (1 where it is none, or nothing has come yet).
        exponent: one unit is worth 2^-exponent.
        classes: names, or none.
        clamped: operation → numbers that the program clamped; those which are not named clamped nothing.
        mean: whether levels come from behind a mean read-out.
    """

    levels: Array
    steps: int = 1
    exponent: int = 0
    classes: tuple[str, ...] = ()
    clamped: Mapping[str, int] = field(default_factory=dict)
    mean: bool = False

    @property
    def values(self) -> Array:
        """levels/steps·2^-exponent in float64: for people and comparisons, no part of the meaning."""
        return np.ldexp(self.levels / self.steps, -self.exponent)

    def top(self, k: int = 1) -> list[list[tuple[str, float]]]:
        """For every sample the k classes with the most, as (name or number, value); the lower number first in a tie.

        >>> Result(np.array([[1, 3, 3]]), steps=2, classes=("a", "b", "c")).top(2)
        [[('b', 1.5), ('c', 1.5)]]
        """
        if self.levels.ndim != 2 or not 1 <= k <= self.levels.shape[1]:
            must = f"levels must be [B, classes] and 1 <= k <= {self.levels.shape[-1]}"
            raise fault("top", must, f"{list(self.levels.shape)}, k = {k}", "use a mean read-out")
        order = np.argsort(-self.levels, 1, kind="stable")[:, :k]
        names = self.classes or tuple(map(str, range(self.levels.shape[1])))
        rows = zip(order.tolist(), self.values.tolist(), strict=True)
        return [[(names[i], values[i]) for i in chosen] for chosen, values in rows]


@dataclass(frozen=True)
class _Sent:
    """What the numbers of an output are: behind a mean there is one step; classes are names, or none."""

    mean: bool
    exponent: int
    classes: tuple[str, ...]


class Program:
    """A program that `verify` has accepted.

    Attributes:
        outputs: names of what comes out, in order; a program of one output without a name has one, "".

    Args:
        spec: its records.
        engine: "interpreter" (NumPy, the definition), "native", or "auto": native where it is there. All give the same
            integers; ``program.engine`` says what runs, and why.
        threads: of the native engine at most; None: one a core. isa: its instruction set; None: the best.
        forms: operation → form of its kernel, as `autotune` finds it; the planner chooses for those left out.

    Raises:
        ProgramError: the spec is not legal, its memory plan is too large, or the engine cannot be had.
    """

    def __init__(
        self,
        spec: Spec,
        engine: str = "auto",
        threads: int | None = None,
        isa: str | None = None,
        forms: Mapping[str, str] | Tuned | None = None,
    ) -> None:
        self.spec = spec
        self.operations: tuple[Operation, ...] = verify(spec)
        self.plan: Plan = plan(spec.input, self.operations, spec.sent_values)
        if self.plan.peak_bytes > MAX_ARENA_BYTES:
            must = f"one sample must fit {MAX_ARENA_BYTES:,} bytes"
            raise fault("program", must, f"{self.plan.peak_bytes:,}", "make the values smaller")
        self.outputs: tuple[str, ...] = tuple(spec.sent)
        written = {name: (value, made.final) for made in self.operations for name, value in self._written(made)}
        rows = [(*written[each.value], each.classes) for each in spec.sent.values()]
        self._sent = tuple(_Sent(final, value.exponent or 0, names) for value, final, names in rows)
        self._engine = choose(spec, self.operations, engine, threads, isa, forms)
        self._asked = spec, engine, threads, isa, forms

    @classmethod
    def from_zoo(cls, name: str, engine: str = "auto", threads: int | None = None) -> Program:
        """A trained program that comes with the package; `bitspike zoo list` shows all, docs/zoo.md says how they do.

        Args:
            name: DATA/KIND, such as "fashion_mnist/ternary". engine, threads: as above.

        Raises:
            ProgramError: no program of that name; the nearest ones are told.
        """
        from .zoo.cards import zoo_card
        from .zoo.command import opened

        return opened(zoo_card(name), engine, threads)

    def __reduce__(self) -> tuple[type[Program], tuple[Any, ...]]:
        """Copies and pickles are made again of what this one was asked for; their states are their own."""
        return type(self), self._asked

    @property
    def engine(self) -> Engine:
        """What runs the program; its text says which engine that is, and why."""
        return self._engine

    @staticmethod
    def _written(made: Operation) -> Any:
        return zip(made.op.outputs, made.written, strict=True)

    def __call__(self, x: Any, batch: int = 64, progress: Progress | None = None) -> Any:
        """Run samples from a fresh state.

        Args:
            x: one sample or a batch: [B, ...] where the input is repeated, else sequences [steps, B, ...]. Integers of
                the input's alphabet; real numbers where it has a scale.
            batch: samples at a time; the result does not depend on it.
            progress: called with (samples done, all samples).

        Returns:
            `Result` for all samples, of one sample without a batch axis with a batch of one; of a program whose outputs
            have names a dict of them, name → `Result`.

        Raises:
            ProgramError: another shape or alphabet, or a sequence of another length where steps are summed.
        """
        return self._alone(self.run(x, batch, progress))

    def run(self, x: Any, batch: int = 64, progress: Progress | None = None) -> dict[str, Result]:
        """As a call, but always by name: {"": `Result`} where the only output has none."""
        if type(batch) is not int or batch < 1:
            raise fault("program", "batch must be an integer >= 1", repr(batch), "leave it out")
        found = self._engine.call_real(x) if self._is_plain(x, batch) and progress is None else None
        if found is not None:
            return self._results(*found)
        levels = self.sequence(x)
        total = levels.shape[1]
        if total <= batch and progress is None:
            return self._results(*self._engine.call(levels))
        parts, clamped = [], Counter[str]()
        steps: Sequence[int] = ()
        for start in range(0, total, batch):
            part, steps, counts = self._engine.call(levels[:, start : start + batch])
            parts.append(part)
            clamped.update(counts)
            if progress is not None:
                progress(min(start + batch, total), total)
        whole = parts[0] if len(parts) == 1 else [np.concatenate(each, 1) for each in zip(*parts, strict=True)]
        return self._results(whole, steps, clamped)

    def _alone(self, found: dict[str, Result]) -> Any:
        return found if self.spec.outputs else found[""]

    def _is_plain(self, x: Any, batch: int) -> bool:
        """Whether x is what most callers give, which needs no more than one call of the engine."""
        given = self.spec.input
        return (
            type(x) is np.ndarray
            and x.dtype == np.float32
            and given.repeat
            and given.scale is not None
            and x.shape[1:] == given.value.shape
            and 0 < len(x) <= batch
            and x.flags.c_contiguous
        )

    def stream(self, x: Any, state: Any = None) -> tuple[Any, Any]:
        """Feed one chunk of a live input and get what comes out for it; chunks of any length give the whole run.

        Args:
            x: [n, B, ...], n >= 1 steps, of a repeated input as well (what its encoder would send).
            state: what the call for the chunk before returned, which stays as it is; None at first.

        Returns:
            (`Result`, state): behind a mean read-out the sum over all steps so far, else the steps that came out, which
            may be none. Outputs that have names come as a dict, name → `Result`.
        """
        found, after = self.feed(x, state)
        return self._alone(found), after

    def feed(self, x: Any, state: Any = None) -> tuple[dict[str, Result], Any]:
        """As `stream`, but always by name: {"": `Result`} where the only output has none."""
        levels = self._levels(x, "stream")
        value = self.spec.input.value
        if (
            levels.ndim != len(value.shape) + 2
            or levels.shape[2:] != value.shape
            or not levels.shape[0] * levels.shape[1]
        ):
            must = f"a chunk must be [n, B, {', '.join(map(str, value.shape))}], n, B >= 1"
            raise fault("stream", must, list(levels.shape), "add the missing axes")
        if state is not None and getattr(state, "batch", levels.shape[1]) != levels.shape[1]:
            raise fault(
                "stream",
                f"a chunk must have the {state.batch} samples of the state",
                levels.shape[1],
                "start a new stream",
            )
        parts, after = self._engine.step(levels, state)
        return self._results(parts, self._engine.counted(after), after.clamped), after

    def quantize(self, x: Any) -> Array:
        """Real numbers → levels of the input: ``clip(round_half(x·m·2^-s), low, high)``, halves away from zero.

        Exact for float32 and lesser types, so the same on every machine; float64 is rounded to float32 first.
        """
        given = self.spec.input
        numbers = np.asarray(x)
        if given.scale is None:
            must = f"the input must be integers {given.value.low}..{given.value.high}"
            raise fault("program", must, numbers.dtype, "convert it; this program takes no real numbers")
        levels = self._engine.quantize(numbers.astype(np.float32, copy=False))
        if levels is None:
            raise fault("program", "the input must be finite", "NaN or infinity", "look for them in the data")
        return levels

    def report(self) -> str:
        """A line for every operation: what it writes, its range, its accumulator; then the memory plan."""
        lines = []
        for made in self.operations:
            for name, value in self._written(made):
                width = f", {accumulator_bits(value)}-bit sums" if "weight" in made.constants else ""
                clamps = ", may clamp" if getattr(made, "clamps", False) else ""
                shape = "×".join(map(str, value.shape))
                lines.append(
                    f"{made.op.kind:12} {name}: {shape}, {value.low}..{value.high} ({value.dtype}){width}{clamps}"
                )
        sent = ", ".join(f"{name} = {each.value}" for name, each in self.spec.outputs.items())
        return "\n".join([*lines, *([f"outputs: {sent}"] if sent else []), str(self.plan), str(self._engine)])

    def _results(self, parts: Sequence[Array], steps: Sequence[int], clamped: Mapping[str, int]) -> dict[str, Result]:
        found = {}
        for name, sent, levels, count in zip(self.outputs, self._sent, parts, steps, strict=True):
            if sent.mean:
                levels = levels[0] if len(levels) else np.zeros(levels.shape[1:], levels.dtype)
            found[name] = Result(levels, count, sent.exponent, sent.classes, dict(clamped), sent.mean)
        return found

    def _levels(self, x: Any, where: str) -> Array:
        """Integers of the alphabet, in the type of the input."""
        numbers, value = np.asarray(x), self.spec.input.value
        if numbers.dtype.kind == "f":
            return self.quantize(numbers)
        if numbers.dtype.kind not in "iu":
            raise fault(where, "the input must be integers or real numbers", numbers.dtype, "convert it")
        if numbers.size and (int(numbers.min()) < value.low or int(numbers.max()) > value.high):
            got = f"{numbers.min()}..{numbers.max()}"
            raise fault(where, f"the input must lie in {value.low}..{value.high}", got, "quantize it")
        return numbers.astype(value.dtype)

    def sequence(self, x: Any) -> Array:
        """Samples of any form the call takes → integers [steps, B, ...], checked."""
        levels, given = self._levels(x, "program"), self.spec.input
        value, lead = given.value, 1 if given.repeat else 2
        if levels.ndim == len(value.shape) + lead - 1:
            levels = np.expand_dims(levels, lead - 1)
        names = "[B, {}]" if given.repeat else "[steps, B, {}]"
        must = f"samples must be {names.format(', '.join(map(str, value.shape)))}, not empty"
        if levels.ndim != len(value.shape) + lead or levels.shape[lead:] != value.shape or 0 in levels.shape[:lead]:
            raise fault("program", must, list(levels.shape), "reshape them")
        if given.repeat:
            levels = np.ascontiguousarray(levels)
            shape, strides = (value.steps, *levels.shape), (0, *levels.strides)
            repeated: Array = np.ndarray(
                shape, levels.dtype, levels, 0, strides
            )  # np.broadcast_to, at a fifth of its time
            repeated.flags.writeable = False
            return repeated
        if len(levels) != value.steps and any(made.rates for made in self.operations):
            raise fault("program", f"a sequence must have {value.steps} steps", len(levels), "cut or pad it")
        return levels

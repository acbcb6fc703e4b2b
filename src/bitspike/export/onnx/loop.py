"""A whole window as a loop over steps: ONNX's Scan."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.export.onnx.forms import BATCH, Out, Written, emit, entered, entry_type, outs_of, sent
from bitspike.export.onnx.nodes import Nodes
from bitspike.export.onnx.numbers import Exact, Num
from bitspike.export.onnx.states import Kept, States
from bitspike.export.onnx.values import Sequence
from bitspike.runtime import INPUT, Input, Program


class Loop:
    """What is the same at all steps stands before the loop; all else in its body, which carries the states."""

    def __init__(self, program: Program, int64: bool = False) -> None:
        self.int64 = int64
        self.program: Program = program
        self.given: Input = program.spec.input
        self.steps: int = self.given.value.steps
        self.outer: Exact = Exact(Nodes())
        self.inner: Exact = Exact(Nodes("body_"))
        self.states: States = States(self.inner, fresh=False, steps=self.steps)
        self.carried: list[tuple[str, str, tuple[Any, ...]]] = []
        self.scanned: list[tuple[str, str]] = []
        self.around: dict[str, Sequence] = {}
        self.inside: dict[str, Sequence] = {}

    def written(self) -> Written:
        """The graph."""
        value = self.given.value
        x = entered(self.outer, INPUT, value)
        if self.given.repeat:
            self.around[INPUT] = Sequence(self.outer, value.shape, self.steps, merged=x, held=True)
        else:
            names = [f"body_input_{i}" for i in range(len(x.digits))]
            self.scanned = list(zip(x.digits, names, strict=True))
            self.inside[INPUT] = Sequence(self.inner, value.shape, 1, merged=Num(tuple(names), x.low, x.high))
        for made in self.program.operations:
            if made.steady and all(name in self.around for name in made.op.inputs):
                found = emit(self.outer, made, [self.around[n] for n in made.op.inputs], self.states)
                self.around.update(zip(made.op.outputs, found, strict=True))
            else:
                found = emit(self.inner, made, [self._inside(n) for n in made.op.inputs], self.states)
                self.inside.update(zip(made.op.outputs, found, strict=True))
        lead = (BATCH,) if self.given.repeat else (self.steps, BATCH)
        ins = [self.outer.nodes.info(INPUT, entry_type(value), (*lead, *value.shape))]
        outs, types = list[Any](), dict[str, str]()
        for name, (out, last) in self._outputs().items():
            infos, types[name] = sent(self.outer, last, out.mean is not None, self.int64, out.called)
            outs += infos
        return Written(self.outer.nodes.graph("program", ins, outs), self.outer.nodes, [], types)

    def _inside(self, name: str) -> Sequence:
        """A value as the body has it; what stands before the loop is carried along, unchanged."""
        if name not in self.inside:
            x = self.around[name]
            names = []
            for digit in x.merged.digits:
                names.append(f"held_{digit}")
                if all(digit != known for known, *_ in self.carried):
                    self.carried.append((digit, names[-1], (BATCH, *x.shape)))
            whole = Num(tuple(names), x.merged.low, x.merged.high)
            self.inside[name] = Sequence(self.inner, x.shape, 1, merged=whole)
        return self.inside[name]

    def _outputs(self) -> dict[str, tuple[Out, Sequence]]:
        """By name what comes out."""
        outs = outs_of(self.program)
        sent: dict[str, list[int]] = {}  # value that the body sends at every step → places of its digits
        rows: list[tuple[str, tuple[int, ...]]] = []
        for out in outs.values():
            if out.mean is None and out.name not in self.around and out.name not in sent:
                x = self.inside[out.name]
                sent[out.name] = list(range(len(rows), len(rows) + len(x.merged.digits)))
                rows += [(digit, x.shape) for digit in x.merged.digits]
        still = all(out.name in self.around for out in outs.values())
        found = [] if still else self._scan(rows)
        before = len(self.states.kept) + len(self.carried)
        return {name: (out, self._sequence(out, found, sent.get(out.name, []), before)) for name, out in outs.items()}

    def _sequence(self, out: Out, found: list[str], rows: list[int], before: int) -> Sequence:
        """An output outside of the loop, of which ``found`` are the outputs; those of the body begin at ``before``."""
        if out.name in self.around:
            return self.around[out.name]
        last = self.inside[out.name]
        if out.mean is not None:
            digits = [found[i] for i in self._places(f"{out.mean.op.name}.total.")]
        else:
            digits = [self._flat(found[before + i], last.shape) for i in rows]
        whole = Num(tuple(digits), last.merged.low, last.merged.high)
        return Sequence(self.outer, last.shape, self.steps if out.mean is None else 1, merged=whole)

    def _flat(self, name: str, shape: tuple[int, ...]) -> str:
        """[steps, B, ...] with steps and batch as one axis."""
        nodes = self.outer.nodes
        return nodes.add("Reshape", name, nodes.const(np.array([-1, *shape]), np.int64))

    def _places(self, start: str) -> list[int]:
        return [i for i, state in enumerate(self.states.kept) if state.name.startswith(start)]

    def _scan(self, out: list[tuple[str, tuple[int, ...]]]) -> list[str]:
        """Add the loop; returns its outputs: states, what is carried, what is sent at every step."""
        nodes, body = self.outer.nodes, self.inner.nodes
        count = len(self.scanned)
        if not count:
            self.scanned = [(nodes.const(np.zeros((self.steps, 1))), "body_step")]
        kept = self.states.kept
        written = [(state.written, state.next) for state in kept] + [
            (name, f"{name}.next") for _, name, _ in self.carried
        ]
        for i, (name, after) in enumerate(written):
            # zeros, added somewhere: OpenVINO drops what no node reads, and with it the number of steps
            body.named(name if count or i else body.add("Add", name, "body_step"), after)
        for i, (name, _) in enumerate(out):
            body.named(name, f"body_sent_{i}")
        shapes = [(state.name, state.shape) for state in kept]
        shapes += [(name, shape) for _, name, shape in self.carried]
        ins = [self._info(name, shape) for name, shape in shapes]
        outs = [self._info(f"{name}.next", shape) for name, shape in shapes]
        ins += [self._info(name, (BATCH, *self.given.value.shape) if count else (1,)) for _, name in self.scanned]
        outs += [self._info(f"body_sent_{i}", (BATCH, *shape)) for i, (_, shape) in enumerate(out)]
        graph = body.graph("step", ins, outs)
        starts = [self._zeros(state) for state in kept] + [name for name, *_ in self.carried]
        sources = [*starts, *(name for name, _ in self.scanned)]
        found = nodes.several(
            "Scan", *sources, outputs=len(starts) + len(out), body=graph, num_scan_inputs=len(self.scanned)
        )
        return list(found)

    def _info(self, name: str, shape: tuple[Any, ...]) -> Any:
        return self.inner.nodes.info(name, np.float32, shape)

    def _zeros(self, state: Kept) -> str:
        """A state at the start."""
        nodes = self.outer.nodes
        if state.shape == (1,):
            return nodes.const(np.zeros(1))
        at = 0 if self.given.repeat else 1
        size = nodes.add("Shape", INPUT, start=at, end=at + 1)
        shape = nodes.add("Concat", size, nodes.const(np.array(state.shape[1:]), np.int64), axis=0)
        return nodes.add("Expand", nodes.const(np.float32(0)), shape)

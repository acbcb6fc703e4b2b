"""A whole window as a loop over steps: ONNX's Scan."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.export.onnx.forms import BATCH, Written, emit, entered, entry_type, is_final, sent
from bitspike.export.onnx.nodes import Nodes
from bitspike.export.onnx.numbers import Exact, Num
from bitspike.export.onnx.states import Kept, States
from bitspike.export.onnx.values import Sequence
from bitspike.runtime import INPUT, Program


class Loop:
    """What is the same at all steps stands before the loop; all else in its body, which carries the states."""

    def __init__(self, program: Program, int64: bool = False) -> None:
        self.int64 = int64
        self.program, self.given = program, program.spec.input
        self.steps = self.given.value.steps
        self.outer, self.inner = Exact(Nodes()), Exact(Nodes("body_"))
        self.states = States(self.inner, fresh=False, steps=self.steps)
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
        outs, kind = sent(self.outer, *self._output(), self.int64)
        return Written(self.outer.nodes.graph("program", ins, outs), self.outer.nodes, [], kind)

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

    def _output(self) -> tuple[Sequence, bool]:
        """(what comes out, whether it has no axis of steps)."""
        out = self.program.spec.output
        if out in self.around:
            return self.around[out], False
        last, final = self.inside[out], is_final(self.program)
        digits = self._scan(() if final else last.merged.digits, last.shape)
        if final:
            made = next(made for made in self.program.operations if made.final)
            digits = [digits[i] for i in self._places(f"{made.op.name}.total.")]
        else:
            digits = [self._flat(name, last.shape) for name in digits[len(self.states.kept) + len(self.carried) :]]
        whole = Num(tuple(digits), last.merged.low, last.merged.high)
        return Sequence(self.outer, last.shape, 1 if final else self.steps, merged=whole), final

    def _flat(self, name: str, shape: tuple[int, ...]) -> str:
        """[steps, B, ...] with steps and batch as one axis."""
        nodes = self.outer.nodes
        return nodes.add("Reshape", name, nodes.const(np.array([-1, *shape]), np.int64))

    def _places(self, start: str) -> list[int]:
        return [i for i, state in enumerate(self.states.kept) if state.name.startswith(start)]

    def _scan(self, out: tuple[str, ...], shape: tuple[int, ...]) -> list[str]:
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
        for i, name in enumerate(out):
            body.named(name, f"body_sent_{i}")
        shapes = [(state.name, state.shape) for state in kept]
        shapes += [(name, shape) for _, name, shape in self.carried]
        ins = [self._info(name, shape) for name, shape in shapes]
        outs = [self._info(f"{name}.next", shape) for name, shape in shapes]
        ins += [self._info(name, (BATCH, *self.given.value.shape) if count else (1,)) for _, name in self.scanned]
        outs += [self._info(f"body_sent_{i}", (BATCH, *shape)) for i in range(len(out))]
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

"""Outputs of a program by its engine: beside its network's on all data, beside the interpreter's on a part of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.checks import bad_value
from bitspike.graph import Graph, Node, trace
from bitspike.layers import Encoder
from bitspike.lower.figures import Figures, OutputFigures, network_outputs
from bitspike.lower.wire import Array
from bitspike.runtime import Program, Result


@dataclass
class Outputs:
    """What came out.

    Attributes:
        engine: which one, and why, as ``program.engine.facts``. samples: run by it and by the network.
        agreement: share with the same class or set of labels (see `targets_of`), of maps the share of places; None for
            numbers. accuracy,
            folded_accuracy: share correct of program and network; None without labels. error, folded_error: of numbers
            instead, root of the mean squared error. max_logit_difference: greatest difference of an output;
            largest_logit: greatest |output| of the network. clamped: operation → numbers that the program clamped.
        outputs: of a program whose outputs have names, those figures for each; accuracy and error stand there alone,
            and above them the lowest agreement and the greatest differences.
        interpreted: samples that the interpreter ran too. different: those of them where an integer or a count of
            clamped numbers is another one; first_different: the number of the first one.
    """

    engine: dict[str, Any] = field(default_factory=dict)
    samples: int = 0
    agreement: float | None = 1.0
    accuracy: float | None = None
    folded_accuracy: float | None = None
    error: float | None = None
    folded_error: float | None = None
    max_logit_difference: float = 0.0
    largest_logit: float = 0.0
    clamped: dict[str, int] = field(default_factory=dict)
    interpreted: int = 0
    different: int = 0
    first_different: int | None = None
    outputs: dict[str, OutputFigures] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        found = asdict(self)
        return found if self.outputs else {key: value for key, value in found.items() if key != "outputs"}

    def __str__(self) -> str:
        name = " ".join(filter(None, (self.engine["name"], self.engine["isa"])))
        if self.engine["name"] == "interpreter":
            return f"interpreter against engine: no other engine ran ({self.engine['why']})"
        differ = f"{self.different} differ, sample {self.first_different} first"
        equal = differ if self.different else "equal bit for bit"
        return f"interpreter against engine ({name}): {self.interpreted} samples, {equal}"


@torch.no_grad()
def outputs(
    program: Program,
    folded: nn.Module,
    batches: Tensor | Iterable[Tensor | tuple[Tensor, Tensor]],
    raw: Iterable[Any] = (),
    interpreted: int = 512,
) -> Outputs:
    """Run batches through a program by its engine and through its folded network.

    Args:
        program: with the engine that is meant. folded, batches, raw: as `bitspike.lower.compare` takes them.
        interpreted: samples, the first ones, on which the interpreter's integers are held against the engine's.

    Raises:
        ValueError: no batches.
    """
    graph = folded if isinstance(folded, Graph) else getattr(folded, "graph", None)
    graph = graph if isinstance(graph, Graph) else trace(folded)
    found, instead, clamped = Outputs(program.engine.facts), iter(raw), Counter[str]()
    slow, figures = Program(program.spec, "interpreter"), Figures("outputs", program)
    for batch in [batches] if isinstance(batches, Tensor) else batches:
        x, labels = batch if isinstance(batch, (tuple, list)) else (batch, None)
        returned, sent = _network(graph, x)
        expected = network_outputs("outputs", program, returned)
        fed = next(instead, None)
        given = _given(program, sent if fed is None else np.asarray(fed))
        results = program.run(given)
        _interpret(found, program, slow, given, results, interpreted)
        clamped.update(next(iter(results.values())).clamped)
        figures.add({name: result.values for name, result in results.items()}, expected, labels)
    if not figures.samples:
        raise bad_value("outputs", "there must be batches", "none", "pass inputs of the network")
    return replace(found, samples=figures.samples, clamped=dict(clamped), **figures.fields(forced=False))


def _interpret(
    found: Outputs, fast: Program, slow: Program, given: Array, results: Mapping[str, Result], most: int
) -> None:
    """Hold the first samples of a batch, of which the engine gave ``results``, against the interpreter."""
    axis = 0 if slow.spec.input.repeat else 1
    count = min(most - found.interpreted, given.shape[axis])
    if count <= 0 or found.engine["name"] == "interpreter":
        return
    part = given[:count] if axis == 0 else given[:, :count]
    wanted, got = slow.run(part), results if count == given.shape[axis] else fast.run(part)
    other = np.zeros(count, bool)
    for name, each in wanted.items():
        along = 0 if each.mean else 1
        pair = (np.moveaxis(levels, along, 0).reshape(count, -1) for levels in (each.levels, got[name].levels))
        other |= np.not_equal(*pair).any(1)
        if not other.any() and dict(each.clamped) != dict(got[name].clamped):
            other[:] = True  # whose numbers they were is not known
    if other.any() and found.first_different is None:
        found.first_different = found.interpreted + int(other.argmax())
    found.interpreted += count
    found.different += int(other.sum())


def _network(graph: Graph, x: Tensor) -> tuple[Any, Array]:
    """(what it returns, what the encoder sends) of the folded network."""
    sent = [x]

    def note(node: Node, call: Any, args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, Encoder):
            sent[0] = value
        return value

    returned = graph.run(x, handler=note)
    return returned, sent[0].cpu().numpy()


def _given(program: Program, sent: Array) -> Array:
    """[B, ...] where the program repeats its input, else [steps, B, ...]; whole spikes of an encoder as integers."""
    given = program.spec.input
    if given.scale is None and sent.dtype.kind == "f" and bool((sent == np.rint(sent)).all()):
        low, high = sent.min(initial=0), sent.max(initial=0)
        sent = sent.astype(given.value.dtype if given.value.low <= low and high <= given.value.high else np.int64)
    return sent[0] if given.repeat and sent.ndim == len(given.value.shape) + 2 else sent

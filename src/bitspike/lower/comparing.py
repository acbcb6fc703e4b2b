"""A program against the folded network it came from: spikes of every layer, outputs, classes."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.checks import bad_value, greatest
from bitspike.fold.verify import FlipTotals
from bitspike.graph import Graph, Node, trace
from bitspike.layers import Encoder
from bitspike.lower.figures import Figures, OutputFigures, network_outputs
from bitspike.lower.report import CompileReport, LayerReport
from bitspike.lower.wire import Array
from bitspike.neurons import Neuron
from bitspike.observe import levels_of, potentials
from bitspike.runtime import Program
from bitspike.runtime.arithmetic import round_half
from bitspike.runtime.interpreter import step
from bitspike.runtime.ops import Operation, Ran


@dataclass
class SpikeFlips:
    """Spikes of one layer that differ.

    Attributes:
        spikes: neuron-steps compared. fired: of them, in the folded network. forced: flips where the program's layers
            before get the folded network's spikes. end_to_end: flips where each runs by itself.
        worst_margin: greatest |u − threshold| of the folded network among the forced flips, in its own thresholds (0
            where there are none); only the first flip of a neuron counts, later ones are consequences.
        largest: greatest |u| of the layer, measured where there are forced flips.
    """

    spikes: int = 0
    fired: int = 0
    forced: int = 0
    end_to_end: int = 0
    worst_margin: float = 0.0
    largest: float = 0.0


@dataclass
class Comparison(FlipTotals):
    """A program beside its folded network.

    Attributes:
        samples: compared. layers: neuron → `SpikeFlips`. agreement: share with the same class or set of
            labels (see `targets_of`), of maps the share of places; None for numbers. Of outputs with names the lowest.
        max_logit_difference: greatest difference of an output; that with the network's spikes forced on the program is
            ``max_logit_difference_forced``. largest_logit: greatest |output| of the network.
        accuracy, folded_accuracy: share correct of program and network; None without labels. error, folded_error: of
            numbers instead, root of the mean squared error.
        clamped: operation → numbers that the program clamped. clamped_forced: the same where every layer gets the
            network's spikes: there calibration has seen all.
        outputs: of a program whose outputs have names, those figures for each; accuracy and error stand there alone,
            and the greatest differences above.
    """

    samples: int = 0
    layers: dict[str, SpikeFlips] = field(default_factory=dict)
    agreement: float | None = 1.0
    max_logit_difference: float = 0.0
    max_logit_difference_forced: float = 0.0
    largest_logit: float = 0.0
    accuracy: float | None = None
    folded_accuracy: float | None = None
    error: float | None = None
    folded_error: float | None = None
    clamped: dict[str, int] = field(default_factory=dict)
    clamped_forced: dict[str, int] = field(default_factory=dict)
    outputs: dict[str, OutputFigures] = field(default_factory=dict)

    def table(self) -> list[list[str]]:
        """Rows for `bitspike.report.as_text`, titles first."""
        rows = [["layer", "spikes", "rate %", "flips forced", "flips end to end"]]
        for name, layer in self.layers.items():
            rate = 100 * layer.fired / max(layer.spikes, 1)
            rows.append([name, str(layer.spikes), f"{rate:.2f}", str(layer.forced), str(layer.end_to_end)])
        return rows

    def __str__(self) -> str:
        spikes = sum(layer.spikes for layer in self.layers.values())
        found = "" if self.agreement is None else f", agreement {self.agreement:.2%}"
        found += "" if self.accuracy is None else f", accuracy {self.accuracy:.2%}, folded {self.folded_accuracy:.2%}"
        found += "" if self.error is None else f", error {self.error:.4g}, folded {self.folded_error:.4g}"
        return (
            f"program against folded network: {self.samples} samples{found}, flips "
            f"{self.forced_flips} teacher-forced and {self.end_to_end_flips} end to end of {spikes} spikes, "
            f"max logit difference {self.max_logit_difference:.3g} of {self.largest_logit:.3g}"
        )


@torch.no_grad()
def compare(
    program: Program,
    folded: nn.Module,
    batches: Tensor | Iterable[Tensor | tuple[Tensor, Tensor]],
    raw: Iterable[Any] = (),
) -> Comparison:
    """Run batches through a program and its folded network.

    Args:
        program: what `compile` made, or a file of it. folded: the network it was made from.
        batches: inputs of the network, or (inputs, labels); one batch may stand alone. Labels of outputs with names are
            a dict by name, of as many as have some. raw: what the program
            is fed with instead, a batch each, where it takes raw images.

    Raises:
        ValueError: a layer of the network that the program lacks, or spikes of another shape; no batches.
    """
    graph = folded if isinstance(folded, Graph) else getattr(folded, "graph", None)
    graph = graph if isinstance(graph, Graph) else trace(folded)
    layers = {layer.name: layer for layer in CompileReport.of(program).layers if layer.kind == "neuron"}
    rows = {made.op.name: made for made in program.operations if made.kind == "fire"}
    found, figures, instead = Comparison(), Figures("compare", program), iter(raw)
    for batch in [batches] if isinstance(batches, Tensor) else batches:
        x, labels = batch if isinstance(batch, (tuple, list)) else (batch, None)
        returned, spikes, currents, sent = _network(graph, x)
        expected = network_outputs("compare", program, returned)
        fed = next(instead, None)
        spikes = {name: _laid(s, layers.get(name), rows.get(name)) for name, s in spikes.items()}
        forced = {name: _fed(graph[name].module, s, layers.get(name), rows.get(name)) for name, s in spikes.items()}
        given = _sequence(program, sent if fed is None else fed)
        own, got, clamped = run(program, given)
        taught, got_forced, clamped_forced = run(program, given, forced)
        for name, wanted in forced.items():
            real = graph[name].module.format.real  # type: ignore[union-attr]
            flips = _count(found, name, spikes[name].cpu().numpy() != 0 if real else wanted, own, taught)
            if flips.any():
                lay = functools.partial(_laid, layer=layers.get(name), row=rows.get(name))
                _measure(found.layers[name], graph[name].module, currents[name], flips, lay)
        for total, counts in ((found.clamped, clamped), (found.clamped_forced, clamped_forced)):
            for name, count in counts.items():
                total[name] = total.get(name, 0) + count
        figures.add(got, expected, labels, got_forced)
    if not figures.samples:
        raise bad_value("compare", "there must be batches", "none", "pass inputs of the network")
    return replace(found, samples=figures.samples, **figures.fields())


def run(
    program: Program, levels: Array, forced: Mapping[str, Array] | None = None
) -> tuple[dict[str, Array], dict[str, Array], dict[str, int]]:
    """Run a program on whole sequences [steps, B, ...] of integers from a fresh state, operation by operation.

    Args:
        forced: fire operation → spikes [steps, B, ...] which the operations behind it get instead of its own.

    Returns:
        (spikes of every fire operation; by output what comes out, in float64; operation → numbers clamped).
    """
    spikes: dict[str, list[Array]] = {}
    done = Counter[str]()

    def watch(made: Operation, ran: Ran) -> Ran:
        name = made.op.name
        if made.kind != "fire":
            return ran
        sent, *more = ran.outputs
        spikes.setdefault(name, []).append(sent)
        begin, done[name] = done[name], done[name] + len(sent)
        if forced is not None and name in forced:
            sent = forced[name][begin : done[name]].astype(sent.dtype)
        return replace(ran, outputs=(sent, *more))

    sent = program.spec.sent_values
    parts, state = step(program.operations, levels, None, sent, watch=watch)
    means = {made.op.outputs[0]: made.op.name for made in program.operations if made.final}
    outputs = {}
    for name, value, part in zip(program.outputs, sent, parts, strict=True):
        numbers = np.ldexp(part.astype(np.float64), -(program.spec.values[value].exponent or 0))
        outputs[name] = numbers[0] / max(state.parts[means[value]].counted, 1) if value in means else numbers
    found = {name: np.concatenate(rows) for name, rows in spikes.items()}
    return found, outputs, dict(state.clamped)


def _network(graph: Graph, x: Tensor) -> tuple[Any, dict[str, Tensor], dict[str, Tensor], Array]:
    """(what it returns, neuron → what it sends, neuron → its current, what the encoder sends) of the folded network."""
    spikes: dict[str, Tensor] = {}
    currents: dict[str, Tensor] = {}
    sent = [x]

    def note(node: Node, call: Any, args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, Neuron):
            spikes[node.name], currents[node.name] = value.clone(), args[0].clone()
        if isinstance(node.module, Encoder):
            sent[0] = value
        return value

    returned = graph.run(x, handler=note)
    return returned, spikes, currents, sent[0].cpu().numpy()


def _laid(sent: Tensor, layer: LayerReport | None, row: Operation | None) -> Tensor:
    """What a neuron of the network sent, its numbers where the program has them."""
    if layer is None or row is None or not layer.axes or sent[0, 0].numel() != row.written[0].size:
        return sent
    axes = sent.reshape(*sent.shape[:2], *(layer.axes[i] for i in layer.order))
    back = axes.permute(0, 1, *(2 + layer.order.index(i) for i in range(len(layer.axes))))
    return back.reshape(*sent.shape[:2], *row.written[0].shape)


def _fed(module: Any, sent: Tensor, layer: LayerReport | None, row: Operation | None) -> Array:
    """Integers that a program would send for what a folded neuron sent."""
    if module.format.real:  # what lies beyond the levels is the greatest one
        top = np.inf if row is None else max(row.attributes["count"])
        level = 1.0 if layer is None else layer.level
        return np.minimum(round_half(sent.double().cpu().numpy() / level), top).astype(np.int64)
    k = levels_of(module, sent).cpu().numpy().astype(np.int64)
    return k if row is None else np.where(k < 0, k * row.attributes["down"], k * row.attributes["up"])


def _count(found: Comparison, name: str, wanted: Array, own: Mapping[str, Array], taught: Mapping[str, Array]) -> Array:
    """Add the flips of a layer; returns where forced ones are."""
    if name not in own or own[name].shape != wanted.shape:
        must = f"the program must have a layer {name} of {list(wanted.shape)}"
        got = list(own[name].shape) if name in own else "none"
        raise bad_value("compare", must, got, "compile this network again")
    layer = found.layers.setdefault(name, SpikeFlips())
    layer.spikes += wanted.size
    layer.fired += int((wanted != 0).sum())
    kind = (lambda s: s != 0) if wanted.dtype == bool else (lambda s: s)  # of real spikes: whether there is one
    layer.end_to_end += int((kind(own[name]) != wanted).sum())
    flips: Array = kind(taught[name]) != wanted
    layer.forced += int(flips.sum())
    return flips


def _measure(layer: SpikeFlips, module: Any, current: Tensor, flips: Array, lay: Callable[[Tensor], Tensor]) -> None:
    """How far from their thresholds the membranes of the first flips lie, which lie where the program has them."""
    u = potentials(module, current, scaled=True)
    at = torch.from_numpy(flips).to(u.device)
    margin = lay(module.stairs.margin(u))[at & (at.cumsum(0) == 1)]
    layer.worst_margin = greatest(layer.worst_margin, float(margin.max()))
    layer.largest = greatest(layer.largest, float(u.abs().max()))


def _sequence(program: Program, given: Any) -> Array:
    """[steps, B, ...] of the input's integers."""
    given = np.asarray(given)
    value = program.spec.input.value
    if program.spec.input.repeat and given.ndim == len(value.shape) + 1:
        given = np.broadcast_to(given, (value.steps, *given.shape))
    return program.quantize(given) if program.spec.input.scale is not None else given.astype(value.dtype)

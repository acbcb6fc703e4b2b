"""Comparing a folded network with the one it came from: logits, and flipped spikes per layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bitspike.checks import finite, greatest
from bitspike.graph import Graph, Node
from bitspike.graph.outputs import by_name
from bitspike.layers import ClipFloor
from bitspike.neurons import Neuron
from bitspike.observe import levels_of, potentials


@dataclass
class LayerFlips:
    """Spikes of one neuron layer that differ, or levels of a `ClipFloor`.

    Attributes:
        spikes: neuron-steps compared. forced: flips when both networks are fed the unfolded network's spikes.
        end_to_end: flips when each network runs by itself.
        worst_margin: greatest |u − threshold| among the forced flips (0 where there are none). Only the first flip of
            a neuron counts: its membrane differs afterwards, so later ones are consequences.
        largest: greatest |u| of the layer, measured where there are forced flips.
        rate: firing rate of the unfolded layer, so that a silent layer cannot pass for an equal one.
    """

    spikes: int = 0
    forced: int = 0
    end_to_end: int = 0
    worst_margin: float = 0.0
    largest: float = 0.0
    rate: float = 0.0


class FlipTotals:
    """What reports of flips by layer (``layers``: name → record with ``forced`` and ``end_to_end``) have in common."""

    layers: dict[str, Any]

    @property
    def forced_flips(self) -> int:
        """Teacher-forced flips of all layers."""
        return sum(layer.forced for layer in self.layers.values())

    @property
    def end_to_end_flips(self) -> int:
        """End-to-end flips of all layers."""
        return sum(layer.end_to_end for layer in self.layers.values())

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        record: Any = self  # the subclasses are dataclasses
        return {**asdict(record), "forced_flips": self.forced_flips, "end_to_end_flips": self.end_to_end_flips}


@dataclass
class FoldReport(FlipTotals):
    """What folding did and how the result compares on data.

    Attributes:
        samples: compared. max_logit_difference: over samples without a flipped spike.
        max_logit_difference_forced: over all samples, both networks fed the unfolded one's spikes.
        max_logit_difference_all: over all samples. agreement: share with the same class, over all outputs that have
            classes (1 where there are none); of a run that was trained on other targets, see `Task.agreement`.
        samples_with_flips: samples in which any spike differs end to end.
        layers: neuron → `LayerFlips`.
        gains: explicit gain edge → number of factors. affines: per-channel affine maps that stay.
        absorbed: real-spike neurons whose threshold took a per-channel factor.
        unseen: neurons, norms and quantizers inside other layers, which are neither folded nor compared.
        norms: norm that stays since it divides by what it measures → its class; no program has it.
    """

    samples: int = 0
    max_logit_difference: float = 0.0
    max_logit_difference_forced: float = 0.0
    max_logit_difference_all: float = 0.0
    agreement: float | None = 1.0
    samples_with_flips: int = 0
    layers: dict[str, LayerFlips] = field(default_factory=dict)
    gains: dict[str, int] = field(default_factory=dict)
    affines: list[str] = field(default_factory=list)
    absorbed: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    norms: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        spikes = sum(layer.spikes for layer in self.layers.values())
        agreement = "" if self.agreement is None else f"agreement {self.agreement:.2%}, "
        difference = f"{self.max_logit_difference_all:.3g}"
        if self.samples_with_flips:
            difference += f" ({self.max_logit_difference_forced:.3g} if fed the same spikes)"
        return (
            f"fold: {self.samples} samples, max logit difference {difference}, {agreement}"
            f"flips {self.forced_flips} teacher-forced and {self.end_to_end_flips} end to end of "
            f"{spikes} spikes, {len(self.gains)} explicit gains, {len(self.affines)} affine maps"
            + (f"; not seen: {', '.join(self.unseen)}" if self.unseen else "")
            + _staying(self.norms)
        )


def _staying(norms: dict[str, str]) -> str:
    named = ", ".join(f"{name} ({kind})" for name, kind in norms.items())
    return f"; {named} divide by what they measure and stay: train with batch norms" if named else ""


@torch.no_grad()
def compare(reference: Graph, folded: Graph, x: Tensor, report: FoldReport) -> FoldReport:
    """Fill a report from one batch x; both graphs name their neurons alike."""
    levels: dict[str, Tensor] = {}
    currents: dict[str, Tensor] = {}

    def record(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, Neuron):
            levels[node.name] = levels_of(node.module, value)
            currents[node.name] = args[0]
        elif isinstance(node.module, ClipFloor):
            levels[node.name], currents[node.name] = _steps(node.module, value), args[0]
        if node.name in currents:
            finite(f"fold {node.name}", "the current of the network on the sample", args[0])  # firing hides NaN
        return value

    expected = reference.run(x, handler=record)
    own: dict[str, Tensor] = {}  # levels; where they are real, the values

    def free(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, Neuron):
            own[node.name] = _sent(node.module, value.clone())  # a later in-place addition must not change it
            finite(f"fold {node.name}", "the current of the folded network on the sample", args[0])
        elif isinstance(node.module, ClipFloor):
            own[node.name] = _steps(node.module, value)
        return value

    got = folded.run(x, handler=free)

    def forced(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, ClipFloor):
            return _force_steps(report, node, value, levels[node.name], currents[node.name])
        if not isinstance(node.module, Neuron):
            return value
        wanted = levels[node.name]
        flips = _differ(node.module, _sent(node.module, value), wanted)
        layer = report.layers.setdefault(node.name, LayerFlips())
        layer.forced += int(flips.sum())
        if flips.any():
            original = reference[node.name].module
            if isinstance(original, Neuron):
                u = potentials(original, currents[node.name], scaled=True)
                margin = original.stairs.margin(u)
                # fed back, a flip changes the others of its sample, too
                any_of = flips.flatten(2).any(2).reshape(*flips.shape[:2], *[1] * (flips.dim() - 2))
                first = flips & ((any_of if original.feeds_back else flips).cumsum(0) == 1)
                layer.worst_margin = greatest(layer.worst_margin, float(margin[first].max()))
                layer.largest = greatest(layer.largest, float(u.abs().max()))
        ratio = _unit(node.module, wanted) / _unit(reference[node.name].module, wanted)
        return node.module.emission.scale_negative((wanted * ratio).to(value.dtype))

    pairs = zip(tree_leaves(expected), tree_leaves(folded.run(x, handler=forced)), strict=True)
    for wanted, forced_logits in pairs:
        difference = float((wanted - forced_logits).abs().max())
        report.max_logit_difference_forced = greatest(difference, report.max_logit_difference_forced)
    flipped = torch.zeros(x.shape[reference.batch_axis], dtype=torch.bool, device=x.device)
    for name, layer in report.layers.items():
        module = folded[name].module
        rounds = isinstance(module, ClipFloor)
        flips = own[name] != levels[name] if rounds else _differ(module, own[name], levels[name])  # type: ignore[arg-type]
        total = layer.spikes + flips.numel()
        layer.rate = (layer.rate * layer.spikes + float((levels[name] != 0).sum())) / total
        layer.spikes = total
        layer.end_to_end += int(flips.sum())
        flipped |= flips.flatten(2).any(2).any(0)
    found = by_name(got)
    _compare_logits(
        report, [(y, found[name], _in_time(reference, name)) for name, y in by_name(expected).items()], flipped
    )
    return report


def _in_time(graph: Graph, name: str) -> bool:
    """Whether an output has an axis of time; a node that returns several tensors names them behind its own name."""
    owner = max((n for n in graph.outputs if n in ("", name) or name.startswith(f"{n}.")), key=len)
    return graph.outputs[owner] in graph.timed


def _steps(module: ClipFloor, value: Tensor) -> Tensor:
    """The levels 0..L of a staircase's output."""
    return (value * module.levels / module.ceiling().to(value.dtype)).round()


def _force_steps(report: FoldReport, node: Node, value: Tensor, wanted: Tensor, x: Tensor) -> Tensor:
    """Count the flipped levels of a staircase, as of a neuron's spikes; returns the output of the unfolded one."""
    assert isinstance(node.module, ClipFloor)
    step = node.module.ceiling().to(value.dtype) / node.module.levels
    flips = _steps(node.module, value) != wanted
    layer = report.layers.setdefault(node.name, LayerFlips())
    layer.forced += int(flips.sum())
    if flips.any():
        place = x / step
        margin = (place - place.floor() - 0.5).abs() * step  # levels change half way between them
        layer.worst_margin = greatest(layer.worst_margin, float(margin[flips].max()))
        layer.largest = greatest(layer.largest, float(x.abs().max()))
    return wanted * step


def _compare_logits(report: FoldReport, outputs: list[tuple[Tensor, Tensor, bool]], flipped: Tensor) -> None:
    """(expected, got, timed): [B, K, ...], or [T, B, K, ...] if timed; of a map of classes the share of places that
    agree."""
    batch = len(flipped)
    gaps, same = [], []
    for expected, got, timed in outputs:
        finite("fold", "the output of the network on the sample", expected)
        finite("fold", "the output of the folded network on the sample", got)
        gaps.append((expected - got).abs().transpose(0, int(timed)).reshape(batch, -1).amax(1).double())
        first, second = ((y.mean(0) if timed else y) for y in (expected, got))
        if first.dim() > 1 and first.shape[1] > 1:
            alike = (first.argmax(1) == second.argmax(1)).double()
            same.append(alike.reshape(batch, -1).mean(1))
    difference = torch.stack(gaps).amax(0)
    kept = difference[~flipped]
    agree = float(torch.stack(same).mean(0).sum()) if same else float(batch)
    report.agreement = ((report.agreement or 0.0) * report.samples + agree) / (report.samples + batch)
    report.samples += batch
    report.samples_with_flips += int(flipped.sum())
    report.max_logit_difference_all = greatest(float(difference.max()), report.max_logit_difference_all)
    if len(kept):
        report.max_logit_difference = greatest(float(kept.max()), report.max_logit_difference)


def _sent(folded: Neuron, value: Tensor) -> Tensor:
    """Levels of the spikes of a folded neuron; with one amplitude they are the spikes themselves."""
    return value if folded.format.slope == 1 else folded.emission.levels(value).round()


def _differ(folded: Neuron, value: Tensor, wanted: Tensor) -> Tensor:
    """Where spikes differ: the level, or for real spikes whether there is one; NaN differs from everything."""
    if not folded.format.real:
        return value != wanted
    return ((value != 0) != (wanted != 0)) | value.isnan() | wanted.isnan()


def _unit(neuron: nn.Module | None, spikes: Tensor) -> Tensor:
    """What a neuron's thresholds (a real one's spikes too) are scaled by, to broadcast over [T, B, C, ...]."""
    return neuron.threshold_scale(spikes) if isinstance(neuron, Neuron) else torch.ones(())

"""Folding a trained network into the form that is deployed, and checking it on data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from bitspike.checks import bad_value, finite, is_indices, wide
from bitspike.fold.factors import move_factors
from bitspike.fold.norms import fold_norms
from bitspike.fold.verify import FoldReport, compare
from bitspike.graph import Graph, Node, trace, warn_unseen
from bitspike.graph.surgery import Surgery
from bitspike.graph.traced import Traced
from bitspike.layers import check_numbers
from bitspike.upgrade.norms import is_constant, measures

_MARGIN_FLOAT64 = 1e-9


class Folded(Traced):
    """The network as it runs at inference, checked against the trained one.

    A folded network: plain integer spikes, integer or folded real weights, explicit affine maps and gains.

    Attributes:
        net: the traced network. graph: its graph. report: how it compares with the network it came from.
    """

    def __init__(self, graph: Graph, report: FoldReport) -> None:
        super().__init__(graph)
        self.report = report


def fold(model: nn.Module, sample: Tensor, tolerance: float | None = None) -> Folded:
    """Fold batch norm, spike amplitudes, weight factors and step sizes, and verify the result on ``sample``.

    Stage 1 folds every batch norm into real weights or into a per-channel affine map behind integer weights. Stage 2
    makes spikes plain integers and moves their value, and the scale of the weights, into the next weights, affine maps
    or, where a consumer cannot take it (identity shortcuts, factors per input channel), into an explicit `Gain`, which
    is named and counted. Thresholds, decay and reset are untouched: they are driven by the levels.

    Equality: stage 2 is bit-exact against stage 1 for power-of-two factors (but for the bias of a quantized layer
    without norm, which is then added in a step of its own: exact where the sums are); else both stages are equal within
    the rounding of their products, and a neuron within that distance of a threshold may flip. The report counts flips
    teacher-forced and end to end, and compares logits on samples without flips.

    Inputs may have another number of time steps than the sample: a mean over them, whose divisor for the sample's is in
    the weights, then multiplies its sums by what that is off, so they are no integers any more; `cost` counts it.

    Source: Ternary Spike (AAAI 2024), eq. 15-17; ReverB (ICML 2025), as far as known [?]; beyond the papers: shortcuts,
    pools, classifier, per-channel factors.

    Args:
        model: a traceable network; it is not changed. Training-mode norms are folded with their running statistics.
        sample: inputs of the network to verify on, [B, ...] ([T, B, ...] where it has no encoder), finite; more
            samples make a better check.
        tolerance: greatest logit difference allowed on samples without flips and, teacher-forced, on all, relative to
            the greatest |logit| (at least 1); default 1e-3 in float32, 1e-9 in float64. In float32 also the greatest
            margin of a teacher-forced flip, relative to the layer's greatest |u|; in float64 that is 1e-9.

    Returns:
        `Folded`, with ``report``.

    Raises:
        ValueError: NaN or inf in weights, sample, currents or logits, a negative running variance (each by name), an
            untraceable network, a negative amplitude before max pooling, or logits or flipped spikes that differ by
            more than the tolerance.
    """
    check_finite(model, sample, is_indices(sample) and trace(model).reads_indices)
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        graph = trace(model)
        if sample.dim() <= graph.batch_axis or not sample.shape[graph.batch_axis]:
            must = "the sample must be [B, ...] ([T, B, ...] without encoder), B >= 1"
            raise bad_value("fold", must, list(sample.shape), "pass inputs to verify on")
        graph.check_input("fold", sample)
        return _fold(graph, sample, tolerance)
    finally:
        for module in training:
            module.training = True


def fold_norms_only(model: nn.Module) -> Graph:
    """Stage 1 alone: the norm-folded network that stage 2 is exact against for power-of-two factors."""
    surgery = Surgery(trace(model))
    surgery.module.eval()
    fold_norms(surgery)
    return surgery.finish()


def check_finite(model: nn.Module, sample: Tensor, indices: bool = False) -> None:
    """Raise `ValueError` on NaN or inf in weights, buffers or the sample, and on bad variances, naming where."""
    if not indices:
        wide("fold", sample)
    finite("fold", "the sample", sample)
    check_numbers("fold", model)


def _fold(reference: Graph, sample: Tensor, tolerance: float | None) -> Folded:
    shapes = _shapes(reference, sample)
    surgery = Surgery(reference)
    surgery.module.eval()
    affines = fold_norms(surgery)
    moved = move_factors(surgery, shapes, _dtype(reference, sample))
    folded = surgery.finish()
    folded.note_sample(sample)
    check_numbers("fold (what folding made of the weights)", folded.model)
    report = FoldReport(gains=moved.gains, affines=affines + moved.affines, absorbed=moved.absorbed)
    report.unseen = warn_unseen("fold", reference, is_constant)
    report.norms = {node.name: kind for node in folded if (kind := measures(node.module))}
    compare(reference, folded, sample, report)
    _judge(report, reference, sample, tolerance)
    return Folded(folded, report)


def _judge(report: FoldReport, reference: Graph, sample: Tensor, tolerance: float | None) -> None:
    double = _dtype(reference, sample) == torch.float64
    allowed = tolerance if tolerance is not None else (1e-9 if double else 1e-3)
    with torch.no_grad():
        size = max(1.0, *(float(out.abs().max()) for out in tree_leaves(reference.run(sample))))
    for where, difference in (
        ("on samples without flips", report.max_logit_difference),
        ("if fed the same spikes", report.max_logit_difference_forced),
    ):
        if not difference <= allowed * size:
            must = f"logits must agree within {allowed:g} of {size:.3g} {where}"
            raise bad_value("fold", must, f"{difference:.3g}", "report it: folding this network is wrong")
    for name, layer in report.layers.items():
        margin = _MARGIN_FLOAT64 if double else allowed * layer.largest
        if not layer.worst_margin <= margin:
            must = f"no spike farther than {margin:g} from its threshold may flip in {sample.dtype}"
            raise bad_value(f"fold {name}", must, layer.worst_margin, "report it: folding this network is wrong")


def _dtype(graph: Graph, sample: Tensor) -> torch.dtype:
    """The type that the network computes in: that of the sample, or where it holds indices, of the weights."""
    weights = (p.dtype for p in graph.model.parameters() if p.is_floating_point())
    return sample.dtype if sample.is_floating_point() else next(weights, torch.get_default_dtype())


def _shapes(graph: Graph, sample: Tensor) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(value, Tensor):  # a split has pieces
            shapes[node.name] = tuple(value.shape)
        return value

    with torch.no_grad():
        graph.run(sample.narrow(graph.batch_axis, 0, 1), handler=note)
    for node in graph.of_kind("input"):
        shapes[node.name] = tuple(sample.shape)
    return shapes

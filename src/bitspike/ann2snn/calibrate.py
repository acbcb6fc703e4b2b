"""One pass over calibration data: ANN and SNN side by side, each neuron's range and bias set on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

from bitspike.ann2snn.build import Place, Skeleton
from bitspike.ann2snn.refit import close, feeders, fits, refit
from bitspike.ann2snn.report import ConversionReport, LayerConversion, relative, shares
from bitspike.ann2snn.thresholds import ranges, rows_of
from bitspike.checks import finite
from bitspike.layers import Affine, Encoder, Gain, MeanReadout, Synapse
from bitspike.neurons import Neuron
from bitspike.observe import levels_of

_CHUNK = 64
_SLOPES = (0.5, 1.5)


@dataclass(frozen=True)
class Options:
    """How ranges and biases are chosen; see `ann2snn`."""

    threshold: str
    percentile: float
    sharing: str
    initial: float
    correction: str


@torch.no_grad()
def calibrate(skeleton: Skeleton, x: Tensor, T: int, options: Options) -> tuple[ConversionReport, Tensor]:
    """Fill a skeleton with numbers, in place; returns the report and what the ANN gives on the data, before a softmax.

    Every node is computed once for the ANN (one step) and once for the SNN (T steps), in the order of the graph, so a
    neuron sees the currents that the neurons before it really cause. At a neuron the order is: fit the weights of the
    layer before (if asked for), correct the currents of every channel, choose the range, fire, then move range and
    correction into the layers before.

    Args:
        skeleton: of `build`. x: calibration inputs [B, ...]. T: time steps. options: see `ann2snn`.
    """
    start = time.perf_counter()
    graph, root = skeleton.graph.fx, skeleton.graph.model
    neurons = {name: cast(Neuron, root.get_submodule(name)) for name in skeleton.places}
    record = next(iter(neurons.values())).format
    report = ConversionReport(
        len(x), T, record.label(), options.threshold, options.sharing, options.initial, options.correction
    )
    report.analog, report.outside = dict(skeleton.analog), skeleton.outside
    logits = x
    values: dict[fx.Node, tuple[Tensor, Tensor]] = {}
    last = {before: item for item in graph.nodes for before in item.all_input_nodes}
    fed: dict[fx.Node, list[fx.Node]] = {}  # neuron → layers in front of it that may be fitted
    for item in graph.nodes if options.correction == "weights" else ():
        if item.name in skeleton.places:
            fed[item] = feeders(item, root, skeleton.places[item.name].before)
    fitting = {node for nodes in fed.values() for node in nodes}
    arriving: dict[fx.Node, tuple[Synapse, Tensor, Tensor]] = {}
    for item in graph.nodes:
        if item.op == "placeholder":
            values[item] = (x, x)
        elif item.op == "output":
            outputs = [values[node] for node in item.all_input_nodes]
            logits = _finish(skeleton, outputs, report, options)
        elif item.name in skeleton.places:
            place, current = skeleton.places[item.name], values[item.all_input_nodes[0]]
            current, moved = _fit(place, [arriving.pop(node) for node in fed.get(item, [])], current)
            values[item], row = _settle(place, neurons[item.name], current, T, options)
            report.layers[item.name] = replace(row, weights=moved)
        else:
            module = root.get_submodule(str(item.target)) if item.op == "call_module" else None
            if isinstance(module, MeanReadout):
                wanted, got = values[item.all_input_nodes[0]]
                report.first_step = settle_readout(module, wanted, got, options.correction)
                values[item] = (wanted[0], module(got))
            else:
                values[item] = _both(root, item, values)
                if item in fitting:
                    arriving[item] = cast(Synapse, module), values[item.all_input_nodes[0]][1], values[item][1]
        for before in item.all_input_nodes:
            if last[before] is item:
                values.pop(before, None)
    report.time_s = time.perf_counter() - start
    return report, logits


def settle_readout(readout: MeanReadout, wanted: Tensor, got: Tensor, correction: str) -> int:
    """Let a read-out with a choice count the steps from the best one on, and return that step.

    The best one gives the least squared error of the logits, after the correction of their mean; the first of equals.

    Args:
        readout: set in place. wanted: logits of the ANN [1, B, K]. got: of the SNN [T, B, K].
        correction: see `ann2snn`.
    """
    if readout.keep is None:
        return 0
    errors = []
    for start in range(len(got)):
        difference = got[start:].mean(0) - wanted[0]
        if correction != "none":
            difference = difference - difference.mean(0)
        errors.append(float(difference.double().square().sum()))
    first = errors.index(min(errors))
    readout.keep[:first] = 0
    return first


def _both(root: nn.Module, item: fx.Node, values: dict[fx.Node, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A layer's output in the ANN and in the SNN."""
    if item.op == "call_module":
        module = root.get_submodule(str(item.target))
        if isinstance(module, Encoder):
            x = values[item.all_input_nodes[0]][0]
            return x.unsqueeze(0), module(x)
        function: Callable[..., Any] = module
        axis = 0 if isinstance(module, MeanReadout) else 1  # of the batch in the output
    else:
        axis = 1
        function = item.target if callable(item.target) else getattr(torch.Tensor, str(item.target))
    ann, snn = (_given(function, item, {n: v[side] for n, v in values.items()}, axis) for side in (0, 1))
    return ann, snn


def _given(function: Callable[..., Any], item: fx.Node, values: dict[fx.Node, Tensor], axis: int) -> Tensor:
    """A call over [T, B, ...], its arguments taken from ``values``; see `_chunked`."""
    inputs = item.all_input_nodes

    def call(*parts: Tensor) -> Any:
        each = dict(zip(inputs, parts, strict=True))
        args, kwargs = fx.node.map_arg((item.args, item.kwargs), lambda node: each[node])
        return function(*args, **kwargs)

    return _chunked(call, [values[node] for node in inputs], axis)


def _chunked(function: Callable[..., Any], inputs: list[Tensor], axis: int) -> Tensor:
    """A layer over [T, B, ...] on a few samples at a time; ``axis``: the batch in its output."""
    parts = zip(*(x.split(_CHUNK, 1) for x in inputs), strict=True)
    found = [function(*part) for part in parts]
    return torch.cat(found, axis)


def _fit(
    place: Place, layers: list[tuple[Synapse, Tensor, Tensor]], current: tuple[Tensor, Tensor]
) -> tuple[tuple[Tensor, Tensor], float]:
    """Fit the layer in front of a neuron that has most weights → (the current in both networks, |ΔW|/|W|).

    Args:
        layers: those that may be fitted: (layer, what arrives, what it sends), both over time [T, B, ...].
    """
    analog, currents = current
    able = [(module, x) for module, x, output in layers if fits(module, output, currents)]
    if not able:
        return current, 0.0
    module, x = max(able, key=lambda pair: pair[0].weight[0].numel())
    weights, shifts = refit(module, x.mean(0), currents.mean(0), analog[0])
    moved = float(weights.norm() / module.weight.norm().clamp_min(torch.finfo(weights.dtype).tiny))
    added = _chunked(lambda part: module.connect(part, weights, shifts), [x], 1)
    module.weight.add_(weights)
    if isinstance(place.shift, Affine):
        place.shift.shift = place.shift.shift + shifts
    else:
        cast(Tensor, cast(Synapse, place.shift).bias).add_(shifts)
    return (analog, currents + added), moved


def _settle(
    place: Place, neuron: Neuron, current: tuple[Tensor, Tensor], T: int, options: Options
) -> tuple[tuple[Tensor, Tensor], LayerConversion]:
    """Choose range and correction of one neuron → (its outputs in both networks, its row of the report)."""
    analog, currents = current
    finite(f"ann2snn {place.path}", "its input in the ANN, on the calibration data,", analog)
    finite(f"ann2snn {place.path}", "its current in the spiking network, on the calibration data,", currents)
    activation = place.rectifier(analog)
    wanted, mean = rows_of(activation), rows_of(currents.mean(0, keepdim=True))
    slope, correction = line(rows_of(analog), mean, options.correction)
    ceiling = _range(place, wanted, (mean + correction) * slope, neuron.format.high, T, options)
    spacing = neuron.stairs.spacing
    step = ceiling / neuron.format.high
    factor = slope * spacing / step
    amplitude = neuron.emission.raw_amplitude
    assert amplitude is not None
    amplitude.copy_((step * 2.0**neuron.emission.fraction_bits).reshape(amplitude.shape))
    spikes = neuron((currents + along(correction, currents)) * along(factor, currents))
    move(place, factor, correction)
    levels = levels_of(neuron, spikes)
    row = LayerConversion(
        place.path,
        place.rectifier.kind,
        relative(spikes.mean(0, keepdim=True), activation),
        *shares(levels, neuron.format),
        float(ceiling.min()),
        float(ceiling.max()),
        float((slope - 1).abs().max()),
        float(correction.square().mean().sqrt()),
        sum(isinstance(module, Gain) for module in place.before),
    )
    return (activation, spikes), row


def line(wanted: Tensor, got: Tensor, correction: str) -> tuple[Tensor, Tensor]:
    """(a, b) per column with ``a·(got + b)`` near ``wanted`` [N, C].

    "none": (1, 0). "mean": a = 1, equal means. Else least squares, a kept in [0.5, 1.5], equal means. What is left
    to rounding is no correction: where both sides are equal, a = 1 and b = 0 exactly.
    """
    slope, shift = torch.ones_like(got[0]), torch.zeros_like(got[0])
    least = close(got.dtype)
    means = wanted.mean(0), got.mean(0)
    spread = (got - means[1]).square().mean(0)
    if correction in ("line", "weights"):
        fitted = ((wanted - means[0]) * (got - means[1])).mean(0) / spread.clamp_min(torch.finfo(got.dtype).tiny)
        slope = torch.where((fitted - 1).abs() > least, fitted.clamp(*_SLOPES), slope)
        slope = torch.where(spread > 0, slope, torch.ones_like(slope))
    if correction != "none":
        found = means[0] / slope - means[1]
        shift = torch.where(found.abs() > least * (spread + means[1].square()).sqrt(), found, shift)
    return slope, shift


def _range(place: Place, wanted: Tensor, got: Tensor, levels: int, T: int, options: Options) -> Tensor:
    """The value of the highest level: [C], or [1] where a layer shares it."""
    grid = place.rectifier.levels
    if grid:
        return wanted.new_full((1,) if place.sharing == "layer" else (wanted.shape[1],), place.rectifier.ceiling)
    if place.sharing == "layer":
        wanted, got = wanted.reshape(-1, 1), got.reshape(-1, 1)
    slope = place.rectifier.slope
    return ranges(options.threshold, wanted, got, levels, T, options.initial, options.percentile, slope)


def along(value: Tensor, x: Tensor) -> Tensor:
    """[C] or [1] or [] shaped to broadcast over x [T, B, C, ...]."""
    return value.reshape(-1, *[1] * (x.dim() - 3)) if value.dim() else value


def move(place: Place, factor: Tensor, correction: Tensor) -> None:
    """Put both into the layers before a neuron: ``y' = factor·(y + correction)``."""
    factor = factor.expand(place.channels).contiguous()
    for module in place.before:
        if isinstance(module, Gain):
            module.factor = module.factor * factor
        elif isinstance(module, Affine):
            shift = module.shift + correction if module is place.shift else module.shift
            module.scale, module.shift = module.scale * factor, shift * factor
        else:
            _move_synapse(module, factor, correction if module is place.shift else None)


def _move_synapse(module: Synapse, factor: Tensor, correction: Tensor | None) -> None:
    module.weight.mul_(factor.reshape(-1, *[1] * (module.weight.dim() - 1)))
    if module.bias is not None:
        if correction is not None:
            module.bias.add_(correction)
        module.bias.mul_(factor)


def _finish(
    skeleton: Skeleton, outputs: list[tuple[Tensor, Tensor]], report: ConversionReport, options: Options
) -> Tensor:
    """Correct the mean of the logits and compare them, all outputs together; returns those of the ANN (the first)."""
    for wanted, got in outputs:
        finite("ann2snn", "the logits of the ANN on the calibration data", wanted)
        finite("ann2snn", "the logits of the spiking network on the calibration data", got)
    wanted, got = outputs[0]
    bias = None if skeleton.logits is None else skeleton.logits.bias
    alone = len(outputs) == 1 and got.dim() == 2
    if options.correction != "none" and alone and bias is not None and got.shape[1] == len(bias):
        correction = (wanted - got).mean(0)
        bias.add_(correction)
        outputs = [(wanted, got + correction)]
    flat = [torch.cat([pair[index].flatten() for pair in outputs]) for index in (0, 1)]
    report.logit_error = relative(flat[1], flat[0])
    kinds = [(w.argmax(1) == g.argmax(1)).double() for w, g in outputs if w.dim() > 1 and w.shape[1] > 1]
    report.agreement = float(torch.stack([same.mean() for same in kinds]).mean()) if kinds else 1.0
    return wanted

"""Light fine-tuning of a conversion: the thresholds alone, by surrogate gradients, kept only where they help."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor

from bitspike.ann2snn.build import Skeleton
from bitspike.ann2snn.calibrate import along, move
from bitspike.ann2snn.report import ConversionReport, relative
from bitspike.graph import Node
from bitspike.neurons import Neuron

_BATCH = 32
_RATE = 0.01
_HELD = 4  # one in so many samples judges


@torch.enable_grad()
def fine_tune(skeleton: Skeleton, x: Tensor, wanted: Tensor, epochs: int, report: ConversionReport) -> None:
    """Train the value λ of every neuron's highest level towards the ANN's logits, in place.

    ``λ' = λ·exp(g)``, one g a channel or layer: the current is multiplied by exp(−g), the spikes by exp(g). Adam, rate
    0.01, squared error of the logits, on three quarters of the data; the other quarter judges: where its error has not
    fallen, every threshold stays as it was, and the report says so.

    Source: ours.

    Args:
        skeleton: calibrated. x: calibration inputs [B, ...], B >= 2. wanted: logits of the ANN on them.
        epochs: passes over the three quarters, >= 1. report: completed in place.
    """
    judged = torch.arange(len(x), device=x.device) % _HELD == _HELD - 1 if len(x) >= _HELD else _odd(x)
    shifts = {name: _zeros(skeleton, name) for name in skeleton.places}
    before = _error(skeleton, x[judged], wanted[judged], shifts)
    optimiser = torch.optim.Adam(shifts.values(), lr=_RATE)
    train, target = x[~judged], wanted[~judged]
    generator = torch.Generator().manual_seed(0)
    for _ in range(epochs):
        for some in torch.randperm(len(train), generator=generator).split(_BATCH):
            optimiser.zero_grad()
            got = _run(skeleton, train[some], shifts)
            (got - target[some]).square().mean().backward(inputs=list(shifts.values()))  # weights get no gradient
            optimiser.step()
    after = _error(skeleton, x[judged], wanted[judged], shifts)
    report.tuning = (before, after)
    if after < before:
        _keep(skeleton, shifts, report)
        got = torch.cat([_run(skeleton, part, None).detach() for part in x.split(_BATCH)])
        report.logit_error = relative(got, wanted)
        report.agreement = float((wanted.argmax(1) == got.argmax(1)).double().mean())


def _odd(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device) % 2 == 1


def _zeros(skeleton: Skeleton, name: str) -> Tensor:
    """No change, one number for every amplitude of a neuron."""
    amplitude = _neuron(skeleton, name).emission.raw_amplitude
    assert amplitude is not None
    return torch.zeros_like(amplitude, requires_grad=True)


def _neuron(skeleton: Skeleton, name: str) -> Neuron:
    return cast(Neuron, skeleton.graph.model.get_submodule(name))


def _run(skeleton: Skeleton, x: Tensor, shifts: dict[str, Tensor] | None) -> Tensor:
    """Logits of the SNN with its thresholds moved."""

    def moved(node: Node, call: Callable[[], Tensor], args: tuple[Tensor, ...]) -> Tensor:
        if shifts is None or node.name not in shifts:
            return call()
        shift = along(shifts[node.name], args[0])
        return _neuron(skeleton, node.name)(args[0] * (-shift).exp()) * shift.exp()  # type: ignore[no-any-return]

    return skeleton.graph.run(x, handler=moved)  # type: ignore[no-any-return]


@torch.no_grad()
def _error(skeleton: Skeleton, x: Tensor, wanted: Tensor, shifts: dict[str, Tensor]) -> float:
    return relative(torch.cat([_run(skeleton, part, shifts) for part in x.split(_BATCH)]), wanted)


@torch.no_grad()
def _keep(skeleton: Skeleton, shifts: dict[str, Tensor], report: ConversionReport) -> None:
    """Move the new thresholds into amplitudes and into the layers before."""
    for name, shift in shifts.items():
        place, neuron = skeleton.places[name], _neuron(skeleton, name)
        amplitude = neuron.emission.raw_amplitude
        assert amplitude is not None
        amplitude.mul_(shift.exp())
        move(place, (-shift).exp().reshape(-1), torch.zeros(place.channels).to(shift))
        ceiling = neuron.emission.scale() * neuron.format.high
        row = report.layers[name]
        row.ceiling_least, row.ceiling_greatest = float(ceiling.min()), float(ceiling.max())

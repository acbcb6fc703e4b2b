"""Ordinary networks of today's designs, trained, converted: accuracy, error as reported, folded, counted, compiled."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import bitspike
from bitspike.data import load
from bitspike.neurons import Signed
from bitspike.runtime import Program
from vision_anns import ANNS, trained

pytestmark = pytest.mark.slow
ANALOG = {
    "mobile": {"Hardswish", "Hardsigmoid", "mul"},
    "efficient": {"SiLU", "Sigmoid", "mul"},
    "next": {"GELU"},  # factors of the last axis are in the linear map before
    "next, measured norms": {"GELU", "LayerNorm", "GroupNorm"},
    "branched": {"GELU", "SiLU"},
}


@functools.cache
def prepared(name: str) -> tuple[nn.Module, Tensor, Tensor, Tensor]:
    """(ANN, calibration images, other images, their labels)."""
    pytest.importorskip("sklearn", reason="not run: scikit-learn is not installed")
    digits = load("digits")
    held = digits.validation
    some = digits.train.normalise(digits.train.images[:256])
    return trained(name, digits), some, held.normalise(held.images), held.labels


@torch.no_grad()
def accuracy(net: Any, x: Tensor, labels: Tensor) -> float:
    return float((net(x).argmax(1) == labels).double().mean())


@pytest.mark.parametrize(("levels", "T", "lost"), [(127, 1, 0.01), (15, 1, 0.03), (7, 4, 0.03)])
@pytest.mark.parametrize("name", ANNS)
def test_accuracy_stays_and_the_error_is_reported(name: str, levels: int, T: int, lost: float) -> None:
    net, some, x, labels = prepared(name)
    assert accuracy(net, x, labels) > 0.93
    snn = bitspike.ann2snn(net, Signed(levels, decay=1.0), some, T)
    assert snn.report is not None and set(snn.report.analog.values()) == ANALOG[name]
    assert accuracy(snn, x, labels) > accuracy(net, x, labels) - lost
    with torch.no_grad():
        wanted, got = net(some), snn(some)
    assert snn.report.logit_error == pytest.approx(float((got - wanted).norm() / wanted.norm()), rel=1e-3)
    signed = [row for row in snn.report.layers.values() if row.activation in ("GELU", "SiLU", "Hardswish")]
    assert signed and all(0 < row.error < 0.5 for row in signed)


@pytest.mark.parametrize("name", [name for name in ANNS if "measured" not in name])
def test_folded_counted_and_compiled(name: str) -> None:
    net, some, x, labels = prepared(name)
    snn = bitspike.ann2snn(net, Signed(127, decay=1.0), some, 1)
    folded = bitspike.fold(snn, some[:64])
    spikes = sum(layer.spikes for layer in folded.report.layers.values())
    assert folded.report.forced_flips <= 1e-4 * spikes and folded.report.agreement == 1  # ties, in float32
    counted = bitspike.cost(folded, some[:8])
    assert snn.report is not None and len(counted.uncounted) == len(snn.report.analog)
    deep = [row for row in counted.synapses if row.spiking]
    assert len(deep) >= 3 and all(row.multiplications == 0 for row in deep)
    assert sum(row.shift_adds > 0 for row in deep) >= 3  # a gate may be silent
    program = bitspike.compile(folded, some, activation_bits=16)
    with torch.no_grad():
        wanted = folded(x).numpy()
    got = program(x.numpy()).values
    assert np.array_equal(got[:16], Program(program.spec, "interpreter")(x[:16].numpy()).values)
    assert (got.argmax(1) == wanted.argmax(1)).mean() > 0.985
    assert abs(float((got.argmax(1) == labels.numpy()).mean()) - accuracy(folded, x, labels)) < 0.01
    assert np.abs(got - wanted).max() < 0.1 * np.abs(wanted).max()


def test_norms_that_measure_are_refused_by_name() -> None:
    net, some, _, _ = prepared("next, measured norms")
    folded = bitspike.fold(bitspike.ann2snn(net, Signed(127, decay=1.0), some, 1), some[:64])
    with pytest.raises(ValueError, match=r"GroupNorm divides by a deviation .* train with batch norms"):
        bitspike.compile(folded, some)

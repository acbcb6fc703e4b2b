"""A published ResNet-20 converted on a few training images and compared on others, never on test images."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import bitspike
from bitspike.cost import cost
from bitspike.data import load
from bitspike.models import IMAGENET_MEAN, IMAGENET_STD, he_resnet20, load_he_checkpoint
from bitspike.neurons import MultiBit


@pytest.mark.data
@pytest.mark.skipif(not os.environ.get("BITSPIKE_DATA"), reason="BITSPIKE_DATA is not set")
def test_resnet20_with_four_bits() -> None:
    """Classes agree with the ANN, more steps come closer, and no hidden synapse multiplies after folding."""
    splits = load("cifar10")
    train, held = (replace(p, mean=IMAGENET_MEAN, std=IMAGENET_STD) for p in (splits.train, splits.validation))
    path = Path(os.environ["BITSPIKE_DATA"]) / "checkpoints" / "resnet20-12fca82f.th"
    net = load_he_checkpoint(he_resnet20(nn.ReLU(), T=1), path).eval()
    x, other = train.normalise(train.images[:128]), held.normalise(held.images[:256])
    errors = []
    with torch.no_grad():
        wanted = net(other)
        for T in (1, 2):
            snn = bitspike.ann2snn(net, MultiBit(2, 2, decay=1.0), x, T)
            got = snn(other)
            assert float((got.argmax(1) == wanted.argmax(1)).double().mean()) > 0.97
            errors.append(float((got - wanted).norm() / wanted.norm()))
            assert snn.report is not None and snn.report.time_s < 120 and len(snn.report.layers) == 19
    assert errors[1] < errors[0] < 0.25
    folded = bitspike.fold(snn, other[:32])
    assert len(folded.report.gains) == 9  # identity and zero-padding shortcuts
    counted = cost(folded.graph, other[:32])
    hidden = [row for row in counted.layers if row.kind == "synapse" and row.role == "hidden"]
    assert len(hidden) == 18 and all(row.multiplications == 0 and row.input_bits == 4 for row in hidden)

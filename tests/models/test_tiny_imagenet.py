"""ResNets with the ImageNet stem on real images: the loss falls, folding verifies, every form has finite gradients."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import bitspike
from bitspike.data import Batches, Splits, load
from bitspike.models import MODELS, Network
from bitspike.neurons import MultiBit, Neuron, Ternary

pytest.importorskip("PIL")
pytestmark = [pytest.mark.slow, pytest.mark.data]
SIDE = 32


@pytest.fixture(scope="module")
def splits() -> Splits:
    return load("tiny_imagenet10", os.environ["BITSPIKE_DATA"], size=SIDE)


def network(name: str, neuron: Neuron, **options: Any) -> Network:
    torch.manual_seed(0)
    return MODELS[name](neuron, shape=(3, SIDE, SIDE), classes=10, **options)


def test_resnet18_with_ternary_spikes_learns_and_folds(splits: Splits) -> None:
    """Two epochs at a quarter of the width: well below the loss of a guess, ln 10 = 2.30."""
    net = network("resnet18", Ternary(train_amplitude="channel"), width=16)
    optimiser = torch.optim.AdamW(net.parameters(), lr=1e-3)
    losses: list[float] = []
    epochs = (Batches(splits.train, 64, shuffle=True, epoch=epoch, drop_last=True) for epoch in (0, 1))
    for x, labels in itertools.chain.from_iterable(epochs):
        loss = F.cross_entropy(net(x), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    first, last = sum(losses[:20]) / 20, sum(losses[-20:]) / 20
    assert last < 2.1 and last < first - 0.2, (first, last)

    net.eval()
    x, _ = next(iter(Batches(splits.validation, 64)))
    report = bitspike.fold(net, x).report
    assert report.agreement >= 0.98 and report.max_logit_difference < 1e-2, str(report)
    assert all(0.02 <= layer.rate <= 0.98 for layer in report.layers.values())
    exact = bitspike.fold(net.double(), x[:16].double()).report
    assert exact.forced_flips == 0 and exact.agreement == 1.0 and exact.max_logit_difference < 1e-9, str(exact)


@pytest.mark.parametrize("sew", [False, True])
@pytest.mark.parametrize("wiring", ["spike", "input"])
@pytest.mark.parametrize(("name", "neuron"), [("resnet18", Ternary()), ("resnet34", MultiBit(1, 1))])
def test_a_step_of_every_form(splits: Splits, name: str, neuron: Neuron, wiring: str, sew: bool) -> None:
    """At full width, plain and SEW, in both wirings."""
    net = network(name, neuron, sew=sew, wiring=wiring, T=1)
    optimiser = torch.optim.SGD(net.parameters(), lr=1e-3)
    x, labels = splits.train.normalise(splits.train.images[:8]), splits.train.labels[:8]
    before = net.get_submodule("body.stem.conv").weight.detach().clone()  # type: ignore[union-attr]
    F.cross_entropy(net(x), labels).backward()
    gradients = {key: p.grad for key, p in net.named_parameters()}
    silent = [key for key, g in gradients.items() if g is None or not torch.isfinite(g).all()]
    assert not silent
    assert all(float(gradients[key].abs().max()) > 0 for key in gradients if key.endswith("conv.weight"))  # type: ignore
    optimiser.step()
    assert not torch.equal(before, net.get_submodule("body.stem.conv").weight)  # type: ignore[arg-type]
    assert torch.isfinite(net(x)).all()

"""Code that no symbolic trace follows is run on the sample, and means the same for every batch size."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import einops
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import prune

import bitspike
from bitspike import upgrade
from bitspike.neurons import LIF, MultiBit

Forward = Callable[[Any, Tensor], Any]


class Written(nn.Module):
    """Two layers and a buffer; ``written`` is the forward."""

    def __init__(self, written: Forward) -> None:
        super().__init__()
        self.written = written
        self.fc1, self.fc2 = nn.Linear(6, 8), nn.Linear(8, 3)
        self.register_buffer("offset", torch.linspace(-1, 1, 8))

    def forward(self, x: Tensor) -> Any:
        return self.written(self, x)


def lengths(s: Any, x: Tensor) -> Tensor:
    assert x.shape[-1] == 6 and len(x) > 0
    y = s.fc1(x).relu().reshape(len(x), -1)
    return s.fc2(y[:, : int(y.size(1) * 1.0)] if y.shape[1] > 4 else y)


def numbers(s: Any, x: Tensor) -> Tensor:
    b, c = x.shape
    y = s.fc1(x) * math.sqrt(c) + torch.zeros(b, 8, dtype=x.dtype) + torch.arange(8.0).to(x)
    return s.fc2(y.relu().view(b * 2, 4).view(b, 8))


def parameter_over_the_batch(s: Any, x: Tensor) -> Tensor:
    extra = s.offset.expand(len(x), -1)
    return s.fc2(torch.cat([s.fc1(x).relu(), extra], 1)[:, :8])


def loops(s: Any, x: Tensor) -> Tensor:
    parts = [s.fc1(x)[:, i] for i in range(s.fc1(x).size(1))]
    return s.fc2(F.relu(torch.stack(parts, 1)))


def with_einops(s: Any, x: Tensor) -> Tensor:
    y = einops.rearrange(s.fc1(x), "b (h w) -> b h w", h=2)
    return s.fc2(einops.rearrange(F.relu(y), "b h w -> b (h w)"))


def numpy_constant(s: Any, x: Tensor) -> Tensor:
    weights = torch.from_numpy(np.linspace(0, 1, x.shape[1])).to(x)
    return s.fc2(F.relu(s.fc1(x * weights)))


FOLLOWED: dict[str, Forward] = {
    f.__name__: f for f in (lengths, numbers, parameter_over_the_batch, loops, with_einops, numpy_constant)
}


@pytest.mark.parametrize("name", FOLLOWED)
def test_code_that_reads_sizes_is_followed_for_every_batch(name: str) -> None:
    torch.manual_seed(0)
    model, sample = Written(FOLLOWED[name]).double(), torch.randn(4, 6, dtype=torch.float64)
    net = upgrade(model, {nn.ReLU: MultiBit(2, 2)}, sample, T=2)
    assert net.report.difference < 1e-12 and len(net.report.neurons) >= 1
    for batch in (1, 2, 3, 8, 11):
        x = torch.randn(batch, 6, dtype=torch.float64)
        both = net.eval()(x)
        assert both.shape == (batch, 3)
        assert torch.allclose(both, torch.cat([net(one[None]) for one in x]), atol=1e-12)
    folded = bitspike.fold(net, sample)
    assert torch.allclose(folded(x), net(x), atol=1e-9)


def test_other_shapes_than_the_sample_are_refused() -> None:
    def pads(s: Any, x: Tensor) -> Tensor:
        side = max(0, 9 - len(x[0]))
        return s.fc2(F.relu(F.pad(x, (0, side)))[:, :8])

    net = upgrade(Written(pads), {nn.ReLU: LIF()}, torch.randn(4, 6), T=2)
    assert net.report.fixed_shape == (6,) and "shape [6] alone" in str(net.report)
    with pytest.raises(ValueError, match=r"a sample must have the shape \[6\] .* got \[8\]"):
        net(torch.randn(2, 8))
    folded = bitspike.fold(net.eval(), torch.randn(4, 6))
    with pytest.raises(ValueError, match=r"the shape \[6\]"):
        folded(torch.randn(2, 8))


def test_code_that_can_be_traced_takes_other_shapes() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2, 3))
    net = upgrade(model, {nn.ReLU: LIF()}, torch.randn(2, 1, 8, 8))
    assert net.report.fixed_shape is None and net(torch.randn(2, 1, 9, 7)).shape == (2, 3)


def item(s: Any, x: Tensor) -> Tensor:
    return s.fc2(F.relu(s.fc1(x) * float(x.max())))


def branch(s: Any, x: Tensor) -> Tensor:
    assert len(x)
    return s.fc2(F.relu(s.fc1(x))) if x.sum() > 1e9 else s.fc2(F.relu(s.fc1(-x)))


def through_numpy(s: Any, x: Tensor) -> Tensor:
    return s.fc2(F.relu(torch.from_numpy(s.fc1(x).detach().numpy())))


def unbound(s: Any, x: Tensor) -> Tensor:
    return s.fc2(torch.stack([F.relu(s.fc1(one)) for one in x[: len(x)]]))


def share_of_the_batch(s: Any, x: Tensor) -> Tensor:
    return s.fc2(F.relu(s.fc1(x) / len(x)))


@torch.jit.script
def scripted(x: Tensor) -> Tensor:
    return x * 2.0


def foreign(s: Any, x: Tensor) -> Tensor:
    assert len(x)
    return s.fc2(F.relu(scripted(s.fc1(x))))


def kept(s: Any, x: Tensor) -> Tensor:
    s.last = [s.fc1(x)[: len(x)]]
    return s.fc2(s.last[0].relu())


def written_through_a_view(s: Any, x: Tensor) -> Tensor:
    y = s.fc1(x[: len(x)])
    y.view(-1).add_(1)
    return s.fc2(F.relu(y))


def drawn(s: Any, x: Tensor) -> Tensor:
    return s.fc2(F.relu(s.fc1(x[: len(x)]) + torch.randn(8).to(x)))


REFUSED: dict[str, tuple[Forward, str]] = {
    "item": (item, r"__float__ makes a float of values that depend on the input \(.*test_recorded.py:\d+\)"),
    "branch": (branch, r"__bool__ makes a bool .*test_recorded.py:\d+\)"),
    "numpy": (through_numpy, r"numpy makes a ndarray"),
    "unbound": (unbound, r"another batch size takes another path"),
    "share": (share_of_the_batch, r"others of the batch.* at \w+ in the forward"),
    "foreign": (foreign, r"made outside of torch's calls"),
    "view": (written_through_a_view, r"must compute what the model does, got a difference"),
    "drawn": (drawn, r"computes something else than the forward did, which keeps a state, draws numbers"),
    "kept": (kept, r"must keep no value of the forward, got state in its attribute 'last'"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_values_decide_is_refused_with_its_line(name: str) -> None:
    forward, message = REFUSED[name]
    with pytest.raises(ValueError, match=r"(?s)^upgrade: .*" + message):
        upgrade(Written(forward), {nn.ReLU: LIF()}, torch.rand(4, 6), T=2)


def test_without_a_sample_the_remedy_is_one() -> None:
    with pytest.raises(ValueError, match=r"pass sample=\.\.\., on which the code is then run"):
        upgrade(Written(lengths), {nn.ReLU: LIF()})
    upgrade(Written(lengths), {nn.ReLU: LIF()}, sample=torch.rand(4, 6))


def test_dropout_functions_that_are_run_stay_dropout() -> None:
    def forward(s: Any, x: Tensor) -> Tensor:
        assert len(x)
        return s.fc2(F.dropout(F.relu(s.fc1(x)), 0.5, s.training))

    net = upgrade(Written(forward), {nn.ReLU: LIF(threshold=0.1)}, torch.rand(4, 6), T=2)
    assert net.report.only_in_training == [] and any(isinstance(m, nn.Dropout) for m in net.modules())
    x = torch.rand(64, 6)
    assert not torch.equal(net.train()(x), net(x)) and torch.equal(net.eval()(x), net(x))


@pytest.mark.parametrize("read", ["symbolic", "run"])
def test_what_training_does_alone_is_left_out_and_named(read: str) -> None:
    def forward(s: Any, x: Tensor) -> Any:
        assert read == "symbolic" or len(x)
        y = F.relu(s.fc1(x))
        if s.training:
            return s.fc2(y), y.mean(1)
        return s.fc2(y)

    with pytest.warns(UserWarning, match=r"in training alone is left out: mean in the forward \(.*test_recorded.py"):
        net = upgrade(Written(forward), {nn.ReLU: LIF()}, torch.rand(4, 6), T=2)
    assert "left out, done in training alone: mean" in str(net.report)
    assert net.train()(torch.rand(4, 6)).shape == (4, 3)


@pytest.mark.parametrize("kind", ["weight norm", "spectral norm", "pruned"])
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weights_that_hooks_compute_are_copied_and_train(kind: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))
    if kind == "weight norm":
        nn.utils.weight_norm(model[0])
    elif kind == "spectral norm":
        nn.utils.spectral_norm(model[0])
    else:
        prune.l1_unstructured(model[0], "weight", 0.5)
    x = torch.rand(4, 6)
    wanted = model.eval()(x)
    net = upgrade(model, {nn.ReLU: nn.ReLU()}, x, T=1).eval()
    assert torch.allclose(net(x), wanted, atol=1e-6)
    before = copy.deepcopy(dict(model.named_parameters()))
    torch.optim.SGD(net.parameters(), 1.0).zero_grad()
    net.train()(x).sum().backward()
    grads = [p.grad for name, p in net.named_parameters() if name.startswith("body.0")]
    assert len(grads) >= 2 and all(g is not None and g.abs().max() > 0 for g in grads)
    assert all(torch.equal(before[name], p) for name, p in model.named_parameters())

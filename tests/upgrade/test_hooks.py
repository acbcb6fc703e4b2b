"""Hooks of the model given, and weights that something computes: kept, or gone and named."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import bitspike
from bitspike import upgrade
from bitspike.neurons import LIF

X = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))


class Block(nn.Module):
    """A container with code of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.act = nn.Linear(4, 6), nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.layer(x))  # type: ignore[no-any-return]


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(Block(), nn.Linear(6, 2))


def test_gradient_hooks_of_parameters_work_on_the_copy() -> None:
    """A deep copy of torch's loses them: a frozen part of a weight was trained without a word."""
    net, mask = model(), torch.arange(12).reshape(2, 6) % 2
    net[1].weight.register_hook(lambda grad: grad * mask)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = upgrade(net, {nn.ReLU: nn.ReLU()}, X, T=1)
    made(X).square().sum().backward()
    net(X).square().sum().backward()
    grad = made.body.get_submodule("1").weight.grad
    assert torch.allclose(grad, net[1].weight.grad) and (grad[mask == 0] == 0).all() and (grad[mask == 1] != 0).all()
    assert made.report.lost_hooks == []


def _behind(net: nn.Sequential) -> None:
    net[1].weight.register_post_accumulate_grad_hook(lambda p: None)


def _frozen(net: nn.Sequential) -> None:
    net[1].weight.register_hook(lambda grad: grad)
    net[1].weight.requires_grad_(False)


LOST: dict[str, tuple[Callable[[Any], Any], list[str]]] = {
    "the whole model": (lambda net: net.register_forward_hook(lambda *_: None), ["the model"]),
    "a container": (lambda net: net[0].register_forward_pre_hook(lambda *_: None), ["0"]),
    "a container's gradient": (lambda net: net[0].register_full_backward_hook(lambda *_: None), ["0"]),
    "a replaced activation": (lambda net: net[0].act.register_forward_hook(lambda *_: None), ["0.act"]),
    "a state": (lambda net: net[1].register_state_dict_post_hook(lambda *_: None), ["1"]),
    "an accumulation": (_behind, ["1.weight"]),
    "without gradient": (_frozen, ["1.weight"]),
}


@pytest.mark.parametrize("name", LOST)
def test_hooks_that_are_gone_are_named(name: str) -> None:
    net = model()
    register, wanted = LOST[name]
    register(net)
    with pytest.warns(UserWarning, match=f"upgrade: hooks that the network does not run: {wanted[0]}; register them"):
        made = upgrade(net, {nn.ReLU: LIF()}, X)
    assert made.report.lost_hooks == wanted
    assert f"hooks that are gone: {wanted[0]}" in str(made.report)


def test_hooks_of_layers_that_run_as_they_are_still_run() -> None:
    net, seen = model(), []
    net[1].register_forward_hook(lambda *_: seen.append(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = upgrade(net, {nn.ReLU: LIF()}, X)
    seen.clear()
    made(X)
    assert seen and made.report.changed == {"1": "hooks"}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda layer: parametrizations.weight_norm(layer), "weight norm"),
        (lambda layer: parametrizations.spectral_norm(layer), "spectral norm"),
        (lambda layer: parametrizations.orthogonal(layer), "Orthogonal"),
        (lambda layer: nn.utils.weight_norm(layer), "weight norm"),
        (lambda layer: nn.utils.spectral_norm(layer), "spectral norm"),
        (lambda layer: prune.l1_unstructured(layer, "weight", 0.5), "pruning"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated")
def test_weights_that_something_computes_are_named_in_report_and_cost(change: Callable[[Any], Any], word: str) -> None:
    net = model()
    change(net[1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = upgrade(net, {nn.ReLU: LIF()}, X).eval()
    assert made.report.changed == {"1": word} and made.report.uncounted == ["1"]
    assert f"no synapses, for what changes them at every call (remove it first): 1: {word}" in str(made.report)
    assert bitspike.cost(made, X).uncounted == [f"body_1 ({word})"]
    assert bitspike.cost(bitspike.fold(made, X).graph, X).uncounted == [f"body_1 ({word})"]

"""Networks with forward convolutions in int8: which layers take part, what they compute, lean memory, training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bitspike import int8, lean
from bitspike.layers import Conv2d, MeanReadout, Repeat
from bitspike.neurons import LIF, Integer, MultiBit, Neuron, Ternary
from bitspike.ops import using
from bitspike.ops.convolve_int8 import missing
from bitspike.quantizers import LearnedBits, Quantizer, Sign, TernaryWeight, Uniform
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.job import load_data
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe, recipe_from_mapping
from builders import images, tiny
from networks import liven, make_neuron, samples, small_cnn
from runs import CutError, cut_after, equal

pytestmark = pytest.mark.skipif(bool(missing()), reason=f"not run: {missing()}")
Context = Callable[[], AbstractContextManager[Any]]
CLASS_M: dict[str, Any] = {"detach_reset": True, "surrogate": "rectangle", "threshold": 0.5}
PAIRS: dict[str, tuple[Callable[[], Neuron], Callable[[], Quantizer]]] = {
    "binary": (lambda: LIF(**CLASS_M), TernaryWeight),
    "trained amplitude": (lambda: Ternary(train_amplitude="layer", **CLASS_M), lambda: Uniform(3, "output")),
    "multi-bit": (lambda: MultiBit(1, 1, amplitude=0.731, **CLASS_M), lambda: Uniform(4)),
    "undetached": (lambda: Integer(3, detach_reset=False, surrogate="atan"), Sign),
    "adaptive": (lambda: make_neuron("adaptive"), lambda: LearnedBits(3)),
}


def network(pair: str, **options: Any) -> nn.Module:
    neuron, weight = PAIRS[pair]
    net = liven(tiny("he_resnet20", neuron(), weight=weight(), **options), batch().contiguous())
    return net.to(memory_format=torch.channels_last).train()  # type: ignore[call-overload, no-any-return]


def batch() -> Tensor:
    return images(4, (3, 8, 8), torch.float32).contiguous(memory_format=torch.channels_last)


def passed(net: nn.Module, *contexts: Context) -> tuple[list[Tensor], Any]:
    """Output, buffers and gradients of one pass; and what the first context gives."""
    net.zero_grad()
    before = [value.clone() for value in net.buffers()]
    with ExitStack() as stack:
        first = [stack.enter_context(context()) for context in contexts]
        y = net(batch())
    F.cross_entropy(y, torch.arange(4) % 10).backward()
    after = [value.clone() for value in net.buffers()]
    for value, old in zip(net.buffers(), before, strict=True):
        value.copy_(old)
    return [y.detach(), *after, *(p.grad.clone() for p in net.parameters() if p.grad is not None)], first[0]


@pytest.mark.parametrize("wiring", ["spike", "input"])
@pytest.mark.parametrize("pair", PAIRS)
def test_every_hidden_convolution_takes_part_and_is_exact(pair: str, wiring: str) -> None:
    net, seen = network(pair, wiring=wiring), []
    hidden = [m for m in net.modules() if isinstance(m, Conv2d) and m.role != "first"]

    def compare(layer: nn.Module, given: tuple[Tensor, ...], y: Tensor) -> None:
        assert isinstance(layer, Conv2d)
        x, weight = given[0].double().flatten(0, 1), layer.quantizer(layer.weight).double()
        exact = F.conv2d(x, weight, None, layer.stride, layer.padding)
        terms = F.conv2d(x.abs(), weight.abs(), None, layer.stride, layer.padding)
        assert ((y.double().flatten(0, 1) - exact).abs() <= 2.5e-7 * terms).all()  # roundings of factors and result
        seen.append(given[0].abs().max() > 0)

    for layer in hidden:
        layer.register_forward_hook(compare)
    _, record = passed(net, int8)
    assert len(seen) == len(hidden) == record.taken and all(seen)
    assert record.kept["the input is not known to be integer spikes"] == 1  # the image


@pytest.mark.parametrize("pair", PAIRS)
def test_lean_memory_is_equal_bit_for_bit(pair: str) -> None:
    net = network(pair)
    wanted, _ = passed(net, int8)
    for contexts in ((int8, lean), (lean, int8)):
        found, _ = passed(net, *contexts)
        assert len(found) == len(wanted) > 20
        assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))
    plain = passed(net, lean)[0]  # floating point rounds in another order
    assert not all(torch.equal(one, other) for one, other in zip(plain, wanted, strict=True))


def test_powers_of_two_train_alike_bit_for_bit() -> None:
    """Dyadic weights and scales: no sum is rounded, so all of a step is equal, learned step sizes included."""

    def step(context: Context) -> list[Tensor]:
        torch.manual_seed(0)
        convs = [Conv2d(i, o, 3, padding=1, weight=Uniform(4)) for i, o in ((3, 8), (8, 8), (8, 4))]
        for conv in convs:
            conv.quantizer.step.data.fill_(2.0**-3)  # type: ignore[union-attr, operator]
        layers = [Repeat(3), convs[0], MultiBit(1, 1), convs[1], LIF(threshold=0.5), convs[2], MeanReadout()]
        net = nn.Sequential(*layers).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        x = (batch() * 8).round() / 8
        with context() as record:
            y = net(x)
        assert record is None or record.taken == 2
        (y * torch.arange(y.numel()).reshape(y.shape).remainder(5)).sum().backward()
        return [y.detach(), *(p.grad for p in net.parameters() if p.grad is not None)]

    found, wanted = step(int8), step(lean)
    assert len(found) == 1 + 2 * 3 and all(value.abs().max() > 0 for value in wanted)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_evaluation_and_plain_memory_order() -> None:
    net = network("multi-bit").eval()
    with torch.no_grad(), int8() as record:
        net(batch())
    assert record.taken == 18
    with torch.inference_mode(), int8() as record:
        net(batch())
    assert record.taken == 0  # no count of changes in place there
    plain = tiny("he_resnet20", LIF(**CLASS_M), weight=Uniform(4)).train()
    x = batch().contiguous()
    with int8() as record:
        y = plain(x)
    assert record.taken == 0 and record.kept["the memory order must be channels-last"] == 18
    assert torch.equal(y, plain(x))


def test_the_reference_can_be_demanded() -> None:
    net = network("binary")
    wanted, _ = passed(net, lean)
    found, _ = passed(net, lambda: using("reference", "convolve"), int8)
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_inside_torch_compile() -> None:
    """A compiled network within the context is refused, not run in floating point in silence."""
    net = torch.compile(small_cnn(LIF(), Uniform(4)), backend="eager", fullgraph=True)
    with int8(), pytest.raises(Exception, match="must run uncompiled"):
        net(samples(2, dtype=torch.float32))


def recipe(neuron: str = "multibit", **train: Any) -> Recipe:
    given = {"epochs": 2, "threads": 1, "log_every": 1, "channels_last": True, "forward": "int8", **train}
    return recipe_from_mapping(
        {
            "name": "int8",
            "data": {"name": "digits", "augment": "shift", "pad": 1, "batch_size": 128},
            "model": {"options": {"width": 4, "stem_stride": 1}},
            "neuron": {"name": neuron},
            "weight": {"name": "uniform", "bits": 3},
            "train": given,
        }
    )


def test_training_learns_and_resumes_bit_for_bit(tmp_path: Path) -> None:
    splits = load_data(recipe())
    whole = fit(recipe(), splits)
    assert whole.history[-1]["loss"] < whole.history[0]["loss"]
    plain = fit(recipe(forward="float"), splits)
    assert whole.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=0.05)
    last, other = whole.model.state_dict(), plain.model.state_dict()
    assert not all(torch.equal(other[name], value) for name, value in last.items())  # int8 did run
    with pytest.raises(CutError):
        fit(recipe(), splits, cut_after(7), Checkpoints(tmp_path, "k"), checkpoint_steps=2)
    assert equal(whole, fit(recipe(), splits, None, Checkpoints(tmp_path, "k"), checkpoint_steps=2))


@pytest.mark.parametrize(
    ("change", "reason"),
    [({"neuron": "real"}, "not known to be integer spikes"), ({"channels_last": False}, "must be channels-last")],
)
def test_training_says_where_nothing_is_in_int8(change: dict[str, Any], reason: str) -> None:
    splits = load_data(recipe())
    with pytest.warns(UserWarning, match=rf"(?s)train\.forward = 'int8' changes nothing here.*{reason}"):
        fit(recipe(epochs=1, **change), splits)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        fit(recipe(epochs=1), splits)


def test_nan_goes_through() -> None:
    convs = [Conv2d(i, o, 3, padding=1, weight=Uniform(4)) for i, o in ((3, 8), (8, 4))]
    layers = [Repeat(2), convs[0], MultiBit(1, 1), convs[1], MeanReadout()]
    net, x = nn.Sequential(*layers).to(memory_format=torch.channels_last), batch()  # type: ignore[call-overload]
    x[1, 0, 0, 0] = math.nan
    wanted = net(x)
    with int8() as record:
        y = net(x)
    assert record.taken == 1 and wanted[1].isnan().any() and not wanted[0].isnan().any()
    torch.testing.assert_close(y, wanted, equal_nan=True)
    for found in (y, wanted):
        net.zero_grad()
        found[0].sum().backward()
        assert convs[1].weight.grad is not None and convs[1].weight.grad.isnan().any()

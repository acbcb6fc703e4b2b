"""Channel attention on the previous layer's signal: by hand, gradients, steps, memory order, the control."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from bitspike import stream, trace
from bitspike.layers import Restimulate
from bitspike.neurons import LIF
from networks import rng


def layer(channels: int = 3, seed: int = 0, **options: object) -> Restimulate:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Restimulate(channels, **options).double()  # type: ignore[arg-type]


def random(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def logistic(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_three_channels_by_hand() -> None:
    """Means (½, 1, 0); kernel (1, 2, −1): 2·½ − 1 = 0, ½ + 2·1 − 0 = 2½, 1 + 0 = 1; the ends see zeros."""
    module = layer(3, kernel=3)
    assert module.weight is not None
    module.weight.data = torch.tensor([1.0, 2.0, -1.0], dtype=torch.float64)
    x = torch.tensor([[[[[1.0, 0.0]], [[2.0, 0.0]], [[1.0, -1.0]]]]], dtype=torch.float64)
    a = [logistic(0.0), logistic(2.5), logistic(1.0)]
    assert module.attend(x).flatten().tolist() == pytest.approx(a, abs=1e-15)
    wanted = [a[0], 0.0, 2 * a[1], 0.0, a[2], -a[2]]
    assert module(x).flatten().tolist() == pytest.approx(wanted, abs=1e-15)


def test_a_whole_run_has_one_attention() -> None:
    """One channel, kernel 1, weight 2: spikes 1 and 0 have mean ½, so a = σ(1); step by step σ(2) and σ(0)."""
    x = torch.tensor([1.0, 0.0], dtype=torch.float64).reshape(2, 1, 1)
    for over, a in (("step", [logistic(2.0), logistic(0.0)]), ("first", [logistic(2.0)]), ("whole", [logistic(1.0)])):
        module = layer(1, over=over)
        assert module.weight is not None
        module.weight.data.fill_(2.0)
        assert module.attend(x).flatten().tolist() == pytest.approx(a, abs=1e-15)
        assert module(x).flatten().tolist() == pytest.approx([a[0], 0.0], abs=1e-15)


@pytest.mark.parametrize("over", ["step", "whole"])
def test_steps_are_apart_only_step_by_step(over: str) -> None:
    module, x = layer(5, over=over, kernel=3), random(3, 2, 5, 2, 3)
    other = x.clone()
    other[2] += 1.0
    assert torch.equal(module(x)[:2], module(other)[:2]) == (over == "step") == module.causal
    still = x[:1].expand(3, -1, -1, -1, -1)
    torch.testing.assert_close(module(still), layer(5, kernel=3)(still), rtol=0, atol=1e-15)
    assert torch.equal(module(x.flip(1)).flip(1), module(x)) and not module.stateful


@pytest.mark.parametrize("shape", [(2, 2, 4, 3, 2), (3, 2, 4), (1, 1, 1, 1, 1)])
@pytest.mark.parametrize("over", ["step", "first", "whole"])
def test_gradients_are_those_of_finite_differences(over: str, shape: tuple[int, ...]) -> None:
    module = layer(shape[2], over=over)
    weight = module.weight
    assert weight is not None

    def run(x: Tensor, w: Tensor) -> Tensor:
        return torch.func.functional_call(module, {"weight": w}, (x,))  # type: ignore[no-any-return]

    assert torch.autograd.gradcheck(run, (random(*shape).requires_grad_(), weight.detach().requires_grad_()))


@pytest.mark.parametrize("shape", [(2, 3, 3, 4, 5), (2, 3, 3)])
@pytest.mark.parametrize("attention", ["efficient", "one"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_are_kept(shape: tuple[int, ...], attention: str, dtype: torch.dtype) -> None:
    y = layer(3, attention=attention).to(dtype)(random(*shape).to(dtype))
    assert y.shape == shape and y.dtype == dtype


def test_channels_last_frames() -> None:
    module, x = layer(8), random(2, 3, 8, 4, 4)
    frames = x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, (2, 3))
    y = module(frames)
    assert y.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, module(x), rtol=0, atol=1e-14)


def test_the_control_leaves_the_signal_alone() -> None:
    module, x = layer(3, attention="one"), random(2, 1, 3, 2, 2)
    assert module(x) is x and not list(module.parameters())
    assert torch.equal(module.attend(x), torch.ones(2, 1, 3, dtype=torch.float64))
    node = trace(nn.Sequential(LIF(), module))["_1"]
    assert node.format == LIF().format and node.sources == ("_0",)
    attended = trace(nn.Sequential(LIF(), layer(3)))["_1"]
    assert attended.format is None and attended.sources == ()


def test_streams_take_steps_and_refuse_the_whole_run() -> None:
    x = random(5, 2, 3, 2, 2) * 2
    net = nn.Sequential(LIF(), layer(3))
    first, states = stream(net, x[:2])
    rest, _ = stream(net, x[2:], states)
    assert torch.equal(torch.cat([first, rest]), net(x)) and net(x).any()
    with pytest.raises(ValueError, match=r"stream: every node must be causal.*_1 \(it reads later time steps\)"):
        stream(nn.Sequential(LIF(), layer(3, over="whole")), x)


def test_a_stream_keeps_the_attention_of_the_first_step() -> None:
    net, x = nn.Sequential(LIF(), layer(3, over="first")), random(5, 2, 3, 2, 2) * 2
    whole, states, parts = net(x), None, []
    for chunk in x.split((1, 3, 1)):
        y, states = stream(net, chunk, states)
        parts.append(y)
    assert torch.equal(torch.cat(parts), whole) and whole[1:].any()
    late = x.clone()
    late[1:] += 1.0
    assert torch.equal(net[1].attend(net[0](late)), net[1].attend(net[0](x)))  # type: ignore[operator]


def test_it_exports_with_any_batch() -> None:
    module, x = layer(3), random(2, 2, 3, 2, 2)
    exported = torch.export.export(module, (x,), dynamic_shapes=({1: torch.export.Dim("batch", min=1)},))
    more = random(2, 5, 3, 2, 2, seed=2)
    torch.testing.assert_close(exported.module()(more), module(more), rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel": 2}, "Restimulate: the kernel must be odd, got 2"),
        ({"attention": "full"}, "attention must be one of 'efficient', 'one'"),
        ({"over": "steps"}, "did you mean 'step'"),
        ({"channels": 0}, "Restimulate: channels must lie in"),
    ],
)
def test_refusals(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Restimulate(**{"channels": 3, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize("shape", [(2, 1, 4), (2, 1, 3, 2), (2, 3)])
def test_inputs_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="Restimulate"):
        layer(3)(random(*shape))

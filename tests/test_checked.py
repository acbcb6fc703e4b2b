"""`with checked():` names the first layer that is given, holds or makes NaN or inf, and leaves nothing behind."""

from __future__ import annotations

import math
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

import bitspike
from bitspike import checked, fold
from bitspike.checked import NotFiniteError
from bitspike.layers import BatchNorm, Chain, Conv2d, Linear, Refined
from bitspike.neurons import LIF, NEURONS, Adaptive
from bitspike.quantizers import Sign
from networks import liven, samples, small_cnn

WILD = (math.nan, math.inf, -math.inf)


def found(net: nn.Module, *args: Any, **kwargs: Any) -> NotFiniteError:
    """What `checked` says of a call that must not pass, once it is sure that nothing is left of it."""
    with pytest.raises(NotFiniteError) as caught, checked():
        net(*args, **kwargs)
    assert not torch_module._has_any_global_hook()
    return caught.value


def x(*size: int) -> Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("wild", WILD)
@pytest.mark.parametrize("name", list(NEURONS))
def test_a_current_that_firing_hides(name: str, wild: float) -> None:
    net = nn.Sequential(nn.Identity(), NEURONS[name]().replicate(3))
    given = x(2, 4, 3)
    given[1, 2, 0] = wild
    error = found(net, given)
    assert (error.path, error.kind, error.part, error.made_by) == ("", "Sequential", "input", "input")
    assert error.count == 1 and error.index == [1, 2, 0]
    assert found(net[1], given).kind == type(net[1]).__name__


@pytest.mark.parametrize("wild", WILD)
def test_a_weight(wild: float, refuses: Any) -> None:
    net = small_cnn(LIF(), Sign("layer"))
    net.body[4].conv1.weight.data[1, 2, 0, 1] = wild
    error = found(net, samples(2, dtype=torch.float32))
    assert (error.path, error.kind, error.part, error.made_by) == ("body.4.conv1", "Conv2d", "weight", "weights")
    assert error.count == 1 and error.index == [1, 2, 0, 1]
    assert "1 NaN and 0 inf" in str(error) if math.isnan(wild) else "0 NaN and 1 inf" in str(error)


def test_parts_of_a_layer_that_are_never_called() -> None:
    neuron = LIF(train_amplitude="layer", learn_decay=True)
    neuron.membrane.raw_decay.data.fill_(math.nan)  # type: ignore[union-attr]
    error = found(nn.Sequential(Linear(3, 3), neuron), x(2, 4, 3))
    assert (error.path, error.part, error.made_by) == ("1", "membrane.raw_decay", "weights")


def test_a_buffer_is_named_where_it_reaches_the_output() -> None:
    net = nn.Sequential(Linear(3, 3), BatchNorm(3), LIF()).eval()
    net[1].running_mean[2] = math.nan
    error = found(net, x(2, 4, 3))
    assert (error.path, error.part, error.made_by, error.index) == ("1", "running_mean", "weights", [2])


def test_a_negative_variance_is_made_by_the_layer() -> None:
    net = nn.Sequential(Linear(3, 3), BatchNorm(3), LIF()).eval()
    net[1].running_var[2] = -1.0
    error = found(net, x(2, 4, 3))
    assert (error.path, error.kind, error.part, error.made_by) == ("1", "BatchNorm", "output", "layer")
    assert error.count == 8 and error.index == [0, 0, 2]


@pytest.mark.parametrize("reset", ["soft", "hard"])
def test_a_membrane_that_overflows_behind_ordinary_spikes(reset: str) -> None:
    neuron = LIF(decay=1.0, reset=reset)
    given = torch.tensor([-6e4, -6e4, 6e4, 6e4, 1.0], dtype=torch.float16).reshape(5, 1, 1)
    assert neuron(given).isfinite().all()
    error = found(nn.Sequential(neuron), given)
    assert (error.path, error.part, error.made_by) == ("0", "membrane", "layer")


class Between(nn.Module):
    """A function between two modules divides by 0."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = Linear(3, 3), LIF()

    def forward(self, given: Tensor) -> Tensor:
        return self.second(self.first(given) / 0.0)  # type: ignore[no-any-return]


def test_what_a_function_made_is_seen_by_the_next_module() -> None:
    error = found(Between(), x(2, 4, 3))
    assert (error.path, error.part, error.made_by) == ("second", "input", "input") and error.count == 24


def test_operations_that_are_fused_run_as_their_modules() -> None:
    net = Chain(Conv2d(2, 3, 3), BatchNorm(3), LIF()).train()
    net[1].weight.data[1] = math.nan
    error = found(net, x(2, 3, 2, 5, 5))
    assert (error.path, error.part) == ("1", "weight")
    layer = Refined(Adaptive(2), T=2)
    layer.neuron.step_parameter().data.fill_(math.nan)
    error = found(nn.Sequential(layer), x(2, 3, 4))
    assert (error.path, error.part) == ("0.neuron", "emission.raw_amplitude")


def test_hooks_of_all_modules_see_what_would_be_fused() -> None:
    seen: list[str] = []
    net = Chain(Conv2d(2, 3, 3), BatchNorm(3), LIF()).train()
    hook = torch_module.register_module_forward_hook(lambda module, *_: seen.append(type(module).__name__))
    try:
        net(x(2, 3, 2, 5, 5))
    finally:
        hook.remove()
    assert [kind for kind in seen if kind in ("BatchNorm", "LIF")] == ["BatchNorm", "LIF"]


@pytest.mark.parametrize("train", [False, True])
def test_a_sound_network_gives_what_it_gives(train: bool) -> None:
    given = samples(4)
    net = liven(small_cnn(LIF(), Sign("output")), given).train(train)
    twin = liven(small_cnn(LIF(), Sign("output")), given).train(train)
    with checked():
        inside = net(given)
    torch.testing.assert_close(inside, twin(given), rtol=1e-9, atol=1e-9)
    assert not torch_module._has_any_global_hook()


def test_traced_and_folded_networks() -> None:
    given = samples(4)
    folded = fold(liven(small_cnn(LIF()), given), given)
    name = next(name for name, module in folded.named_modules() if isinstance(module, Linear))
    folded.get_submodule(name).bias.data[1] = math.nan  # type: ignore[union-attr, operator]
    assert found(folded, given).path == name
    with pytest.raises(NotFiniteError, match=r"checked: Linear: its bias must be finite"), checked():
        folded.graph.run(given)


def test_compiled_networks_run_uncompiled_inside() -> None:
    torch.compiler.reset()
    net = nn.Sequential(Linear(3, 3), LIF())
    calls: list[int] = []

    def backend(graph: torch.fx.GraphModule, _: list[Tensor]) -> Any:
        def run(*args: Any) -> Any:
            calls.append(1)
            return graph.forward(*args)

        return run

    compiled = torch.compile(net, backend=backend)
    compiled(x(2, 4, 3))
    assert calls
    count = len(calls)
    net[0].weight.data[0, 0] = math.nan
    error = found(compiled, x(2, 4, 3))
    assert error.path == "0" and len(calls) == count
    compiled(x(2, 4, 3))
    assert len(calls) == count + 1  # compiled again, or still, behind the block
    torch.compiler.reset()


def test_nested_blocks_and_exceptions_leave_nothing() -> None:
    sound, broken = nn.Sequential(Linear(3, 3)), nn.Sequential(nn.Identity(), Linear(3, 3))
    broken[1].bias.data[0] = math.nan

    class Fails(nn.Module):
        def forward(self, given: Tensor) -> Tensor:
            raise KeyError("mine")

    with checked():
        with checked():
            sound(x(2, 4, 3))
        for net, kind in ((broken, NotFiniteError), (nn.Sequential(Fails()), KeyError), (broken, NotFiniteError)):
            with pytest.raises(kind) as caught:
                net(x(2, 4, 3))
            if kind is NotFiniteError:
                assert caught.value.path == "1"
        sound(x(2, 4, 3))
    assert not torch_module._has_any_global_hook()
    broken(x(2, 4, 3))
    with pytest.raises(ZeroDivisionError), checked():
        raise ZeroDivisionError
    assert not torch_module._has_any_global_hook()
    broken(x(2, 4, 3))


def test_other_threads_are_not_looked_at() -> None:
    net, answers = nn.Sequential(Linear(3, 3)), []
    net[0].bias.data[0] = math.nan
    with checked():
        thread = threading.Thread(target=lambda: answers.append(net(x(2, 4, 3))))
        thread.start()
        thread.join()
    assert answers and answers[0].isnan().any()


class Odd(nn.Module):
    """Tokens in, a mask of −inf held, named arguments, a tuple out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(5, 3)
        self.register_buffer("mask", torch.tensor([0.0, -math.inf, 0.0]))

    def forward(self, tokens: Tensor, shift: Tensor | None = None) -> tuple[Tensor, Tensor, None]:
        y = self.embed(tokens)
        return (y if shift is None else y + shift.nan_to_num()), tokens > 2, None


def test_what_is_no_fault() -> None:
    net, tokens = Odd(), torch.tensor([[1, 4]])
    with checked():
        net(tokens, shift=torch.zeros(3))
    error = found(net, tokens, shift=torch.tensor([0.0, math.nan, 0.0]))
    assert error.part == "input" and error.index == [1]


def test_it_costs_nothing_outside() -> None:
    """No hook, no attribute: a module that is called takes torch's short way."""
    before = dict(vars(torch_module))
    with checked():
        pass
    after = vars(torch_module)
    assert all(after[name] is value for name, value in before.items())
    assert bitspike.checked is checked and not torch_module._has_any_global_hook()

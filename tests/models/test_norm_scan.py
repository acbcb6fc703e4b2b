"""Networks in which batch norm and neuron run as one operation train as before, and everything else still sees both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike import native
from bitspike.graph import trace
from bitspike.layers import BatchNorm, Chain, Conv2d, norm_then_fire
from bitspike.models import he_resnet20, resnet19, study_cnn
from bitspike.neurons import LIF, Neuron
from bitspike.ops import Kernel, lean, using
from bitspike.ops import dispatch as table

pytestmark = pytest.mark.skipif(native.library() is None, reason="not run: the native library is not built")
CLASS_M: dict[str, Any] = {"detach_reset": True, "surrogate": "rectangle", "threshold": 0.5}


def tiny(norm: str = "joint", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    net = he_resnet20(LIF(**CLASS_M), T=2, width=4, shape=(3, 8, 8), norm=norm, **options)
    return net.to(memory_format=torch.channels_last)


def batch(seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(8, 3, 8, 8, generator=generator), torch.arange(8) % 10


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the kernels of "norm_scan" that run."""
    seen: list[str] = []

    def watched(kernel: Kernel) -> Kernel:
        def function(*args: Any) -> Any:
            seen.append(kernel.name)
            return kernel.function(*args)

        return Kernel(kernel.operation, kernel.name, kernel.device, function, kernel.refuses)

    kernels = {name: watched(kernel) for name, kernel in table._KERNELS["norm_scan"].items()}
    monkeypatch.setitem(table._KERNELS, "norm_scan", kernels)
    return seen


def trained(kernel: str, steps: int, lr: float = 0.05, **options: Any) -> tuple[nn.Module, list[float]]:
    """The network after some steps of gradient descent on one batch, and its losses."""
    net, losses = tiny(**options), []
    optimiser = torch.optim.SGD(net.parameters(), lr=lr)
    x, labels = batch()
    with using(kernel, "norm_scan"):
        for step in range(steps):
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(net(x), labels)
            loss.backward()
            losses.append(loss.item())
            if step + 1 < steps:
                optimiser.step()
    return net, losses


@pytest.mark.parametrize("norm", ["joint", "threshold"])
def test_loss_gradients_and_running_statistics_are_those_of_the_modules(norm: str) -> None:
    (net, loss), (other, wanted) = (trained(kernel, 1, norm=norm) for kernel in ("native", "reference"))
    torch.testing.assert_close(loss, wanted, rtol=1e-5, atol=0)
    for (name, one), (_, two) in zip(net.named_parameters(), other.named_parameters(), strict=True):
        assert one.grad is not None and two.grad is not None
        limit = 1e-4 * max(1e-2, float(two.grad.abs().max()))
        torch.testing.assert_close(one.grad, two.grad, rtol=0, atol=limit, msg=name)
    for (name, one), (_, two) in zip(net.named_buffers(), other.named_buffers(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-6, msg=name)


@pytest.mark.parametrize("kernel", ["native", "reference"])
def test_it_learns(kernel: str) -> None:
    losses = trained(kernel, 20, lr=0.2)[1]
    assert losses[-1] < 0.95 * losses[0]


@pytest.mark.parametrize("build", [he_resnet20, resnet19, study_cnn])
def test_every_norm_before_a_neuron_is_fused(build: Callable[..., nn.Module], calls: list[str]) -> None:
    net = build(LIF(**CLASS_M), T=2, width=4, shape=(3, 8, 8))
    neurons = [m for m in net.modules() if isinstance(m, Neuron)]
    net(torch.randn(4, 3, 8, 8))
    assert calls == ["native"] * len(neurons)


def test_a_charged_membrane_starts_charged(calls: list[str]) -> None:
    norm, neuron, y = BatchNorm(3), LIF(initial=0.5), torch.randn(2, 4, 3, 5, 5)
    s = norm_then_fire(norm, neuron, y)
    assert not calls and torch.equal(s, neuron(BatchNorm(3)(y))) and not torch.equal(s, LIF()(BatchNorm(3)(y)))


def test_what_the_kernel_refuses_runs_on_the_reference(calls: list[str]) -> None:
    he_resnet20(LIF(), T=2, width=4, shape=(3, 8, 8)).double()(batch()[0].double())  # the kernel has float32 membranes
    with using("reference"):
        tiny()(batch()[0])
    assert set(calls) == {"reference"}


def test_modules_are_called_where_somebody_may_look(calls: list[str]) -> None:
    """Evaluation, statistics per step, hooks and traces."""
    x = batch()[0]
    tiny().eval()(x)
    tiny(norm="per_step")(x)
    assert not calls
    for kind in (BatchNorm, Neuron):
        net, seen = tiny(), []
        watched = [m for m in net.modules() if isinstance(m, kind)]
        for module in watched:
            module.register_forward_hook(lambda m, i, o, seen=seen: seen.append(m))
        net(x)
        assert {id(m) for m in seen} == {id(m) for m in watched} and not calls
    graph = trace(tiny())
    assert len(graph.of_kind("neuron")) == 19 == sum(isinstance(node.module, BatchNorm) for node in graph)
    graph.run(x)
    assert not calls


def test_lean_gradients_are_equal(calls: list[str]) -> None:
    grads = []
    for memory in (False, True):
        net, (x, labels) = tiny(), batch()
        if memory:
            with lean():
                loss = nn.functional.cross_entropy(net(x), labels)
        else:
            loss = nn.functional.cross_entropy(net(x), labels)
        grads.append(torch.autograd.grad(loss, list(net.parameters())))
    assert calls == ["native"] * 38
    assert all(torch.equal(one, other) for one, other in zip(*grads, strict=True))


def test_a_chain_is_a_sequence_and_keeps_names() -> None:
    layers = [Conv2d(2, 3, 3), BatchNorm(3), LIF(**CLASS_M), BatchNorm(3)]
    chain, plain = Chain(*layers), nn.Sequential(*layers)
    assert list(chain.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 3, 2, 6, 6)
    with using("reference", "norm_scan"):
        assert torch.equal(chain(x), plain(x))
    assert torch.equal(chain.eval()(x), plain.eval()(x))


def test_other_modules_and_shortcuts_that_spread() -> None:
    norm, x = BatchNorm(3), torch.randn(2, 4, 3, 5, 5)
    assert torch.equal(norm_then_fire(norm, nn.ReLU(), x), norm(x).relu())
    spread = torch.ones(1, 1, 3, 1, 1)
    wanted = LIF(**CLASS_M)(norm(x) + spread)
    assert torch.equal(norm_then_fire(norm, LIF(**CLASS_M), x, lambda: spread), wanted)


def test_errors_are_those_of_the_norm(refuses: Callable[..., object]) -> None:
    with refuses("BatchNorm", "[T, B, 3, ...]"):
        norm_then_fire(BatchNorm(3), LIF(**CLASS_M), torch.randn(2, 4, 5, 6, 6))
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        norm_then_fire(BatchNorm(3), LIF(**CLASS_M), torch.randn(1, 1, 3))


@pytest.mark.slow
def test_it_compiles_in_one_graph() -> None:
    net, (x, labels) = tiny(), batch()
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager")
    results = []
    for run in (net, compiled):
        net.zero_grad()
        net.load_state_dict(tiny().state_dict())
        loss = nn.functional.cross_entropy(run(x), labels)
        loss.backward()
        results.append(
            [loss.detach(), *(p.grad.clone() for p in net.parameters()), *(b.clone() for b in net.buffers())]
        )
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)

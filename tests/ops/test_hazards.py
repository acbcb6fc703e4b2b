"""What users do to inputs, results and parameters: kernels do as the plain scan does, or leave it to that."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.graph import saved_tensors_hooks

from bitspike import native
from bitspike.layers import BatchNorm, Chain, Refined, Squeeze
from bitspike.neurons import LIF, Adaptive, Neuron, Real
from bitspike.ops import Kernel, ScanFacts, ScanSpec, explain, table, using
from bitspike.ops.buffers import LARGE_BYTES, empty
from neurons.cases import CHANNELS, Options, build, cases

KERNELS = [k for k in table() if k.operation == "scan" and k.name != "reference"]
built = pytest.mark.skipif(native.library() is None, reason="not run: the native library is not built")


def run(neuron: Neuron, x: Tensor, kernel: str) -> list[Tensor]:
    with using(kernel):
        s, state = neuron.run(x)
    return [s, *state]


@pytest.mark.parametrize("case", cases(1), ids=lambda case: case[0])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_nan_and_infinity(kernel: Kernel, case: tuple[str, Options]) -> None:
    """They come out where they come out of the plain scan: a kernel hides no current that went wrong."""
    if kernel.home() == "cuda" and not torch.cuda.is_available():
        pytest.skip("not run: needs a GPU")
    neuron = build(*case).to(kernel.home())
    reason = kernel.refuses(ScanFacts(neuron.fused(), torch.float32, torch.float32))
    if reason:
        pytest.skip(f"not run: {kernel.name} refuses {case}: {reason}")
    x = torch.randn(3, 4, CHANNELS, generator=torch.Generator().manual_seed(0)) * 1.5
    x[0, 0], x[1, 1], x[0, 2, ::2], x[0, 2, 1::2] = torch.nan, torch.nan, torch.inf, -torch.inf
    wanted = run(neuron, x.to(kernel.home()), "reference")
    for isa in native.available_isas() if kernel.home() == "cpu" and kernel.name != "triton" else ("",):
        if isa:
            with native.isa(isa):
                found = run(neuron, x, kernel.name)
        else:
            found = run(neuron, x.to(kernel.home()), kernel.name)
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other, rtol=0.0, atol=0.0, equal_nan=True)


@built
@pytest.mark.parametrize("surrogate", ["triangle", "atan", "sigmoid", "fast_sigmoid"])
def test_gradients_of_nan(surrogate: str) -> None:
    for isa in native.available_isas():
        x = torch.tensor([[[torch.nan, 0.9]]], requires_grad=True)
        with native.isa(isa), using("native"):
            LIF(surrogate=surrogate)(x).sum().backward()
        assert x.grad is not None and x.grad.isnan().flatten().tolist() == [True, False]


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("size", [3, 64])
@pytest.mark.parametrize("neuron", [LIF(), LIF(detach_reset=True), Adaptive()], ids=["u", "m", "adaptive"])
def test_results_may_be_changed_in_place(neuron: Neuron, size: int, last: bool) -> None:
    """``s += shortcut``: of small and large results, in every memory order, and with the norm in the same operation."""
    x, shortcut = (torch.randn(2, 2, 7, size, size) for _ in range(2))
    assert (x.numel() * 4 > LARGE_BYTES) == (size > 3)
    if last:
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    layers = neuron, Chain(BatchNorm(7), neuron)
    for layer in layers:
        found = []
        for change in (Tensor.add, Tensor.add_):
            given = x.clone().requires_grad_()
            s = change(layer(given), shortcut)
            s.square().sum().backward()
            found += [s.detach(), given.grad]
        assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])  # type: ignore[arg-type]


@pytest.mark.parametrize("neuron", [LIF(), LIF(amplitude=1.5, train_amplitude="layer"), Adaptive()])
@pytest.mark.parametrize("half", [False, True])
def test_parameters_of_another_dtype(neuron: Neuron, half: bool) -> None:
    """Kernels read float32: where a network was converted, its input was not, the plain scan serves."""
    neuron = neuron.to(torch.bfloat16 if half else torch.float64)
    x = torch.randn(3, 2, 4).to(torch.bfloat16 if half else torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        found = neuron(x)
        with using("reference"):
            wanted = neuron(x)
    assert found.dtype == wanted.dtype and torch.equal(found, wanted) and found.any()
    if next(neuron.parameters(), None) is not None:
        reason = explain("scan", "cpu", ScanFacts(neuron.fused(), torch.float32, torch.float32))
        assert "it reads float32 parameters" in reason


@pytest.mark.parametrize("kernel", [k for k in KERNELS if k.home() == "cpu" and k.name != "adaptive"])
def test_amplitudes_that_lie_apart(kernel: Kernel) -> None:
    neuron = LIF(train_amplitude="channel", raw_amplitude=True).replicate(3)
    neuron.emission.raw_amplitude = torch.nn.Parameter(torch.arange(1.0, 7.0)[::2])
    if kernel.refuses(ScanFacts(neuron.fused(), torch.float32, torch.float32)):
        pytest.skip(f"not run: {kernel.name}")
    x = torch.full((1, 1, 3), 1.25, requires_grad=True)
    with using(kernel.name):
        s = neuron(x)
    s.sum().backward()
    assert s.flatten().tolist() == [1.0, 3.0, 5.0]
    assert x.grad is not None and x.grad.flatten().tolist() == [1.0, 3.0, 5.0]
    assert neuron.emission.raw_amplitude.grad.tolist() == [1.0, 1.0, 1.0]  # type: ignore[union-attr]


@built
def test_another_default_device() -> None:
    """Results of CPU kernels are on the CPU, whatever factories make by default."""
    x = torch.randn(2, 3, 4, requires_grad=True)
    neuron = LIF()
    with torch.device("meta"):
        assert empty((3,), torch.float32).device.type == "cpu"
        s = neuron(x)
        s.sum().backward()
    assert s.device.type == "cpu" and torch.equal(s, neuron(x)) and x.grad is not None


@pytest.mark.parametrize("layer", [LIF(), Chain(BatchNorm(3), LIF())])
def test_forward_mode_is_refused_not_zero(layer: torch.nn.Module) -> None:
    x = torch.randn(2, 3, 3)
    with pytest.raises(RuntimeError):
        torch.func.jvp(layer, (x,), (x,))
    with forward_ad.dual_level(), pytest.raises(NotImplementedError):
        layer(forward_ad.make_dual(x, x))


def test_forward_mode_where_the_plain_path_has_it() -> None:
    """A mean is its own derivative, and so is a real spike behind a constant gate."""
    x = torch.randn(2, 3, 3)
    for layer in (Squeeze(1), Real(decay=0.0)):
        y, tangent = torch.func.jvp(layer, (x,), (x,))
        assert torch.equal(y, tangent) and y.any()
    with forward_ad.dual_level(), using("native", "squeeze"), pytest.raises(ValueError, match="no forward-mode"):
        Squeeze(1)(x)


def test_a_mixin_has_its_say() -> None:
    """What comes before a neuron among the bases changes it, kernel or not."""

    class Doubles:
        def step(self, x: Tensor, state: Any) -> Any:
            return super().step(2 * x, state)  # type: ignore[misc]

    class Halves:
        def run(self, x_seq: Tensor, state: Any = None) -> Any:
            return super().run(x_seq / 2, state)  # type: ignore[misc]

    class Doubled(Doubles, LIF):
        pass

    class Halved(Halves, LIF):
        pass

    class Kept(LIF):
        pass

    x = torch.tensor([[[0.6, 1.2]]])
    assert Doubled()(x).flatten().tolist() == [1.0, 1.0] and isinstance(Doubled().fused(), str)
    assert Halved()(x).flatten().tolist() == [0.0, 0.0]
    assert Kept()(x).flatten().tolist() == [0.0, 1.0] and isinstance(Kept().fused(), ScanSpec)


@pytest.mark.parametrize("kernel", ["reference", "adaptive"])
@pytest.mark.parametrize("sharing", ["layer", "channel"])
def test_an_empty_batch_gives_no_nan(kernel: str, sharing: str) -> None:
    if kernel == "adaptive" and native.library() is None:
        pytest.skip("not run: the native library is not built")
    neuron = Adaptive(sharing=sharing).replicate(3)
    with using(kernel):
        neuron(torch.zeros(2, 0, 3)).sum().backward()
    for parameter in neuron.parameters():
        assert parameter.grad is not None and not parameter.grad.any() and not parameter.grad.isnan().any()


def moved(tensor: Tensor) -> Tensor:
    """The same values in another memory order."""
    return tensor.movedim(0, -1).contiguous().movedim(-1, 0) if tensor.dim() else tensor


LAYERS = {
    "m": LIF(detach_reset=True),
    "u": LIF(surrogate="atan"),
    "channels": LIF(train_amplitude="channel", learn_decay=True).replicate(3),
    "norm-m": Chain(BatchNorm(3), LIF(detach_reset=True)),
    "norm-u": Chain(BatchNorm(3), LIF(surrogate="atan")),
    "adaptive": Adaptive(sharing="channel").replicate(3),
    "squeeze": Squeeze(1),
    "refined": Refined(Adaptive(), T=3, learn_T=True),
}


@pytest.mark.parametrize("pack", [Tensor.contiguous, moved], ids=["contiguous", "moved"])
@pytest.mark.parametrize("kernel", ["", "triton"])
@pytest.mark.parametrize("name", LAYERS)
def test_hooks_that_keep_tensors_in_another_memory_order(name: str, kernel: str, pack: Any) -> None:
    """As `torch.autograd.graph.save_on_cpu` does in pinned memory."""
    if kernel and (
        name not in ("m", "u", "channels") or "triton" not in {k.name for k in KERNELS if k.home() == "cpu"}
    ):
        pytest.skip("not run: only with the interpreter, only neurons")
    layer, found = LAYERS[name], []
    x = torch.randn(10 if kernel else 3, 2, 2, 3, 3, generator=torch.Generator().manual_seed(0)).movedim(-1, 2)
    weight = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    for hooks in (nullcontext(), saved_tensors_hooks(lambda t: pack(t.detach()), lambda t: t)):
        given = x.clone().requires_grad_()
        with hooks, using(kernel) if kernel else nullcontext():
            y = layer(given)
        found.append(torch.autograd.grad((y * weight[: len(y)]).sum(), [given, *layer.parameters()]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)  # sums may be taken in another order
    assert found[0][0].any()

"""Native kernels of the adaptive neuron, of means over time and of the refined neuron: sizes, layouts, ties, states."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bitspike import lean, native
from bitspike.layers import Refined, Squeeze
from bitspike.neurons import LIF, Adaptive, MembraneState, TimedState
from bitspike.ops import ScanFacts, choose, table, using
from neurons.cases import Options
from ops.refined_cases import TOLERANCE, compare_refined, compare_squeeze, outcome
from ops.test_scan import compare
from ops.test_scan import outcome as scan_outcome

pytestmark = pytest.mark.skipif(native.library() is None, reason="not run: the native library is not built")
SCAN = next(kernel for kernel in table() if (kernel.operation, kernel.name) == ("scan", "adaptive"))
ARMS: dict[str, Options] = {
    "plain": {"bits": 3, "threshold": 0.4},
    "one-bit": {"bits": 1, "bit_gradient": "release", "decay": 0.5},
    "signed-channels": {"bits": 3, "signed": True, "sharing": "channel", "decay": 0.5, "learn_decay": True},
    "steps": {"bits": 2, "steps": 3, "decay": 0.25, "learn_decay": True},
    "steps-channels": {"bits": 4, "steps": 2, "sharing": "channel", "threshold": 0.3, "scale_gradient": False},
    "fixed": {"bits": 2, "learn_bits": False, "signed": True, "threshold": 0.7},
}


def arm(name: str, channels: int = 7) -> Adaptive:
    """Step sizes and widths that differ wherever they may."""
    neuron = Adaptive(**ARMS[name]).replicate(channels, channel_dim=1)
    raw = neuron.step_parameter()
    raw.data *= torch.linspace(0.7, 1.6, raw.numel()).reshape(raw.shape)
    if neuron.raw_bits is not None and neuron.steps > 1:
        neuron.raw_bits.data += torch.arange(neuron.steps) % 2
        neuron.refresh()
    return neuron


def dyadic(name: str) -> Adaptive:
    neuron = arm(name)
    raw = neuron.step_parameter()
    raw.data.copy_(2.0 ** (torch.arange(raw.numel()) % 3 - 1.0).reshape(raw.shape))
    return neuron


def folded(name: str, channels: int = 7) -> Adaptive:
    found = arm(name, channels).normalised()
    assert isinstance(found, Adaptive) and found.fixed_step is not None
    return found


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("isa", native.available_isas())
def test_every_length_and_size(name: str, isa: str) -> None:
    """T up to 32; rows of one element, of whole vectors, with tails, and of several blocks."""
    with native.isa(isa):
        for neuron in (arm(name), folded(name)):
            for T, size in ((1, 1), (2, 3), (3, 64), (4, 37), (8, 16), (32, 5)):
                compare(SCAN, neuron, torch.randn(T, 2, 7, size) * 1.5)
            compare(SCAN, neuron, torch.randn(2, 5, 7, 1013) * 1.5)


@pytest.mark.parametrize("name", ARMS)
def test_ties_on_the_dyadic_grid(name: str) -> None:
    """Step sizes of powers of two and currents of their sixteenths: halves and ends of the range occur."""
    neuron = dyadic(name)
    x = torch.randint(-24, 65, (3, 8, 7, 16)).float() / 16
    for one in (neuron, neuron.normalised()):
        compare(SCAN, one, x)
    rate = (neuron(x) != 0).float().mean()
    assert 0.02 < rate < 0.98


@pytest.mark.parametrize("name", ARMS)
def test_layouts(name: str) -> None:
    """Channels-last keeps its layout, a held current is read as it is; results are those of contiguous input."""
    neuron, x = arm(name), torch.randn(4, 3, 7, 5, 6)
    last = x.movedim(2, -1).contiguous().movedim(-1, 2)
    with using("adaptive"):
        wanted, state = neuron.run(x)
        for other in (last, x.transpose(3, 4).contiguous().transpose(3, 4), x.flip(0).flip(0)):
            s, after = neuron.run(other)
            assert torch.equal(s, wanted) and torch.equal(after.v, state.v)
        assert neuron(last).stride() == last.stride()
    for other in (last, x[..., ::2], x[:1].expand(4, 3, 7, 5, 6), last[:1].expand(4, 3, 7, 5, 6)):
        compare(SCAN, neuron, other)
        compare_held(neuron, other)


def compare_held(neuron: Adaptive, x: Tensor) -> None:
    """The layout of x reaches the kernel, and the gradient that comes back is one row repeated."""
    found = []
    for name in ("reference", "adaptive"):
        leaf = x.detach()[:1].clone().requires_grad_() if x.stride(0) == 0 else x.detach().requires_grad_()
        with using(name):
            s = neuron(leaf.expand_as(x))
        grad = torch.linspace(-1, 1, s[0].numel()).reshape(s[0].shape).expand_as(s)
        found.append([s.detach(), *torch.autograd.grad(s, [leaf, *neuron.parameters()], grad)])
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)


@pytest.mark.parametrize("name", ARMS)
def test_the_same_bits_for_any_threads_and_instruction_set(name: str) -> None:
    neuron, x = arm(name), torch.randn(4, 3, 7, 1001)
    refined, one = Refined(arm(name), T=3, learn_T=True), torch.randn(1, 3, 7, 8008)
    squeeze = Squeeze(1, learned=2.0)

    def run(y: Tensor) -> list[Tensor]:
        s, state = neuron.run(y)
        return [s, state.v]

    before, results = torch.get_num_threads(), []
    try:
        for isa in native.available_isas():
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                with native.isa(isa), using("adaptive"), using("native", "refined"), using("native", "squeeze"):
                    results.append(scan_outcome(neuron, x, run))
                    results[-1] += outcome(refined, one, refined) + outcome(squeeze, x, squeeze)
    finally:
        torch.set_num_threads(before)
    for found in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found, results[0], strict=True))


@pytest.mark.parametrize("name", ARMS)
def test_it_goes_on_from_a_state_and_differentiates_it(name: str) -> None:
    neuron, x, v = arm(name), torch.randn(5, 3, 7, 11), torch.randn(3, 7, 11)
    results = []
    for kernel in ("reference", "adaptive"):
        begin = v.clone().requires_grad_()
        state = MembraneState(begin) if neuron.steps == 1 else TimedState(begin, torch.ones_like(v))
        with using(kernel):
            s, after = neuron.run(x, state)
            first, middle = neuron.run(x[:2], state)
            rest, last = neuron.run(x[2:], middle)
        assert torch.equal(torch.cat([first, rest]), s)
        assert all(torch.equal(one, other) for one, other in zip(last, after, strict=True))
        grads = torch.autograd.grad((s * x).sum(), [begin, *neuron.parameters()])
        results.append([s.detach(), *(part.detach() for part in after), *grads])
    states = 1 + len(after)
    assert all(torch.equal(one, other) for one, other in zip(results[0][:states], results[1][:states], strict=True))
    for one, other in zip(results[0][states:], results[1][states:], strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE)


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("size", [4681, 9363])
def test_half_precision(name: str, size: int) -> None:
    """bfloat16 currents, float32 membranes: as the reference on widened currents."""
    neuron, x = arm(name), (torch.randn(2, 1, 7, size) * 1.5).bfloat16()
    results = []
    for kernel in ("reference", "adaptive"):
        leaf = x.clone().requires_grad_()
        with using(kernel), torch.autocast("cpu", torch.bfloat16):
            s, state = neuron.run(leaf)
        assert s.dtype == torch.bfloat16 and state.v.dtype == torch.float32
        weight = torch.linspace(-1, 1, s.numel()).reshape(s.shape).bfloat16()
        grads = torch.autograd.grad((s * weight).float().sum(), [leaf, *neuron.parameters()])
        results.append([s.detach(), state.v.detach(), *grads])
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    for one, other in zip(results[0][2:], results[1][2:], strict=True):
        torch.testing.assert_close(one, other, rtol=2**-7, atol=1e-4)


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("isa", native.available_isas())
def test_refined_at_every_length_and_size(name: str, isa: str) -> None:
    with native.isa(isa):
        for T in (1, 2, 3, 4, 8, 32):
            for size in (1, 16, 37):
                compare_refined("native", Refined(arm(name), T=T, learn_T=True), torch.randn(1, 2, 7, size) * 1.5)
        compare_refined("native", Refined(arm(name), T=3), torch.randn(1, 5, 7, 1013) * 1.5)


@pytest.mark.parametrize("name", ARMS)
def test_refined_ties_on_the_dyadic_grid(name: str) -> None:
    """Step sizes of powers of two: sums of spikes are exact, and so are their means."""
    for T in (1, 2, 4, 8, 32):
        refined = Refined(dyadic(name), T=T, learn_T=True)
        compare_refined("native", refined, torch.randint(-24, 65, (1, 8, 7, 16)).float() / 16, exact=True)


@pytest.mark.parametrize("name", ARMS)
def test_refined_layouts(name: str) -> None:
    refined, x = Refined(arm(name), T=3, learn_T=True), torch.randn(2, 3, 7, 5, 6)
    last = x.movedim(2, -1).contiguous().movedim(-1, 2)
    for given in (x, last, last[:1], x.transpose(3, 4).contiguous().transpose(3, 4), x[..., ::2]):
        compare_refined("native", refined, given)
    with using("native", "refined"):
        assert refined(last)[0].stride() == last[0].stride()


@pytest.mark.parametrize("isa", native.available_isas())
def test_squeeze_at_every_length_size_and_layout(isa: str) -> None:
    with native.isa(isa):
        for T in (1, 2, 3, 4, 8, 32):
            for shape in ((1,), (2, 7), (3, 7, 5, 6), (1, 4096), (5, 7, 1013)):
                x = torch.randn(T, *shape)
                for squeeze in (Squeeze(2), Squeeze(1, learned=2.0)):
                    compare_squeeze("native", squeeze, x)
            last = torch.randn(T, 3, 5, 6, 7).movedim(-1, 2)
            compare_squeeze("native", Squeeze(1, learned=2.0), last)
            with using("native", "squeeze"):
                assert Squeeze(1)(last).movedim(2, -1).is_contiguous()
            summed = Squeeze(1)
            summed.summed = True
            compare_squeeze("native", summed, torch.randint(-7, 8, (T, 3, 50)).float())


def test_what_is_kept_for_the_backward_pass() -> None:
    """A scan keeps its currents; the refined neuron those of one step, whatever T is; a mean nothing that is large."""
    x = torch.randn(4, 2, 7, 64, requires_grad=True)
    for module, given, operation, name, large in (
        (arm("plain"), x, "scan", "adaptive", x.numel()),
        (Refined(arm("plain"), T=4), x[:1], "refined", "native", x[0].numel()),
        (Squeeze(1), x, "squeeze", "native", 0),
    ):
        kept: list[Tensor] = []
        with (
            using(name, operation),
            torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t),
        ):
            module(given)
        assert sum(t.numel() for t in kept if t.numel() > 16) == large


def test_a_second_derivative_is_refused(refuses: Callable[..., object]) -> None:
    x = torch.randn(2, 3, 7, requires_grad=True)
    for module, operation, name in ((arm("plain"), "scan", "adaptive"), (Squeeze(1), "squeeze", "native")):
        with using(name, operation):
            (grad,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
        with refuses("adaptive" if operation == "scan" else operation, "differentiated once"):
            grad.sum().backward()


def test_what_is_refused(refuses: Callable[..., object]) -> None:
    neuron = arm("plain")
    assert "float32 membranes" in str(SCAN.refuses(ScanFacts(neuron.fused(), torch.float64, torch.float64)))
    assert "adaptive neuron alone" in str(SCAN.refuses(ScanFacts(LIF().fused(), torch.float32, torch.float32)))
    assert choose("scan", "cpu", ScanFacts(neuron.fused(), torch.float32, torch.float32)).name == "adaptive"
    refined = next(kernel for kernel in table() if (kernel.operation, kernel.name) == ("refined", "native"))
    assert "float32 currents" in str(refined.refuses(ScanFacts(neuron.fused(), torch.bfloat16, torch.float32)))

    class Own(Adaptive):
        def step(self, x: Tensor, state: object) -> object:
            return super().step(x * 0.5, state)

    assert "fused()" in str(SCAN.refuses(ScanFacts(Own().fused(), torch.float32, torch.float32)))
    with using("adaptive"), refuses("Emission", "7 channels"):
        arm("signed-channels")(torch.randn(2, 3, 5))


def test_hooks_and_lean_see_what_they_saw_before() -> None:
    """A hook on a part makes the modules run; with one step, spikes are announced to `lean`."""
    refined, x = Refined(arm("plain"), T=3), torch.randn(1, 2, 7, 5)
    wanted, seen = refined(x), []
    handle = refined.neuron.register_forward_hook(lambda module, given, s: seen.append(s))
    assert torch.equal(refined(x), wanted) and len(seen) == 1 and len(seen[0]) == 3
    handle.remove()
    once, leaf = Refined(arm("plain"), T=1), x.clone().requires_grad_()
    with lean():
        once(leaf).square().sum().backward()
    assert leaf.grad is not None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain", "steps-channels"])
def test_it_compiles_in_one_graph(name: str) -> None:
    for module, x in ((arm(name), torch.randn(4, 2, 7, 9)), (Refined(arm(name), T=3), torch.randn(1, 2, 7, 9))):
        compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
        for one, other in zip(outcome(module, x, compiled), outcome(module, x, module), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=0)

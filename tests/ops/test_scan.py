"""Every kernel in the table equals the definition: outputs, final state, every gradient, one tolerance an operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bitspike import native
from bitspike.neurons import NEURONS, Neuron
from bitspike.ops import Kernel, ScanFacts, scan, table, using
from neurons.cases import CHANNELS, Options, build, cases
from ops import norm_cases, refined_cases

# Of gradients, once per operation, the same everywhere; spikes and states are equal bit for bit, and so are all
# results of the reference. Sums over many elements (amplitude, decay) are taken in another order.
TOLERANCE = {"scan": {"rtol": 2e-5, "atol": 2e-5}, "norm_scan": {"largest": norm_cases.TOLERANCE}}
TOLERANCE |= {"squeeze": refined_cases.TOLERANCE, "refined": refined_cases.TOLERANCE}


def by_hand(neuron: Neuron, x_seq: Tensor) -> list[Tensor]:
    """Spikes and final state of a plain loop: what a scan is."""
    state, spikes = neuron.initial_state(x_seq[0]), []
    for t in range(len(x_seq)):
        s, state = neuron.step(x_seq[t], state)
        spikes.append(s)
    return [torch.stack(spikes), *state]


def outcome(neuron: Neuron, x: Tensor, run: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
    """All results and all gradients of a fixed projection of them."""
    leaves = [x.clone().requires_grad_(), *neuron.parameters()]
    results = run(leaves[0])
    generator = torch.Generator().manual_seed(3)
    weights = [torch.randn(r.shape, generator=generator, dtype=torch.float64).to(r) for r in results]
    loss = sum(((r * w).sum() for r, w in zip(results, weights, strict=True)), torch.zeros((), device=x.device))
    return [r.detach() for r in results] + list(torch.autograd.grad(loss, leaves))


def check_scan(kernel: Kernel, device: str, neuron: Neuron) -> None:
    neuron = neuron.to(device)
    for dtype in (torch.float32, torch.float64):
        neuron = neuron.to(dtype)
        if kernel.refuses(ScanFacts(neuron.fused(), dtype, dtype)):
            continue
        for T in (1, 4):
            x = (torch.randn(T, 3, CHANNELS, dtype=torch.float64) * 1.5).to(device, dtype)
            compare(kernel, neuron, x)


def compare(kernel: Kernel, neuron: Neuron, x: Tensor) -> None:
    """Spikes and final state equal bit for bit, every gradient within the tolerance of the kernel."""

    def through(x_seq: Tensor) -> list[Tensor]:
        with using(kernel.name):
            s, state = neuron.run(x_seq)
        return [s, *state]

    found, wanted = outcome(neuron, x, through), outcome(neuron, x, lambda y: by_hand(neuron, y))
    for place, (one, other) in enumerate(zip(found, wanted, strict=True)):
        exact = kernel.name == "reference" or place < 2
        torch.testing.assert_close(one, other, **({"rtol": 0.0, "atol": 0.0} if exact else TOLERANCE["scan"]))


PARITY = {
    "scan": check_scan,
    "norm_scan": norm_cases.check_norm_scan,
    "squeeze": refined_cases.check_squeeze,
    "refined": refined_cases.check_refined,
}
APART = {"convolve"}  # no operation of neurons: test_convolve.py holds its kernels to the definition


def test_every_operation_has_a_parity_test_and_a_reference() -> None:
    operations = {kernel.operation for kernel in table()}
    assert operations - APART == set(PARITY) == set(TOLERANCE)
    assert {kernel.operation for kernel in table() if kernel.name == "reference"} == operations


@pytest.mark.parametrize("case", cases(1), ids=lambda case: case[0])
@pytest.mark.parametrize(
    "kernel", [k for k in table() if k.operation not in APART], ids=lambda k: f"{k.operation}-{k.name}"
)
def test_a_kernel_equals_the_definition(kernel: Kernel, case: tuple[str, Options]) -> None:
    device = kernel.home()
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip(f"not run: {kernel.operation} {kernel.name} needs {device}")
    neuron = build(*case)
    if kernel.operation == "norm_scan" and neuron.membrane.initial:
        pytest.skip("not run: `norm_scan` is for membranes that start at 0, as its layer sees to")
    facts = ScanFacts(neuron.fused(), torch.float32, torch.float32)
    reason = kernel.refuses(facts.dtype if kernel.operation == "squeeze" else facts)
    if reason:
        pytest.skip(f"not run: {kernel.name} refuses {case}: {reason}")
    PARITY[kernel.operation](kernel, device, neuron)


def test_scan_steps_in_order() -> None:
    """A running sum: outputs and final state by hand."""
    s, total = scan(lambda x, v: (v, v + x), torch.tensor([[1.0], [2.0], [4.0]]), torch.zeros(1))
    assert s.tolist() == [[0.0], [1.0], [3.0]] and total.tolist() == [7.0]


def test_the_registry_is_covered() -> None:
    assert {name for name, _ in cases(1)} == set(NEURONS)


NATIVE = next(kernel for kernel in table() if (kernel.operation, kernel.name) == ("scan", "native"))
built = pytest.mark.skipif(native.library() is None, reason="not run: the native library is not built")
ARMS: dict[str, Options] = {
    "lif": {"detach_reset": True},
    "lif-soft-open": {"reset": "soft"},
    "ternary": {},
    "ternary-channels": {"train_amplitude": "channel", "learn_decay": True, "surrogate": "atan"},
    "multibit": {"m": 1, "n": 2, "surrogate": "rectangle:0.125"},
    "integer-hard": {"D": 3, "reset": "hard", "detach_reset": False, "surrogate": "sigmoid"},
    "real": {},
    "real-surrogate": {"gradient": "surrogate", "train_amplitude": "layer"},
}


def arm(name: str, channels: int = 7) -> Neuron:
    return NEURONS[name.split("-")[0]](**ARMS[name]).replicate(channels, channel_dim=1)


@built
@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("isa", native.available_isas())
def test_native_at_every_length_and_size(name: str, isa: str) -> None:
    """T up to 32; rows of one element, of whole vectors, with tails, and of several blocks."""
    neuron = arm(name)
    with native.isa(isa):
        for T, size in ((1, 1), (2, 3), (3, 64), (4, 37), (8, 16), (32, 5)):
            compare(NATIVE, neuron, torch.randn(T, 2, 7, size) * 1.5)
        compare(NATIVE, neuron, torch.randn(2, 5, 7, 1013) * 1.5)


@built
@pytest.mark.parametrize("name", ARMS)
def test_native_ties_on_the_dyadic_grid(name: str) -> None:
    neuron = arm(name)
    x = torch.randint(-24, 33, (3, 8, 7, 16)).float() / 16
    compare(NATIVE, neuron, x)
    rate = (neuron(x) != 0).float().mean()
    assert 0.02 < rate < 0.98


@built
@pytest.mark.parametrize("name", ARMS)
def test_native_layouts(name: str) -> None:
    """Channels-last through time keeps its layout; anything else is copied; results are those of contiguous input."""
    neuron, x = arm(name), torch.randn(4, 3, 7, 5, 6)
    last = x.movedim(2, -1).contiguous().movedim(-1, 2)
    with using("native"):
        wanted, state = neuron.run(x)
        for other in (last, x.transpose(3, 4).contiguous().transpose(3, 4), x.flip(0).flip(0)):
            s, after = neuron.run(other)
            assert torch.equal(s, wanted) and torch.equal(after.v, state.v)
        assert neuron(last).stride() == last.stride()
    compare(NATIVE, neuron, last)
    compare(NATIVE, neuron, x[..., ::2])


@built
@pytest.mark.parametrize("name", ARMS)
def test_native_gives_the_same_bits_for_any_threads_and_instruction_set(name: str) -> None:
    neuron, x = arm(name), torch.randn(4, 3, 7, 1001)

    def run(y: Tensor) -> list[Tensor]:
        s, state = neuron.run(y)
        return [s, *state]

    before, results = torch.get_num_threads(), []
    try:
        for isa in native.available_isas():
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                with native.isa(isa), using("native"):
                    results.append(outcome(neuron, x, run))
    finally:
        torch.set_num_threads(before)
    for found in results[1:]:
        assert all(torch.equal(one, other) for one, other in zip(found, results[0], strict=True))


@built
@pytest.mark.parametrize("name", ARMS)
def test_native_goes_on_from_a_state_and_differentiates_it(name: str) -> None:
    neuron, x = arm(name), torch.randn(5, 3, 7, 11)
    v = torch.randn(3, 7, 11)
    grads = []
    for kernel in ("reference", "native"):
        begin = v.clone().requires_grad_()
        with using(kernel):
            s, state = neuron.run(x, type(neuron.initial_state(x[0]))(begin))
        grads.append([s.detach(), state.v.detach(), *torch.autograd.grad(s.sum() + state.v.square().sum(), begin)])
    assert torch.equal(grads[0][0], grads[1][0]) and torch.equal(grads[0][1], grads[1][1])
    torch.testing.assert_close(grads[0][2], grads[1][2], **TOLERANCE["scan"])


@built
def test_class_m_saves_bits_alone() -> None:
    """Nothing as large as the currents is kept for the backward pass: two bits an element (hard), one (soft)."""
    for name, bits in (("lif", 2), ("multibit", 1), ("real", 1)):
        neuron, x = arm(name), torch.randn(4, 2, 7, 64, requires_grad=True)
        kept: list[Tensor] = []
        with (
            using("native"),
            torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t),
        ):
            neuron(x)
        assert sum(t.numel() * t.element_size() for t in kept) == x.numel() * bits // 8


@built
def test_a_second_derivative_is_refused(refuses: Callable[..., object]) -> None:
    x = torch.randn(2, 3, 7, requires_grad=True)
    with using("native"):
        (grad,) = torch.autograd.grad(arm("lif")(x).square().sum(), x, create_graph=True)
    with refuses("scan", "differentiated once"):
        grad.sum().backward()


@built
def test_native_refuses_what_it_cannot_run() -> None:
    facts = ScanFacts(arm("lif").fused(), torch.float64, torch.float64)
    assert "float32 membranes" in str(NATIVE.refuses(facts))

    class Own(type(arm("lif"))):  # type: ignore[misc]
        def step(self, x: Tensor, state: object) -> object:
            return super().step(x * 0.5, state)

    assert "fused()" in str(NATIVE.refuses(ScanFacts(Own().fused(), torch.float32, torch.float32)))


@built
@pytest.mark.slow
@pytest.mark.parametrize("name", ["lif", "ternary-channels"])
def test_native_compiles_in_one_graph(name: str) -> None:
    neuron, x = arm(name), torch.randn(4, 2, 7, 9)
    compiled = torch.compile(neuron, fullgraph=True, backend="aot_eager")
    wanted, found = outcome(neuron, x, lambda y: [neuron(y)]), outcome(neuron, x, lambda y: [compiled(y)])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


@built
@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("size", [4681, 9363])
def test_native_in_half_precision(name: str, size: int) -> None:
    """bfloat16 currents, float32 membranes: as the reference on widened currents; whole blocks, and tails."""
    neuron, x = arm(name), (torch.randn(2, 1, 7, size) * 1.5).bfloat16()
    results = []
    for kernel in ("reference", "native"):
        leaf = x.clone().requires_grad_()
        with using(kernel), torch.autocast("cpu", torch.bfloat16):
            s, state = neuron.run(leaf)
        assert s.dtype == torch.bfloat16 and state.v.dtype == torch.float32
        weight = torch.linspace(-1, 1, s.numel()).reshape(s.shape).bfloat16()
        results.append([s.detach(), state.v.detach(), torch.autograd.grad((s * weight).float().sum(), leaf)[0]])
    (s, v, grad), (other_s, other_v, other_grad) = results
    assert torch.equal(s, other_s) and torch.equal(v, other_v)
    torch.testing.assert_close(grad, other_grad, rtol=2**-7, atol=1e-6)


class Watch(TorchDispatchMode):
    """Counts bitspike's operators and changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.seen += func.namespace == "bitspike"
        return func(*args, **(kwargs or {}))


@built
@pytest.mark.parametrize("name", ARMS)
def test_the_operator_gives_what_the_shorter_way_gives(name: str) -> None:
    """Ordinary calls go around torch's dispatcher; whatever watches or transforms them gets the operator."""
    neuron, x = arm(name), torch.randn(3, 2, 7, 9)

    def run(y: Tensor) -> list[Tensor]:
        s, state = neuron.run(y)
        return [s, *state]

    plain = outcome(neuron, x, run)
    with Watch() as watch:
        watched = outcome(neuron, x, run)
    assert watch.seen == 2
    for wanted, found in zip(plain, watched, strict=True):
        torch.testing.assert_close(found, wanted, rtol=0, atol=0)

"""The Triton scan: through the interpreter on the CPU, compiled on a GPU; and compiled for GPUs that are not there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor

from bitspike.neurons import NEURONS
from bitspike.ops import choose, explain, table, using
from bitspike.ops.scan_triton import segments
from bitspike.ops.spec import ScanFacts
from ops.test_scan import ARMS, TOLERANCE, arm, compare, outcome

TRITON = next(kernel for kernel in table() if kernel.name == "triton")
DEVICE = TRITON.home()
there = pytest.mark.skipif(
    not find_spec("triton") or (DEVICE == "cuda" and not torch.cuda.is_available()),
    reason="not run: triton is not installed, or there is neither its interpreter nor a GPU",
)


def normal(*shape: int) -> Tensor:
    return (torch.randn(shape) * 1.5).to(DEVICE)


@there
@pytest.mark.parametrize("name", ARMS)
def test_every_length_and_size(name: str) -> None:
    """T up to 32, in one segment and in several; one element, a byte, tails, a whole program, several."""
    neuron = arm(name).to(DEVICE)
    for T, size in ((1, 1), (2, 3), (3, 64), (4, 37), (8, 2), (32, 1)):
        compare(TRITON, neuron, normal(T, 2, 7, size))
    for T, size in ((1, 128), (9, 151)):
        compare(TRITON, neuron, normal(T, 1, 8, size)[:, :, :7])


@there
@pytest.mark.parametrize("name", ARMS)
def test_ties_on_the_dyadic_grid(name: str) -> None:
    neuron = arm(name).to(DEVICE)
    x = (torch.randint(-24, 33, (3, 8, 7, 16)).float() / 16).to(DEVICE)
    compare(TRITON, neuron, x)
    assert 0.02 < (neuron(x) != 0).float().mean() < 0.98


@there
@pytest.mark.parametrize("name", ARMS)
def test_layouts(name: str) -> None:
    """Channels-last through time keeps its layout; anything else is copied; results are those of contiguous input."""
    neuron, x = arm(name).to(DEVICE), normal(4, 3, 7, 5, 6)
    last = x.movedim(2, -1).contiguous().movedim(-1, 2)
    with using("triton"):
        wanted, state = neuron.run(x)
        for other in (last, x.transpose(3, 4).contiguous().transpose(3, 4), x.flip(0).flip(0)):
            s, after = neuron.run(other)
            assert torch.equal(s, wanted) and torch.equal(after.v, state.v)
        assert neuron(last).stride() == last.stride()
    compare(TRITON, neuron, last)
    compare(TRITON, neuron, x[..., ::2])


@there
@pytest.mark.parametrize("T", [5, 11])
@pytest.mark.parametrize("name", ARMS)
def test_goes_on_from_a_state_and_differentiates_it(name: str, T: int) -> None:
    neuron, x, v = arm(name).to(DEVICE), normal(T, 3, 7, 11), normal(3, 7, 11)
    grads = []
    for kernel in ("reference", "triton"):
        begin = v.clone().requires_grad_()
        with using(kernel):
            s, state = neuron.run(x, type(neuron.initial_state(x[0]))(begin))
        found = torch.autograd.grad(s.sum() + state.v.square().sum(), [begin, *neuron.parameters()])
        grads.append([s.detach(), state.v.detach(), *found])
        assert torch.equal(begin, v)
    assert torch.equal(grads[0][0], grads[1][0]) and torch.equal(grads[0][1], grads[1][1])
    for one, other in zip(grads[0][2:], grads[1][2:], strict=True):
        torch.testing.assert_close(one, other, **TOLERANCE["scan"])


@there
@pytest.mark.parametrize("name", ARMS)
def test_the_gradient_of_the_state_alone(name: str) -> None:
    """No gradient reaches the spikes; the kernel is given none."""
    neuron, x = arm(name).to(DEVICE), normal(10, 2, 7, 3)
    found = []
    for kernel in ("reference", "triton"):
        leaf = x.clone().requires_grad_()
        with using(kernel):
            found.append(torch.autograd.grad(neuron.run(leaf)[1].v.square().sum(), leaf)[0])
    torch.testing.assert_close(*found, **TOLERANCE["scan"])


@there
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ARMS)
def test_half_precision(name: str, dtype: torch.dtype) -> None:
    """Half-precision currents, float32 membranes: as the reference on widened currents.

    Where hardware rounds to bfloat16, the interpreter cuts off: its real spikes may be one unit smaller.
    """
    neuron, x = arm(name).to(DEVICE), normal(3, 2, 7, 81).to(dtype)
    results = []
    for kernel in ("reference", "triton"):
        leaf = x.clone().requires_grad_()
        with using(kernel), torch.autocast(DEVICE, dtype):
            s, state = neuron.run(leaf)
        assert s.dtype == dtype and state.v.dtype == torch.float32
        weight = torch.linspace(-1, 1, s.numel(), device=DEVICE).reshape(s.shape).to(dtype)
        results.append([s.detach(), state.v.detach(), torch.autograd.grad((s * weight).float().sum(), leaf)[0]])
    (s, v, grad), (other_s, other_v, other_grad) = results
    cut = DEVICE == "cpu" and dtype == torch.bfloat16 and neuron.format.real
    torch.testing.assert_close(s, other_s, rtol=2**-7 if cut else 0, atol=0)
    assert torch.equal(v, other_v)
    torch.testing.assert_close(grad, other_grad, rtol=2**-7 if dtype == torch.bfloat16 else 2**-10, atol=1e-6)


@there
def test_what_is_kept() -> None:
    """Class M: bits alone, in the layout of the native scan. Class U: the currents, and a membrane every 8 steps."""
    for name, T, bits in (("lif", 4, 2), ("multibit", 4, 1), ("real", 9, 1), ("ternary", 8, 32), ("ternary", 9, 36)):
        neuron, x = arm(name).to(DEVICE), normal(T, 2, 7, 64).requires_grad_()
        kept: list[Tensor] = []
        with (
            using("triton"),
            torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t) or t, lambda t: t),
        ):
            neuron(x)
        marks = x.numel() // T * 4 if bits == 36 else 0
        assert sum(t.numel() * t.element_size() for t in kept) == x.numel() * min(bits, 32) // 8 + marks


@there
def test_nothing_is_kept_in_evaluation() -> None:
    codes, x = arm("ternary").fused(), normal(9, 2, 7)
    given = x, None, None, None, list(codes.codes), list(codes.numbers), False, False
    assert [t.numel() for t in torch.ops.bitspike.scan_triton(*given)] == [x.numel(), 0, 0, 0]


@there
@pytest.mark.skipif(DEVICE == "cuda", reason="the native scan runs on the CPU")
@pytest.mark.parametrize("name", ["lif", "multibit", "real", "lif-soft-open"])
def test_saved_bits_are_those_of_the_native_scan(name: str) -> None:
    pytest.importorskip("bitspike.native").library() or pytest.skip("not run: the native library is not built")
    spec, x = arm(name).fused(), torch.randn(3, 2, 7, 23)
    given = x, None, None, None, list(spec.codes), list(spec.numbers), True, True
    for one, other in zip(torch.ops.bitspike.scan(*given), torch.ops.bitspike.scan_triton(*given), strict=False):
        if one.dtype == torch.uint8 and one.numel():  # what lies behind the last element means nothing
            one, other = one[..., :40], other[..., :40]
        assert torch.equal(one, other)


@there
def test_the_choice() -> None:
    """Taken on CUDA by itself, on the CPU through the interpreter on demand alone."""
    facts = ScanFacts(arm("lif").fused(), torch.bfloat16, torch.float32)
    assert choose("scan", "cuda", facts).name == "triton"
    assert choose("scan", "cpu", facts).name != "triton"
    assert "triton: it runs on cuda, the tensor is on cpu" in explain("scan", "cpu", facts)
    wide = facts._replace(dtype=torch.float64, state_dtype=torch.float64)
    assert choose("scan", "cuda", wide).name == "reference" and "float32 membranes" in explain("scan", "cuda", wide)


@there
def test_empty_batches_and_operator_checks() -> None:
    neuron = arm("ternary-channels").to(DEVICE)
    with using("triton"):
        x = torch.zeros(2, 0, 7, 3, device=DEVICE, requires_grad=True)
        neuron(x).sum().backward()
    assert x.grad is not None and x.grad.shape == x.shape
    spec, x = neuron.fused(), normal(2, 3, 7, 5).requires_grad_()
    begin = normal(3, 7, 5).requires_grad_()
    given = x, begin, spec.decay.detach().requires_grad_(), spec.amplitude.detach().requires_grad_()
    torch.library.opcheck(
        torch.ops.bitspike.scan_triton.default,
        (*given, list(spec.codes), list(spec.numbers), True, True),
        test_utils=("test_schema", "test_autograd_registration", "test_faketensor"),
    )


@there
def test_a_second_derivative_is_refused(refuses: Callable[..., object]) -> None:
    x = normal(2, 3, 7).requires_grad_()
    with using("triton"):
        (grad,) = torch.autograd.grad(arm("lif").to(DEVICE)(x).square().sum(), x, create_graph=True)
    with refuses("scan", "differentiated once"):
        grad.sum().backward()


@there
@pytest.mark.parametrize("name", ["lif", "ternary-channels"])
def test_compiles_in_one_graph(name: str) -> None:
    neuron, x = arm(name).to(DEVICE), normal(9, 2, 7, 5)
    with using("triton"):
        compiled = torch.compile(neuron, fullgraph=True, backend="aot_eager")
        wanted, found = outcome(neuron, x, lambda y: [neuron(y)]), outcome(neuron, x, lambda y: [compiled(y)])
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_segments_cover_all_steps() -> None:
    assert [segments(T) for T in (1, 8, 9, 17, 500)] == [(1, 1), (1, 8), (2, 5), (3, 6), (63, 8)]
    for T in range(1, 99):
        count, length = segments(T)
        assert count * length >= T and length <= 8


@pytest.mark.skipif(not torch.cuda.is_available(), reason="not run: no GPU")
@pytest.mark.parametrize("name", ARMS)
def test_replayed_from_a_cuda_graph(name: str) -> None:
    """A captured step, replayed on other currents, gives what the eager one gives."""
    neuron, x = arm(name).cuda(), torch.randn(4, 2, 7, 33, device="cuda")

    def step(leaf: Tensor) -> list[Tensor]:
        s, state = neuron.run(leaf)
        return [s, state.v, *torch.autograd.grad(s.sum() + state.v.sum(), [leaf, *neuron.parameters()])]

    leaf = x.clone().requires_grad_()
    side = torch.cuda.Stream()
    with torch.cuda.stream(side):
        for _ in range(3):
            step(leaf)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = step(leaf)
    other = torch.randn_like(x)
    with torch.no_grad():
        leaf.copy_(other)
    graph.replay()
    for one, wanted in zip(found, step(other.clone().requires_grad_()), strict=True):
        torch.testing.assert_close(one, wanted, rtol=0, atol=0)


@pytest.mark.skipif(not find_spec("triton"), reason="not run: triton is not installed")
def test_the_kernels_compile_for_gpus() -> None:
    """For an A100 and an H200, without one: machine code, loads and stores of 16 bytes, and nothing contracted.

    Divisions and exponentials of smooth surrogates hold fused multiply-adds of their own.
    """
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    script = Path(__file__).with_name("compile_triton.py")
    done = subprocess.run([sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["kernel"] for row in rows} == {"forward", "backward_bits", "backward_again"}
    assert (
        {row["arm"].split("-")[0] for row in rows} == {"lif", "ternary", "multibit", "integer", "real"} < set(NEURONS)
    )
    for row in rows:
        assert row["machine_code"] > 0, row
        assert row["contracted"] == 0 or row["kernel"] == "backward_again", row
        assert row["wide_loads"] >= row["steps"], row
        assert row["wide_stores"] >= row["steps"], row

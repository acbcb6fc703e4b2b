"""Membranes of any finite size: every surrogate has the derivative of the reference on every kernel of the scan."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from bitspike import native
from bitspike.functional import SURROGATES
from bitspike.neurons import LIF, MultiBit, Neuron, Real, Ternary
from bitspike.ops import Kernel, ScanFacts, table, using

KERNELS = [k for k in table() if k.operation == "scan" and k.name in ("native", "triton")]
SIZES = (1e2, 1e3, 1e5, 1e10, 1e19, 1e20, 1e30, 1e37, 1e38, 3e38)
CASES = {
    "detached": lambda surrogate: LIF(decay=0.0, reset="soft", detach_reset=True, surrogate=surrogate),
    "not detached": lambda surrogate: LIF(surrogate=surrogate),
    "graded": lambda surrogate: MultiBit(surrogate=surrogate),
    "ternary": lambda surrogate: Ternary(surrogate=surrogate),
    "real": lambda surrogate: Real(gradient="surrogate", surrogate=surrogate),
}


def gradients(neuron: Neuron, x: Tensor, kernel: str) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    with using(kernel):
        s = neuron(x)
    s.sum().backward()
    assert x.grad is not None
    return s.detach(), x.grad


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("surrogate", list(SURROGATES))
def test_extreme_membranes(surrogate: str, case: str, kernel: Kernel) -> None:
    if kernel.home() == "cuda" and not torch.cuda.is_available():
        pytest.skip("not run: needs a GPU")
    reason = kernel.refuses(ScanFacts(CASES[case](surrogate).fused(), torch.float32, torch.float32))
    if reason:
        pytest.skip(f"not run: {kernel.name} refuses {surrogate}: {reason}")
    far = torch.tensor([sign * size for size in SIZES for sign in (1.0, -1.0)])
    x = torch.stack([far, torch.full_like(far, 0.25)]).unsqueeze(1).to(kernel.home())
    spikes, wanted = gradients(CASES[case](surrogate), x, "reference")
    assert wanted.isfinite().all()
    for isa in native.available_isas() if kernel.name == "native" else ("",):
        with native.isa(isa) if isa else nullcontext():
            s, found = gradients(CASES[case](surrogate), x, kernel.name)
        torch.testing.assert_close(s, spikes, rtol=0, atol=0)
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-20)  # what float32 holds of 1/x²


def test_sigmoid_underflows() -> None:
    """e^-87 is 1.6e-38: times a membrane of 1e38 it was a gradient of 6."""
    x = torch.tensor([[[1e38, -1e38]]])
    for isa in native.available_isas():
        with native.isa(isa):
            _, grad = gradients(Real(gradient="surrogate", surrogate="sigmoid"), x, "native")
        assert grad.flatten().tolist() == [1.0, 0.0], isa

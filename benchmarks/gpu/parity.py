"""Is the Triton scan right on this device? The definition is the plain PyTorch scan on the CPU."""

from __future__ import annotations

from typing import Any

import torch
from cases import CLASS_M, CLASS_U
from torch import Tensor

from bitspike.neurons import Neuron
from bitspike.ops import using

RTOL = ATOL = 2e-5  # of gradients, as in the tests
CHANNELS = 8


def outcome(neuron: Neuron, x: Tensor, v: Tensor | None, kernel: str, seed: int) -> list[Tensor]:
    """Spikes, final membrane, and the gradients of the currents, the first membrane and every parameter."""
    leaves = [x.clone().requires_grad_()] + ([] if v is None else [v.clone().requires_grad_()])
    with using(kernel), torch.autocast(x.device.type, x.dtype, enabled=x.dtype != torch.float32):
        state = None if v is None else type(neuron.initial_state(x[0]))(leaves[1])
        s, after = neuron.run(leaves[0], state)
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(t.shape, generator=generator).to(t.device, t.dtype) for t in (s, after[0])]
    loss = (s * weights[0]).float().sum() + (after[0] * weights[1]).sum()
    grads = torch.autograd.grad(loss, [*leaves, *neuron.parameters()])
    return [t.detach().cpu() for t in (s, after[0], *grads)]


def check(name: str, device: str, dtype: torch.dtype, T: int, size: int, layout: str) -> dict[str, Any]:
    """One comparison; ``ok`` says whether spikes and membranes are equal and gradients within the tolerance."""
    torch.manual_seed(T)
    neuron = (CLASS_M | CLASS_U)[name]().replicate(CHANNELS)
    # multiples of 1/8: exact in half precision, and many on a threshold
    x = (torch.randint(-16, 25, (T, 2, CHANNELS, size, 3)).float() / 8).to(dtype)
    v = torch.randint(-8, 9, x.shape[1:]).float() / 8 if layout == "from a state" else None
    if layout == "channels-last":
        x = x.movedim(2, -1).contiguous().movedim(-1, 2)
    wanted = outcome(neuron, x, v, "reference", T)
    found = outcome(neuron.to(device), x.to(device), None if v is None else v.to(device), "triton", T)
    slack = {torch.bfloat16: 2**-7, torch.float16: 2**-9}.get(dtype, RTOL)
    # the interpreter cuts off where hardware rounds to bfloat16; real spikes are rounded
    exact = not (device == "cpu" and dtype == torch.bfloat16 and neuron.format.real)
    same = [torch.equal(one, other) for one, other in zip(found[:2], wanted[:2], strict=True)]
    close = [
        torch.allclose(one.double(), other.double(), rtol=slack, atol=ATOL * max(1.0, float(other.abs().max())))
        for one, other in zip(found if not exact else found[2:], wanted if not exact else wanted[2:], strict=True)
    ]
    fired = float((wanted[0] != 0).float().mean())
    return {
        **{"neuron": name, "dtype": str(dtype).removeprefix("torch."), "T": T, "shape": list(x.shape)},
        **{"layout": layout, "fires": round(fired, 3), "ok": (all(same) or not exact) and all(close)},
    }


def parity(device: str, toy: bool) -> dict[str, Any]:
    """All neurons, dtypes, layouts and lengths of time."""
    rows = []
    dtypes = (torch.float32, torch.bfloat16, torch.float16)
    shapes = ((2, 5), (9, 3)) if toy else ((1, 1), (2, 37), (3, 64), (4, 501), (8, 33), (32, 7))
    for name in CLASS_M | CLASS_U:
        for number, (T, size) in enumerate(shapes):
            for dtype in dtypes[number % 3 : number % 3 + 1] if toy else dtypes:
                rows.append(check(name, device, dtype, T, size, "contiguous"))
        rows.append(check(name, device, torch.float32, 4, 5, "channels-last"))
        rows.append(check(name, device, torch.float32, 10, 5, "from a state"))
    failed = [row for row in rows if not row["ok"]]
    return {"ok": not failed, "cases": len(rows), "failed": failed}

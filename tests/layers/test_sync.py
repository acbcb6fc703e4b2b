"""Batch norm over processes: which form runs where, against torch in one process, and under autocast.

That two processes give the gradients of one is tested in tests/training/test_distributed.py. The CUDA form is chosen
and called here, on tensors that only claim to be on CUDA; it has not been run.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses import FakeTensorMode
from torch.nn.modules._functions import SyncBatchNorm

from bitspike.layers import BatchNorm, norm, sync

C = 5


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of this one process."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        dist.destroy_process_group()


def arguments(x: Tensor) -> dict[str, Any]:
    like = {"dtype": torch.float32 if x.dtype == torch.bfloat16 else x.dtype, "device": x.device}
    return {
        "x": x,
        "running_mean": torch.zeros(C, **like),
        "running_var": torch.ones(C, **like),
        "weight": torch.linspace(-1, 2, C, **like).requires_grad_(),
        "bias": torch.linspace(0, 1, C, **like).requires_grad_(),
        "momentum": 0.1,
        "eps": 1e-5,
    }


def test_torchs_own_function_on_cuda(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(sync.SyncBatchNorm, "apply", lambda *given: calls.append(given) or given[0])
    monkeypatch.setattr(sync, "reduced_batch_norm", lambda *_: pytest.fail("the form of the CPU was taken"))
    with FakeTensorMode():
        given = arguments(torch.empty(6, C, 3, 3, device="cuda"))
        assert sync.sync_batch_norm(**given) is given["x"]
    names = list(inspect.signature(SyncBatchNorm.forward).parameters)[1:]
    call = dict(zip(names, calls[0], strict=True))
    assert call.pop("process_group") is dist.group.WORLD and call.pop("world_size") == 1
    assert call.pop("input") is given.pop("x") and call == given


def test_reductions_elsewhere_equal_one_process(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync.SyncBatchNorm, "apply", lambda *_: pytest.fail("the form of CUDA was taken"))
    x = torch.randn(6, C, 3, 3, dtype=torch.float64) * 3 + 1
    seed = torch.randn(x.shape, dtype=torch.float64)
    found: list[list[Tensor]] = []
    for form in (sync.sync_batch_norm, partial(F.batch_norm, training=True)):
        given = arguments(x.clone().requires_grad_())
        leaves = [given["x"], given["weight"], given["bias"]]
        y = form(given.pop("x"), **given)
        found.append([y, *torch.autograd.grad(y, leaves, seed), given["running_mean"], given["running_var"]])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_sums_of_bfloat16_are_taken_in_float32(alone: None) -> None:
    """1200 values a channel: bfloat16 holds no odd number above 256 and would round count and sums."""
    x = (torch.randn(3, 400, C, 1, 1) + 3).bfloat16().flatten(0, 1)
    ours, torchs = arguments(x), arguments(x.float())
    found, wanted = sync.sync_batch_norm(**ours), F.batch_norm(torchs.pop("x"), training=True, **torchs)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=2**-8, atol=2**-8)
    for name in ("running_mean", "running_var"):
        torch.testing.assert_close(ours[name], torchs[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("mode", ["joint", "threshold", "per_step"])
def test_a_still_image_is_reduced_as_its_copies_are(mode: str, alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """In one reduction of joint statistics; every step keeps its own, which other processes wait for."""
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    image, found, totals, honest = torch.randn(3, C, 2, 2, dtype=torch.float64), [], [], sync._total
    monkeypatch.setattr(sync, "_total", lambda x: totals.append(x.detach()) or honest(x))
    for every in (False, True):
        layer, x = BatchNorm(C, mode).double(), image.clone().requires_grad_()
        steps = x.expand(4, *x.shape)
        y = layer(steps.contiguous() if every else steps)
        grads = torch.autograd.grad((y * torch.arange(y.numel()).reshape(y.shape)).sum(), [x, *layer.parameters()])
        found.append([y, *grads, layer.running_mean, layer.running_var])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    half = len(totals) // 2
    assert half == (8 if mode == "per_step" else 2)
    torch.testing.assert_close(totals[:half], totals[half:])


def test_the_norm_asks_whether_processes_are_several(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    layer, x, called = BatchNorm(C), torch.randn(2, 3, C), []
    monkeypatch.setattr(norm, "sync_batch_norm", lambda x, *_: called.append(1) or x)
    assert not sync.synced()  # a group of one
    layer(x)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    layer.eval()(x)
    assert not called
    layer.train()(x)
    assert called

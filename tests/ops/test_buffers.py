"""Kept buffers: used again, never twice at a time, bounded, safe from any thread."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator

import pytest
import torch

from bitspike import native
from bitspike.neurons import LIF
from bitspike.ops import buffers

pytestmark = pytest.mark.skipif(native.library() is None, reason="no native library")
LARGE = buffers.LARGE_BYTES // 4 + 3


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    gc.collect()
    buffers.release()
    yield
    buffers.release()


def test_a_freed_buffer_is_used_again_and_a_live_one_is_not() -> None:
    first = buffers.empty((LARGE,), torch.float32)
    address = first.data_ptr()
    second = buffers.empty((LARGE,), torch.float32)
    assert second.data_ptr() != address and second.data_ptr() % 64 == address % 64 == 0
    part = first[5:]
    del first
    assert buffers.empty((LARGE,), torch.float32).data_ptr() != address  # a view holds it
    del part
    third = buffers.empty((3, LARGE // 3), torch.float32)
    assert third.data_ptr() == address and third.shape == (3, LARGE // 3) and third.is_contiguous()


def test_small_ones_are_torch_s_own() -> None:
    small = buffers.empty((7,), torch.bfloat16)
    assert small.dtype == torch.bfloat16 and small.untyped_storage().nbytes() == 14
    assert buffers.empty((0, 3), torch.float32).shape == (0, 3)


def test_kept_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffers, "KEPT_BYTES", 20 * buffers.LARGE_BYTES)
    held = [buffers.empty((LARGE + 50_000 * n,), torch.float32) for n in range(9)]
    for tensor in held:
        tensor.fill_(1.0)
    del held, tensor
    gc.collect()
    kept = buffers._KEPT.total_bytes
    assert 0 < kept <= 20 * buffers.LARGE_BYTES
    buffers.release()
    assert buffers._KEPT.total_bytes == 0


def test_results_outlive_each_other() -> None:
    """Many spike tensors alive at once and freed in any order hold their own values."""
    neuron, generator = LIF(threshold=0.5), torch.Generator().manual_seed(0)
    inputs = [torch.randn(2, 4, 16, 40, 40, generator=generator) for _ in range(6)]
    wanted = [neuron(x).clone() for x in inputs]
    found = [neuron(x) for x in inputs]
    for index in (3, 0, 5):
        found[index] = neuron(inputs[index])
    for one, other in zip(found, wanted, strict=True):
        assert torch.equal(one, other)
    assert len({s.data_ptr() for s in found}) == len(found)


def test_threads() -> None:
    errors: list[str] = []

    def work(mark: float) -> None:
        for round_ in range(60):
            mine = buffers.empty((LARGE,), torch.float32).fill_(mark + round_)
            if not bool((mine == mark + round_).all()):
                errors.append(f"{mark} {round_}")

    threads = [threading.Thread(target=work, args=(1000.0 * n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors

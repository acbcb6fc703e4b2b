"""CIFAR-10."""

from __future__ import annotations

from bitspike.data.cifar import register

_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))

CIFAR10 = register(
    "cifar10",
    {
        "binary": ("cifar-10-batches-bin", [f"{stem}.bin" for stem in _BATCHES], "test_batch.bin"),
        "npz": ("cifar10", [f"cifar10_{stem}.npz" for stem in _BATCHES], "cifar10_test_batch.npz"),
        "python": ("cifar-10-batches-py", list(_BATCHES), "test_batch"),
    },
    tuple("airplane automobile bird cat deer dog frog horse ship truck".split()),
    fine=False,
)

"""An epoch never waits for the device but for logging: what would wait on a GPU is counted on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from bitspike.data import ImageSet, Splits
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.loop import fit
from bitspike.training.recipe import Recipe, recipe_from_mapping
from networks import rng
from runs import CutError, cut_after

# Reading a value, results whose size depends on values, and tensors made of Python numbers (copied to the device).
WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "lift_fresh", "equal", "item")


class Waits(TorchDispatchMode):
    """Counts operations that wait for the device; ``read`` counts what leaves tensors without an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        masks = name.startswith("index") and len(args) > 1 and isinstance(args[1], (list, tuple))
        masked = masks and any(isinstance(i, Tensor) and i.dtype == torch.bool for i in args[1])
        if masked or any(name.lstrip("_").startswith(wait.lstrip("_")) for wait in WAITS):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


def count(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> int:
    waits = Waits()
    with monkeypatch.context() as patch:
        for name in ("tolist", "numpy", "cpu"):
            real = getattr(Tensor, name)

            def counted(self: Tensor, *args: Any, real: Any = real, name: str = name, **kwargs: Any) -> Any:
                waits.found.append(name)
                return real(self, *args, **kwargs)

            patch.setattr(Tensor, name, counted)
        with waits:
            run()
    return len(waits.found)


def test_what_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.tensor([1.0, 2.0])
    for wait in (
        lambda: float(x[0]),
        lambda: x.sum().item(),
        lambda: bool((x > 1).any()),
        lambda: x.tolist(),
        lambda: x.numpy(),
        lambda: x.nonzero(),
        lambda: x[x > 1],
        lambda: torch.tensor([1.0]),
    ):
        assert count(monkeypatch, wait) >= 1
    assert count(monkeypatch, lambda: (x + 1).sum().argmax()) == 0


def splits(images: int) -> Splits:
    def part(number: int, seed: int) -> ImageSet:
        pixels = torch.randint(0, 256, (number, 3, 16, 16), generator=rng(seed)).to(torch.uint8)
        return ImageSet(pixels, torch.arange(number) % 3, tuple("abc"), 255, (0.5,) * 3, (0.3,) * 3, "noise")

    return Splits(part(images, 0), part(6, 1), part(6, 2))


def recipe(neuron: dict[str, Any], **train: Any) -> Recipe:
    return recipe_from_mapping(
        {
            "name": "waits",
            "data": {"name": "cifar10", "batch_size": 4, "augment": "shift-flip-cutout", "pad": 2, "hole": 4},
            "model": {"name": "resnet20", "options": {"width": 4}},
            "neuron": neuron,
            "weight": {"name": "float"},
            "train": {"epochs": 1, "threads": 1, "log_every": 100, "precision": "bf16", "channels_last": True, **train},
        }
    )


@pytest.mark.parametrize("memory", ["normal", "lean"])
@pytest.mark.parametrize("name", ["lif", "ternary", "multibit", "real"])
def test_a_longer_epoch_waits_no_more_often(monkeypatch: pytest.MonkeyPatch, name: str, memory: str) -> None:
    neuron = {"name": name, "train_amplitude": "layer"}
    chosen = recipe(neuron, clip_norm=1.0, label_smoothing=0.1, memory=memory)
    short, long = (count(monkeypatch, lambda n=n: fit(chosen, splits(n))) for n in (8, 20))
    assert short == long


def test_mixed_batches_averaged_weights_and_dropped_branches_wait_no_more_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = recipe({"name": "lif"}, mixup=0.2, cutmix=1.0, ema=0.9, stochastic_depth=0.2)
    short, long = (count(monkeypatch, lambda n=n: fit(chosen, splits(n))) for n in (8, 20))
    assert short == long


def test_every_log_line_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The counter sees the loop: with a log line at every step it waits twice a step, for sums and sound weights."""
    runs = [recipe({"name": "lif"}, log_every=every) for every in (100, 1)]
    seldom, often = (count(monkeypatch, lambda r=r: fit(r, splits(20))) for r in runs)
    assert often == seldom + 2 * 4


def test_sums_of_a_cut_epoch_go_on(tmp_path: Path) -> None:
    """Loss and accuracy of an epoch that was cut and resumed are those of a whole one, bit for bit."""
    chosen, data = recipe({"name": "lif"}, precision="float32", log_every=3), splits(20)
    whole = fit(chosen, data).history[0]
    checkpoints = Checkpoints(tmp_path, "key")
    with pytest.raises(CutError):
        fit(chosen, data, cut_after(1), checkpoints, checkpoint_steps=1)
    resumed = fit(chosen, data, None, Checkpoints(tmp_path, "key")).history[0]
    assert all(resumed[key] == whole[key] for key in ("loss", "train_accuracy", "validation_accuracy"))

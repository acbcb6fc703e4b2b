"""Checks of the parts of an `ImageSet`; each returns nothing and raises in the house form."""

from __future__ import annotations

import math

import torch

from bitspike import checks


def tensor(where: str, name: str, value: object, dtype: torch.dtype, form: str, axes: int) -> None:
    """Raise unless ``value`` is a tensor of ``dtype`` with ``axes`` non-empty axes, written ``form``."""
    if not isinstance(value, torch.Tensor) or value.dtype != dtype:
        got = value.dtype if isinstance(value, torch.Tensor) else type(value).__name__
        raise checks.bad_type(where, f"{name} must be a {dtype} tensor {form}", got, f"convert {name}")
    if value.dim() != axes or value.numel() == 0:
        must = f"{name} must be {form} without an empty axis"
        raise checks.bad_value(where, must, list(value.shape), f"pass at least one sample shaped {form}")


def classes(where: str, names: object) -> None:
    """Raise unless ``names`` is a non-empty tuple of distinct strings."""
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        raise checks.bad_type(where, "classes must be a tuple of strings", repr(names), "name every class")
    if not names or len(set(names)) != len(names):
        raise checks.bad_value(where, "classes must be at least one name without repeats", repr(names), "rename them")


def targets(where: str, labels: object, names: tuple[str, ...]) -> None:
    """Raise unless ``labels`` are int64 [N] below the number of names, or one a name: finite float32 or bool [N, K]."""
    if isinstance(labels, torch.Tensor) and (labels.is_floating_point() or labels.dtype == torch.bool):
        kept = torch.bool if labels.dtype == torch.bool else torch.float32
        tensor(where, "targets", labels, kept, "[N, K]", 2)
        checks.finite(where, "targets", labels)
        if labels.shape[1] != len(names):
            must = f"targets must be [N, {len(names)}], a value for every name"
            raise checks.bad_value(where, must, list(labels.shape), "name every value")
        return
    tensor(where, "labels", labels, torch.int64, "[N]", 1)
    if isinstance(labels, torch.Tensor):
        range_of(where, "labels", labels, len(names) - 1, "name every class or correct the labels")


def constants(where: str, mean: object, std: object, channels: int) -> None:
    """Raise unless ``mean`` and ``std`` are tuples of ``channels`` finite floats, those of ``std`` positive."""
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, tuple) or not all(isinstance(value, float) for value in values):
            raise checks.bad_type(where, f"{name} must be a tuple of floats", repr(values), "pass one float a channel")
        if len(values) != channels:
            must = f"{name} must hold one float for each of {channels} channels"
            raise checks.bad_value(where, must, len(values), "pass one float a channel")
        if not all(math.isfinite(value) and (name == "mean" or value > 0) for value in values):
            must = f"{name} must be finite" + (" and positive" if name == "std" else "")
            raise checks.bad_value(where, must, values, "compute it from images that are not all alike")
    given = torch.tensor([mean, std], dtype=torch.float32)
    ends = (torch.tensor([[0.0], [1.0]]) - given[0]) / given[1]
    if not bool(ends.isfinite().all()):
        must = "normalised pixels must be finite in float32"
        raise checks.bad_value(where, must, f"mean {mean}, std {std}", "take greater stds or smaller means")


def indices(where: str, chosen: torch.Tensor, count: int) -> None:
    """Raise unless ``chosen`` is int64 ``[M]``, M >= 1, with values 0 to ``count - 1``."""
    if chosen.numel() == 0:
        raise checks.bad_value(where, "indices must name at least one sample", "none", "pass some")
    tensor(where, "indices", chosen, torch.int64, "[M]", 1)
    range_of(where, "indices", chosen, count - 1, "drop the others")


def range_of(where: str, name: str, values: torch.Tensor, top: int, todo: str) -> None:
    """Raise unless all ``values``, of which there is at least one, lie in [0, top]."""
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > top:
        raise checks.bad_value(where, f"{name} must lie in [0, {top}]", f"{low} to {high}", todo)


def batch(where: str, images: torch.Tensor, channels: int | None = None) -> None:
    """Raise unless ``images`` is uint8 ``[B, C, H, W]``, with C = ``channels`` if that is given; B may be 0."""
    if not isinstance(images, torch.Tensor) or images.dtype != torch.uint8:
        got = images.dtype if isinstance(images, torch.Tensor) else type(images).__name__
        raise checks.bad_type(where, "images must be a torch.uint8 tensor", got, "pass raw pixels, not normalised ones")
    if images.dim() != 4 or channels not in (None, images.shape[1]):
        must = f"images must be [B, {channels or 'C'}, H, W]"
        raise checks.bad_value(where, must, list(images.shape), "add the missing axes or channels")


def fill(where: str, values: object, channels: int) -> None:
    """Raise unless ``values`` is a uint8 tensor ``[C]`` with C = ``channels``."""
    tensor(where, "fill", values, torch.uint8, "[C]", 1)
    if isinstance(values, torch.Tensor) and len(values) != channels:
        raise checks.bad_value(where, f"fill must be [{channels}]", list(values.shape), "pass one value a channel")

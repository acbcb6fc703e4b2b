"""Pools, flattening and factors as NIR says them, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitspike.export.nir.synapses import numbers, whole
from bitspike.layers import AvgPool2d, Flatten, Gain, GlobalAvgPool, SumPool2d, TimeLayer
from bitspike.lower.wire import Refused
from bitspike.upgrade.layers import Merged

Array = NDArray[Any]


def written(nir: Any, module: AvgPool2d | SumPool2d | GlobalAvgPool, shape: tuple[int, ...]) -> Any:
    """The node of a pool over samples [C, H, W]; a folded network sends sums where it was trained on means."""
    if isinstance(module, GlobalAvgPool):
        window: Any = tuple(shape[1:])
        if module.divisor not in (0, window[0] * window[1]):
            raise Refused("its sums are meant for images of another size; fold the network on these")
        make = nir.SumPool2d if module.divisor else nir.AvgPool2d
        return make(kernel_size=np.array(window), stride=np.array(window), padding=np.array((0, 0)))
    if isinstance(module, AvgPool2d) and bool((module.sizes(*shape[1:]) != module.kernel**2).any()):
        raise Refused("its windows stick out at the far edge, which a pool of NIR has no word for; train ceil=False")
    if isinstance(module, AvgPool2d) and module.divisor not in (0, module.kernel**2):
        raise Refused("its sums count several times; fold the network again")
    sums = isinstance(module, SumPool2d) or bool(module.divisor)
    kernel, stride, padding = (np.array([n, n]) for n in (module.kernel, module.stride, module.padding))
    return (nir.SumPool2d if sums else nir.AvgPool2d)(kernel_size=kernel, stride=stride, padding=padding)


def merged(nir: Any, body: nn.Module, shape: tuple[int, ...]) -> Any:
    """The node of one of torch's layers, run on all steps at once; None where it is none of NIR's."""
    if type(body) is nn.AvgPool2d:
        if body.ceil_mode or body.divisor_override not in (None, 1):
            raise Refused("its windows are no plain means or sums; train ceil_mode=False and divisor_override=None")
        kernel, stride, padding = (np.array(_pair(n)) for n in (body.kernel_size, body.stride, body.padding))
        if padding.any() and not body.count_include_pad:
            raise Refused("zeros around do not count in its means, and in those of NIR's readers they do; pad nothing")
        make = nir.AvgPool2d if body.divisor_override is None else nir.SumPool2d
        return make(kernel_size=kernel, stride=stride, padding=padding)
    if type(body) is nn.Flatten and body.start_dim == 1 and body.end_dim in (-1, len(shape)):
        return nir.Flatten(input_type=np.array(shape), start_dim=0, end_dim=-1)
    return None


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)


def read(node: Any, kind: str) -> TimeLayer:
    """The layer that a node AvgPool2d or SumPool2d is; zeros around count in the mean, as torch's do."""
    kernel, stride, padding = (
        whole(node, "kernel_size", 2, 1),
        whole(node, "stride", 2, 1),
        whole(node, "padding", 2, 0),
    )
    if any(2 * p > k for p, k in zip(padding, kernel, strict=True)):
        raise Refused(f"its padding {list(padding)} is more than half of its window {list(kernel)}")
    if len({*kernel}) == len({*stride}) == len({*padding}) == 1 and kernel[0] <= 1024 and stride[0] <= 1024:
        return (SumPool2d if kind == "SumPool2d" else AvgPool2d)(kernel[0], stride[0], padding[0])
    divisor = 1 if kind == "SumPool2d" else None
    pool = nn.AvgPool2d(kernel, stride, padding, divisor_override=divisor)  # type: ignore[arg-type]
    return Merged(pool, kind, scaling="linear")


def flatten(node: Any) -> Flatten:
    """The layer that a node Flatten is: all axes of a sample become one."""
    first, last = int(node.start_dim), int(node.end_dim)
    shape = (getattr(node, "input_type", None) or {}).get("input")
    axes = None if shape is None else len(shape)
    if first != 0 or (last != -1 and last + 1 != axes):
        must = "it flattens some axes of a sample (start_dim counts from the axis behind the batch)"
        raise Refused(f"{must}: {first} to {last}; flatten all, start_dim 0 to -1")
    return Flatten()


def scale(nir: Any, module: Gain, shape: tuple[int, ...], kind: Any) -> Any:
    """The node of a gain that does not change with time."""
    if module.factor.dim() == 2:
        raise Refused("its factor changes from step to step; train one step size for all steps")
    factor = module.factor.detach().cpu().numpy().astype(kind)
    axes = [1] * (len(shape) - 1)
    rows = factor if not factor.ndim else factor.reshape(-1, *axes) if module.channel_dim == 1 else factor
    return nir.Scale(scale=np.ascontiguousarray(np.broadcast_to(rows, shape)))


def gain(node: Any, dtype: Any) -> Gain:
    """The layer that a node Scale is."""
    factor = numbers(node, "scale", dtype)
    rows = factor.reshape(len(factor), -1) if factor.ndim else factor.reshape(1, 1)
    if (rows != rows[:, :1]).any():
        raise Refused("its scale differs within a channel, and a gain here has one factor a channel")
    same = bool((rows == rows[0, 0]).all())
    return Gain(torch.tensor(rows[0, 0]) if same else torch.from_numpy(rows[:, 0].copy()))

"""Linear maps and convolutions as NIR says them, and back; integer weights and their affine maps are remembered."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from bitspike.formats import WeightFormat
from bitspike.layers import Affine, Conv2d, Linear, Synapse, TimeLayer
from bitspike.lower.rules.synapse import place
from bitspike.lower.wire import Refused
from bitspike.quantizers import Fixed
from bitspike.upgrade.layers import Convolution

Array = NDArray[Any]


def written(nir: Any, module: Synapse, affine: Affine | None, shape: tuple[int, ...], note: dict[str, Any]) -> Any:
    """The node of a synapse, and of the affine map that alone reads it: ``scale·(W·x) + shift`` is one map.

    Args:
        shape: of what it reads, without time and batch. note: takes what another reader does not need.
    """
    weight, bias = _numbers(module)
    if affine is not None:
        scale, shift = (t.detach().double().cpu().numpy() for t in (affine.scale, affine.shift))
        note |= {"scale": np.atleast_1d(affine.scale.detach()), "shift": np.atleast_1d(affine.shift.detach())}
        rows = np.broadcast_to(scale, weight.shape[:1]).reshape(-1, *[1] * (weight.ndim - 1))
        kind = weight.dtype
        bias = (np.broadcast_to(scale, weight.shape[:1]) * bias.astype(np.float64) + shift).astype(kind)
        weight = (rows * weight.astype(np.float64)).astype(kind)
    if type(module) is Linear:
        return nir.Affine(weight=weight, bias=bias)
    if type(module) not in (Conv2d, Convolution):
        raise Refused("NIR has no such map; use Linear, or a convolution in 1 or 2 dimensions")
    where = place(module)
    axes = weight.ndim - 2
    if axes > 2 or (isinstance(module, Convolution) and module.padding_mode != "zeros"):
        raise Refused("NIR has convolutions in 1 and 2 dimensions with zeros around; use one of these")
    if len(shape) != axes + 1:
        raise Refused(f"it reads samples with {len(shape)} axes, and a convolution of NIR {axes + 1}")
    padding: Any = tuple(where["before"])
    if where["before"] != where["after"]:
        padding = "same"
    steps, dilation = tuple(where["stride"]), tuple(where["dilation"])
    if axes == 1:
        steps, dilation = steps[0], dilation[0]
        padding = padding if isinstance(padding, str) else padding[0]
    return (nir.Conv1d if axes == 1 else nir.Conv2d)(
        input_shape=shape[1] if axes == 1 else tuple(shape[1:]),
        weight=weight,
        stride=steps,
        padding=padding,
        dilation=dilation,
        groups=module.groups,
        bias=bias,
    )


def _numbers(module: Synapse) -> tuple[Array, Array]:
    weight = module.quantizer(module.weight).detach().cpu().numpy().copy()
    bias = np.zeros(len(weight), weight.dtype) if module.bias is None else module.bias.detach().cpu().numpy().copy()
    return weight, bias


def note_of(module: Synapse, affine: Affine | None) -> dict[str, Any]:
    """What is remembered of a synapse beside its node: its own bias, and integers with their alphabet.

    Raises:
        Refused: weights that are no constants.
    """
    record = module.quantizer.format
    note: dict[str, Any] = {"has_bias": int(module.bias is not None)}
    if record.real:
        return note
    levels, scale = module.quantizer.to_int(module.weight.detach())
    if record.scale != "none" or not bool((scale == 1).all()):
        raise Refused("its weights have a scale; fold the network first")
    note["levels"] = levels.round().to(torch.int16).cpu().numpy()
    note |= {"low": record.low, "high": record.high, "stride": record.stride, "spacing": record.spacing}
    if affine is not None and module.bias is not None:
        note["bias"] = module.bias.detach().cpu().numpy().copy()
    return note


def read(node: Any, kind: str, dtype: Any) -> Synapse:
    """The layer that a node Affine, Linear, Conv1d or Conv2d is.

    Raises:
        Refused: there is none.
    """
    weight = numbers(node, "weight", dtype)
    bias = None if kind == "Linear" else numbers(node, "bias", dtype)
    axes = {"Conv1d": 1, "Conv2d": 2}.get(kind, 0)
    if weight.ndim != axes + 2:
        raise Refused(f"its weight has {weight.ndim} axes, and one of a {kind} has {axes + 2}")
    if bias is not None and bias.shape != weight.shape[:1]:
        raise Refused(f"its bias must have one number an output, and has the shape {list(bias.shape)}")
    made: Synapse
    if not axes:
        made = Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    else:
        made = _convolution(node, weight, axes)
    made.weight = nn.Parameter(torch.from_numpy(weight))
    made.bias = None if bias is None else nn.Parameter(torch.from_numpy(bias))
    return made


def _convolution(node: Any, weight: Array, axes: int) -> Synapse:
    steps, dilation = whole(node, "stride", axes, 1), whole(node, "dilation", axes, 1)
    (groups,) = whole(node, "groups", 1, 1)
    padding: Any = node.padding
    padding = padding.decode() if isinstance(padding, bytes) else padding
    if isinstance(padding, str):
        if padding not in ("same", "valid"):
            raise Refused(f"its padding must be 'same', 'valid' or numbers, and is {padding!r}")
        if padding == "same" and any(step != 1 for step in steps):
            raise Refused("padding 'same' goes with stride 1")
    else:
        padding = whole(node, "padding", axes, 0)
    outputs, inputs, *kernel = weight.shape
    if outputs % groups:
        raise Refused(f"{outputs} outputs do not part into {groups} groups")
    square = axes == 2 and len({*kernel}) == len({*steps}) == 1 and not isinstance(padding, str)
    if square and len({*padding}) == 1 and groups == 1 and set(dilation) == {1} and steps[0] <= 64 and padding[0] <= 64:
        return Conv2d(inputs, outputs, kernel[0], steps[0], padding[0], bias=True)
    make = nn.Conv1d if axes == 1 else nn.Conv2d
    return Convolution(make(inputs * groups, outputs, tuple(kernel), steps, padding, dilation, groups))  # type: ignore[arg-type]


def whole(node: Any, name: str, axes: int, least: int) -> tuple[int, ...]:
    """Integers of a node, one an axis."""
    value = np.asarray(getattr(node, name))
    if value.dtype.kind not in "iuf" or (value != np.floor(value)).any() or (value < least).any():
        raise Refused(f"its {name} must be whole numbers >= {least}, and is {value.tolist()}")
    flat = [int(v) for v in np.ravel(value)]
    if len(flat) not in (1, axes):
        raise Refused(f"its {name} must have {axes} numbers, and has {len(flat)}")
    return tuple(flat * axes if len(flat) == 1 else flat)


def numbers(node: Any, name: str, dtype: Any) -> Array:
    """Finite numbers of a node."""
    value = np.asarray(getattr(node, name))
    if value.dtype.kind not in "fiu" or not np.isfinite(value).all() or not value.size:
        raise Refused(f"its {name} must be finite numbers")
    return value.astype(dtype)


def recalled(made: Synapse, note: dict[str, Any]) -> list[TimeLayer]:
    """The layers that were written as this one: with its integers, behind them its affine map.

    Raises:
        Refused: the node was changed since.
    """
    layers: list[TimeLayer] = [made]
    if "levels" in note:
        spacing = note["spacing"]
        spacing = spacing.decode() if isinstance(spacing, bytes) else str(spacing)
        record = WeightFormat(int(note["low"]), int(note["high"]), int(note["stride"]), spacing=spacing)
        levels = torch.from_numpy(np.asarray(note["levels"])).to(made.weight.dtype)
        if levels.shape != made.weight.shape:
            raise Refused("its levels do not have the shape of its weight")
        restored = levels
        bias = torch.as_tensor(np.asarray(note["bias"])) if "bias" in note else None
        if "scale" in note:
            scale, shift = (torch.as_tensor(np.asarray(note[key])) for key in ("scale", "shift"))
            rows = scale.double().expand(len(levels)).reshape(-1, *[1] * (levels.dim() - 1))
            restored = (rows * levels.double()).to(levels.dtype)
            own = torch.zeros(len(levels), dtype=levels.dtype) if bias is None else bias
            merged = (scale.double().expand(len(levels)) * own.double() + shift.double()).to(levels.dtype)
            if made.bias is None or not torch.equal(merged, made.bias):
                raise Refused(CHANGED)
            made.bias = None if bias is None else nn.Parameter(bias.to(levels.dtype))
            layers.append(Affine(scale, shift))
        if not torch.equal(restored, made.weight.detach()):
            raise Refused(CHANGED)
        made.weight = nn.Parameter(levels)
        made.quantizer = Fixed(record)
    elif "scale" in note:
        raise Refused("it has an affine map without integers")
    if not int(note.get("has_bias", 1)):
        if made.bias is not None and bool((made.bias != 0).any()):
            raise Refused(CHANGED)
        made.bias = None
    return layers


CHANGED = "its numbers are not those that bitspike wrote; remove its metadata, and it is read as NIR says it"

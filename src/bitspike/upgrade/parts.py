"""What a module, or a piece of a user's graph, does to its input: it moves values, is affine in them, or neither."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

from bitspike.graph import adds

MOVES = "moves"
AFFINE = "affine"
OTHER = "other"
_SIZE, _CONSTANT = "size", "constant"

_MOVING = frozenset(
    "view reshape flatten unflatten squeeze unsqueeze transpose swapaxes permute movedim t contiguous clone chunk "
    "split tensor_split unbind getitem narrow select index_select flip roll expand expand_as view_as reshape_as repeat "
    "tile repeat_interleave pixel_shuffle pixel_unshuffle channel_shuffle cat concat concatenate stack".split()
)
_SIZES = frozenset("size dim numel ndimension len".split())
_ELEMENTWISE = frozenset("add sub mul truediv div neg rsub subtract multiply divide".split())
_LINEAR = frozenset(
    "mean sum avg_pool1d avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d conv1d "
    "conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d linear".split()
)
_PADS = (
    *(nn.ReflectionPad1d, nn.ReflectionPad2d, nn.ReflectionPad3d),
    *(nn.ReplicationPad1d, nn.ReplicationPad2d, nn.ReplicationPad3d),
    *(nn.CircularPad1d, nn.CircularPad2d, nn.CircularPad3d),
)
_CONSTANT_PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)  # those of zeros are derived from them
_MOVERS = (*_PADS, nn.PixelShuffle, nn.PixelUnshuffle, nn.ChannelShuffle, nn.Flatten, nn.Unflatten, nn.Identity)
_AVERAGES = (
    *(nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d),
    *(nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d),
)
_MAPS = (
    *(nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, nn.Dropout),
)


def name_of(node: fx.Node) -> str:
    """The plain name of what a node calls, ``torch.nn.functional.pad`` and ``x.pad`` alike."""
    return (node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")).strip("_")


def nature(body: nn.Module) -> str:
    """`MOVES`: every value of the output is one of the input, or 0. `AFFINE`: a constant plus a linear map. `OTHER`.

    It is read off the code, so nothing about values is guessed; what is not known is `OTHER`. Axis 0 is the batch.

    >>> nature(nn.PixelShuffle(2)), nature(nn.Upsample(scale_factor=2, mode="bilinear")), nature(nn.GELU())
    ('moves', 'affine', 'other')
    """
    if isinstance(body, fx.GraphModule):
        found: dict[fx.Node, str] = {}
        for node in body.graph.nodes:
            found[node] = _nature(body, node, [found[n] for n in node.all_input_nodes])
        kind = next(found[n] for n in body.graph.nodes if n.op == "output")
        return kind if kind in (MOVES, AFFINE) else OTHER
    hooked = body._forward_hooks or body._forward_pre_hooks or hasattr(body, "parametrizations")
    if hooked or not type(body).forward.__module__.startswith("torch.nn.modules"):
        return OTHER
    if isinstance(body, nn.Upsample):
        return MOVES if body.mode.startswith("nearest") else AFFINE
    if isinstance(body, _CONSTANT_PADS):
        return AFFINE if body.value else MOVES
    if isinstance(body, _MOVERS):
        return MOVES
    return AFFINE if isinstance(body, (*_AVERAGES, *_MAPS)) else OTHER


def keeps_channels(body: nn.Module) -> bool:
    """Whether a linear map scales every channel by itself, with nothing added: pools of averages, resizing, padding."""
    return isinstance(body, (*_AVERAGES, nn.Upsample, *_PADS)) or resizes_to(body) or _averages_places(body)


def _averages_places(body: nn.Module) -> bool:
    """Whether a piece of a graph is one mean or sum over axes behind the channels, counted from the front."""
    inner = [node for node in body.graph.nodes if node.op != "output"] if isinstance(body, fx.GraphModule) else []
    if len(inner) != 2 or not inner[1].op.startswith("call") or name_of(inner[1]) not in ("mean", "sum"):
        return False
    axes = {**dict(zip(("dim", "keepdim"), inner[1].args[1:], strict=False)), **inner[1].kwargs}.get("dim")
    given = axes if isinstance(axes, (tuple, list)) else (axes,)
    return bool(given) and all(isinstance(axis, int) and axis >= 2 for axis in given)


def resizes_to(body: nn.Module) -> bool:
    """Whether a piece of a graph resizes the images of its first input, to the size of those of another perhaps."""
    if not isinstance(body, fx.GraphModule):
        return False
    inner = [node for node in body.graph.nodes if node.op != "output"]
    inputs = [node for node in inner if node.op == "placeholder"]
    calls = [node for node in inner if node.op.startswith("call") and not _reads(node)]
    resizing = (
        len(calls) == 1 and name_of(calls[0]) in ("interpolate", "upsample") and calls[0].args[:1] == (inputs[0],)
    )
    return resizing and all(reads_size(user) for node in inputs[1:] for user in node.users)


def _reads(node: fx.Node) -> bool:
    """Whether a call reads a size, or a part of one."""
    return reads_size(node) or (name_of(node) == "getitem" and reads_size(node.args[0]))  # type: ignore[arg-type]


def moves(node: fx.Node) -> bool:
    """Whether a function or method that a user's graph calls only moves values."""
    if node.op not in ("call_function", "call_method"):
        return False
    name = name_of(node)
    if name == "pad":
        given = {**dict(zip(("pad", "mode", "value"), node.args[1:], strict=False)), **node.kwargs}
        return given.get("mode", "constant") != "constant" or not given.get("value")
    if name in ("interpolate", "upsample"):
        given = {**dict(zip(("size", "scale_factor", "mode"), node.args[1:], strict=False)), **node.kwargs}
        return str(given.get("mode", "nearest")).startswith("nearest")
    return name in _MOVING


def reads_size(node: fx.Node) -> bool:
    """Whether a call reads the shape, type or place of a tensor, and none of its values."""
    if node.target is getattr:
        return node.args[1] in ("shape", "ndim", "device", "dtype")
    return node.op == "call_method" and node.target in _SIZES


def _nature(body: fx.GraphModule, node: fx.Node, given: list[str]) -> str:
    if node.op == "placeholder":
        return MOVES
    if node.op == "get_attr":
        return _CONSTANT
    if node.op == "output":
        return given[0] if len(given) == 1 else OTHER
    if reads_size(node):
        return _SIZE
    values = [kind for kind in given if kind in (MOVES, AFFINE, OTHER)]
    if not values:
        return _SIZE if all(kind == _SIZE for kind in given) and given else _CONSTANT
    if OTHER in values:
        return OTHER
    both = MOVES if set(given) <= {MOVES, _SIZE} else AFFINE
    if node.op == "call_module":
        inner = nature(body.get_submodule(str(node.target)))
        return OTHER if len(node.args) != 1 or node.kwargs or inner == OTHER else both if inner == MOVES else AFFINE
    return _function(node, dict(zip(node.all_input_nodes, given, strict=True)), both)


def _function(node: fx.Node, given: dict[fx.Node, str], both: str) -> str:
    """The nature of a function of values, sizes and constants."""

    def holds(argument: Any) -> bool:
        found: list[fx.Node] = []
        fx.node.map_arg(argument, found.append)
        return any(given[n] in (MOVES, AFFINE) for n in found)

    name, values = name_of(node), [holds(argument) for argument in (*node.args, *node.kwargs.values())]
    first = bool(values) and values[0] and not any(values[1:])
    if moves(node):
        return both if first else OTHER
    if name in ("pad", "interpolate", "upsample", *_LINEAR):
        return AFFINE if first else OTHER
    if adds(node) or name in ("sub", "subtract", "isub", "rsub", "neg"):
        return AFFINE
    if name in ("mul", "multiply", "matmul"):
        return AFFINE if sum(values) == 1 else OTHER
    return AFFINE if name in ("truediv", "div", "divide") and first and "rounding_mode" not in node.kwargs else OTHER


def elementwise(body: nn.Module) -> str:
    """Of a piece of a graph with one input that is affine place by place: "scale" (a factor alone) or "shift"; else "".

    Constants must be numbers, or tensors that the batch and all places share, one number a channel at most; how many
    axes the input has is not known here, see `per_channel`.
    """
    if not isinstance(body, fx.GraphModule) or nature(body) != AFFINE:
        return ""
    calls = [node for node in body.graph.nodes if node.op.startswith("call")]
    inputs = [node for node in body.graph.nodes if node.op == "placeholder"]
    plain = all(name_of(node) in _ELEMENTWISE and not node.kwargs for node in calls)
    if len(inputs) != 1 or not plain or any(len(node.args) > 2 for node in calls):
        return ""
    return "shift" if any(name_of(node) not in ("mul", "truediv", "div", "neg") for node in calls) else "scale"


def per_channel(body: fx.GraphModule, axes: int, channels: int = 1) -> bool:
    """Whether all constants of a piece of a graph are numbers or tensors with one number a channel of [B, C, ...].

    Args:
        axes: of its input. channels: which of them the channels are.
    """
    for node in body.graph.nodes:
        if node.op == "get_attr":
            shape = tuple(operator.attrgetter(str(node.target))(body).shape)
            wide = (1,) * (axes - len(shape)) + shape
            if len(shape) > axes or any(size != 1 for axis, size in enumerate(wide) if axis != channels):
                return False
    return True


def numbers(body: fx.GraphModule) -> bool:
    """Whether a piece of a graph multiplies by numbers of the code above 0 alone."""
    calls = [node for node in body.graph.nodes if node.op.startswith("call")]
    given = [a for node in calls for a in node.args if not isinstance(a, fx.Node)]
    tensors = any(node.op == "get_attr" for node in body.graph.nodes)
    return not tensors and all(name_of(n) != "neg" for n in calls) and all(a > 0 for a in given)


def fuse_means(graph: fx.Graph) -> None:
    """Write means over one axis after the other, such as ``x.mean(3).mean(2)``, as one over both."""
    for node in list(graph.nodes):
        source = node.args[0] if node.args else None
        if not isinstance(source, fx.Node) or len(source.users) != 1:
            continue
        inner, outer = _mean(source), _mean(node)
        if inner is None or outer is None or inner[1] != outer[1]:
            continue
        (first, kept), (second, _) = inner, outer
        if (first < 0) != (second < 0):
            continue
        if not kept:  # the axis that is gone moves those behind it (before it, counted from the end)
            second += int(second >= first) if first >= 0 else -int(second <= first)
        node.target, node.op = torch.mean, "call_function"
        node.args, node.kwargs = (source.args[0], (first, second), kept), {}
        graph.erase_node(source)


def _mean(node: fx.Node) -> tuple[int, bool] | None:
    """(axis, whether it is kept) of a mean over one axis."""
    if node.op not in ("call_function", "call_method") or name_of(node) != "mean":
        return None
    given = {**dict(zip(("dim", "keepdim"), node.args[1:], strict=False)), **node.kwargs}
    axis = given.get("dim")
    axis = axis[0] if isinstance(axis, (tuple, list)) and len(axis) == 1 else axis
    plain = isinstance(axis, int) and set(given) <= {"dim", "keepdim"} and isinstance(given.get("keepdim", False), bool)
    return (axis, bool(given.get("keepdim", False))) if plain else None  # type: ignore[return-value]


def interpolation(
    size: Any = None, scale_factor: Any = None, mode: str = "nearest", **options: Any
) -> nn.Module | None:
    """The module that ``F.interpolate`` with these arguments is; None where it has options that no module has."""
    if set(options) - {"align_corners", "recompute_scale_factor"}:
        return None
    sizes = tuple(size) if isinstance(size, (tuple, list)) else size
    return nn.Upsample(sizes, scale_factor, mode, **options)


def padding(pad: Any, mode: str = "constant", value: float | None = None) -> nn.Module | None:
    """The module that ``F.pad`` with these arguments is; None where there is none."""
    pads: Any = tuple(pad)  # of any number of axes
    if mode == "constant":
        return nn.ConstantPad2d(pads, value or 0.0)
    kinds = {"reflect": _PADS[:3], "replicate": _PADS[3:6], "circular": _PADS[6:]}[mode]
    return kinds[len(pads) // 2 - 1](pads) if 2 <= len(pads) <= 6 and not len(pads) % 2 else None

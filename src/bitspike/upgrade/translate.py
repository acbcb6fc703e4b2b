"""Torch's layers as layers over time, wherever the two are exactly the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._pytree import tree_leaves

from bitspike.checks import bad_value
from bitspike.layers import AvgPool2d, BatchNorm, Conv2d, GlobalAvgPool, Linear, MaxPool2d, SumPool2d
from bitspike.layers.base import hooked
from bitspike.sealed import amend
from bitspike.upgrade.layers import Convolution, Merged, ZeroPad
from bitspike.upgrade.parts import AFFINE, MOVES, interpolation, keeps_channels, nature, padding
from bitspike.upgrade.transposed import TransposedConvolution

_DROPOUTS = (nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
MAXIMA = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)
_POOL = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
_MAX = ("kernel_size", "stride", "padding", "dilation", "ceil_mode", "return_indices")
_PADS = (nn.ConstantPad1d, nn.ConstantPad2d, nn.ConstantPad3d)  # those of zeros are derived from them


_MODULES: dict[Any, tuple[Callable[..., nn.Module | None], tuple[str, ...]]] = {
    F.pad: (padding, ("pad", "mode", "value")),
    F.interpolate: (interpolation, ("size", "scale_factor", "mode", "align_corners")),
    F.pixel_shuffle: (nn.PixelShuffle, ("upscale_factor",)),
    F.pixel_unshuffle: (nn.PixelUnshuffle, ("downscale_factor",)),
    F.avg_pool1d: (nn.AvgPool1d, _POOL[:-1]),
    F.avg_pool2d: (nn.AvgPool2d, _POOL),
    F.avg_pool3d: (nn.AvgPool3d, _POOL),
    F.lp_pool2d: (nn.LPPool2d, ("norm_type", "kernel_size", "stride", "ceil_mode")),
    F.max_pool1d: (nn.MaxPool1d, _MAX),
    F.max_pool2d: (nn.MaxPool2d, _MAX),
    F.max_pool3d: (nn.MaxPool3d, _MAX),
    torch.max_pool1d: (nn.MaxPool1d, _MAX),
    torch.max_pool2d: (nn.MaxPool2d, _MAX),
    torch.max_pool3d: (nn.MaxPool3d, _MAX),
    F.adaptive_avg_pool1d: (nn.AdaptiveAvgPool1d, ("output_size",)),
    F.adaptive_avg_pool2d: (nn.AdaptiveAvgPool2d, ("output_size",)),
    F.adaptive_avg_pool3d: (nn.AdaptiveAvgPool3d, ("output_size",)),
    F.adaptive_max_pool1d: (nn.AdaptiveMaxPool1d, ("output_size", "return_indices")),
    F.adaptive_max_pool2d: (nn.AdaptiveMaxPool2d, ("output_size", "return_indices")),
    F.adaptive_max_pool3d: (nn.AdaptiveMaxPool3d, ("output_size", "return_indices")),
}
_RESHAPES = ("view", "reshape", "flatten", "squeeze", "getitem", "Flatten")
_DROPPED = {"dropout": nn.Dropout, "dropout1d": nn.Dropout1d, "dropout2d": nn.Dropout2d, "dropout3d": nn.Dropout3d,
            "alpha_dropout": nn.AlphaDropout, "feature_alpha_dropout": nn.FeatureAlphaDropout}  # fmt: skip


def as_module(root: nn.Module, node: fx.Node, y: Tensor) -> nn.Module | None:
    """The torch module that a call is, built anew for a function with constant arguments; None if there is none.

    Args:
        y: its result on the sample, [B, ...].
    """
    if node.op == "call_module":
        return root.get_submodule(str(node.target)) if len(node.args) == 1 and not node.kwargs else None
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    if node.meta.get("dropout"):
        return _DROPPED[str(name)](float(_given(node, ("p",)).get("p", 0.5)))  # type: ignore[arg-type]
    if name == "mean" and _averages_space(node, y):
        return nn.AdaptiveAvgPool2d(1)
    if node.op != "call_function" or node.target not in _MODULES:
        return None
    kind, names = _MODULES[node.target]
    given = _given(node, names)
    side = tree_leaves(given.get("kernel_size"))
    usual = not given.get("padding") and not given.get("divisor_override")
    if kind is nn.AvgPool2d and y.shape[2:].numel() == 1 and usual and _read_off(side):
        return nn.AdaptiveAvgPool2d(1)  # the kernel is the size of the input: it is meant to span all of it
    return None if _read_off(tree_leaves(given)) else kind(**given)


def _given(node: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
    return {**dict(zip(names, node.args[1:], strict=False)), **node.kwargs}


def _read_off(values: list[Any]) -> bool:
    return any(isinstance(v, fx.Node) for v in values)


def _averages_space(node: fx.Node, y: Tensor) -> bool:
    """Whether a mean is taken over the last two axes of [B, C, H, W]."""
    given = _given(node, ("dim", "keepdim"))
    axes = given.get("dim")
    if not isinstance(axes, (tuple, list)) or not set(given) <= {"dim", "keepdim"}:
        return False
    kept = bool(given.get("keepdim"))
    return y.dim() == (4 if kept else 2) and sorted(a % 4 for a in axes if isinstance(a, int)) == [2, 3]


def flattens(root: nn.Module, node: fx.Node, x: Tensor, y: Tensor) -> bool:
    """Whether a call only flattens x [B, ...] → y [B, features]."""
    name = node.target if node.op == "call_method" else getattr(node.target, "__name__", "")
    if node.op == "call_module":
        name = "Flatten" if isinstance(root.get_submodule(str(node.target)), nn.Flatten) else ""
    return name in _RESHAPES and y.dim() == 2 and y.shape[0] == x.shape[0] and y.numel() == x.numel()


def translated(module: nn.Module, x: Tensor) -> nn.Module | None:
    """The layer over time that does exactly what ``module`` does to inputs like x [B, ...]; None if there is none.

    Parameters and buffers are taken over, not copied.
    """
    made = _translated(module, x) if _plain(module) else None
    if made is None:
        return None
    made.train(module.training)  # a new norm in training mode would change the running statistics
    return made if not _foreign(module) or _agree(module, made, x) else None


def merged(module: nn.Module, where: str) -> Merged:
    """A module run on all time steps at once, with what is known of it."""
    if isinstance(module, MAXIMA):
        return Merged(module, where, "positive", keeps_format=True)
    if isinstance(module, _DROPOUTS):
        return Merged(module, where, "linear", keeps_format=True)
    kind = nature(module)
    if kind == MOVES:
        return Merged(module, where, "linear", keeps_format=True)
    return Merged(module, where, "linear" if kind == AFFINE and keeps_channels(module) else "none")


def _plain(module: nn.Module) -> bool:
    """No hooks, no parametrisation; the forward is its class's: torch's, or SpikingJelly's (compared on a sample)."""
    changed = hooked(module) or hasattr(module, "parametrizations") or "forward" in vars(module)
    return not changed and (type(module).forward.__module__.startswith("torch.nn.modules") or _foreign(module))


def _foreign(module: nn.Module) -> bool:
    return type(module).__module__.startswith("spikingjelly.")


@torch.no_grad()
def _agree(module: nn.Module, made: nn.Module, x: Tensor) -> bool:
    before, after = module(x), made(x.unsqueeze(0))[0]
    return before.numel() == after.numel() and torch.allclose(before, after.reshape(before.shape), 1e-4, 1e-5)


def _translated(module: nn.Module, x: Tensor) -> nn.Module | None:
    if isinstance(module, (nn.Identity, nn.Dropout)):
        return module
    if isinstance(module, nn.Linear):
        return _linear(module) if x.dim() == 2 else None
    if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return _conv(module) if x.dim() == module.weight.dim() else None
    if isinstance(module, (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)):
        whole = isinstance(module._parameters.get("weight"), nn.Parameter)
        return TransposedConvolution(module) if whole and x.dim() == module.weight.dim() else None
    if isinstance(module, _BatchNorm):
        return _norm(module)
    if isinstance(module, _PADS):
        pads = tuple(module.padding)
        zeros = module.value == 0 and min(pads) >= 0 and len(pads) % 2 == 0 and len(pads) // 2 < x.dim()
        return ZeroPad(pads) if zeros else None
    if x.dim() != 4:
        return None
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return GlobalAvgPool() if module.output_size in (1, (1, 1)) else None
    if isinstance(module, nn.AvgPool2d):
        kernel, stride, padding = (_one(v) for v in (module.kernel_size, module.stride, module.padding))
        if kernel is None or stride is None or padding is None:
            return None
        if module.divisor_override:
            sums = module.divisor_override == 1 and not module.ceil_mode
            return SumPool2d(kernel, stride, padding) if sums else None
        plain = module.count_include_pad or padding == 0
        return AvgPool2d(kernel, stride, padding, bool(module.ceil_mode)) if plain else None
    if isinstance(module, nn.LPPool2d):
        side = _one(module.kernel_size)
        stride = side if module.stride is None else _one(module.stride)
        plain = module.norm_type == 1 and not module.ceil_mode and side is not None and stride is not None
        return SumPool2d(side, stride) if plain else None  # type: ignore[arg-type]
    if isinstance(module, nn.MaxPool2d):
        kernel, stride = _one(module.kernel_size), _one(module.stride)
        usual = _one(module.padding) == 0 and _one(module.dilation) == 1
        usual = usual and not module.ceil_mode and not module.return_indices
        return MaxPool2d(kernel, stride) if kernel is not None and stride is not None and usual else None
    return None


def is_pointwise(module: nn.Module | None, x: Tensor) -> bool:
    """Whether a module is a linear map of the last of several axes of x [B, ..., I]."""
    plain = type(module) is nn.Linear and _plain(module) and x.dim() > 2
    return plain and isinstance(module._parameters.get("weight"), nn.Parameter)  # type: ignore[union-attr]


def _one(value: Any) -> int | None:
    """An int, or the one that a tuple repeats; None otherwise."""
    if isinstance(value, (tuple, list)):
        return value[0] if len(set(value)) == 1 and isinstance(value[0], int) else None
    return value if isinstance(value, int) else None


def _linear(module: nn.Linear) -> Linear | None:
    if not isinstance(module._parameters.get("weight"), nn.Parameter):
        return None
    with torch.device("meta"):  # its own weights are never drawn
        made = Linear(module.in_features, module.out_features, bias=False)
    made.weight, made.bias = module.weight, module.bias  # type: ignore[assignment]
    return made


def _conv(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> Conv2d | Convolution | None:
    if not isinstance(module._parameters.get("weight"), nn.Parameter):
        return None
    kernel, stride, padding = (_one(v) for v in (module.kernel_size, module.stride, module.padding))
    plain = (
        isinstance(module, nn.Conv2d)
        and module.groups == 1
        and module.padding_mode == "zeros"
        and _one(module.dilation) == 1
    )
    if not plain or kernel is None or stride is None or padding is None:
        return Convolution(module)
    with torch.device("meta"):
        made = Conv2d(module.in_channels, module.out_channels, kernel, stride, padding)
    made.weight, made.bias = module.weight, module.bias  # type: ignore[assignment]
    return made


def _norm(module: _BatchNorm) -> BatchNorm | None:
    if module.running_mean is None or module.running_var is None or module.momentum is None:
        return None
    made = BatchNorm(module.num_features, eps=module.eps, momentum=module.momentum)
    made.to(module.running_mean)
    made.running_mean, made.running_var = module.running_mean, module.running_var
    if module.affine:
        made.weight, made.bias = module.weight, module.bias
    made.weight.requires_grad_(module.affine and module.weight.requires_grad)
    made.bias.requires_grad_(module.affine and module.bias.requires_grad)
    return made


def norm_mode(made: nn.Module, mode: str, where: str) -> None:
    """Set the mode of a translated norm; raise `ValueError` for a merged one that has only "joint"."""
    if isinstance(made, BatchNorm):
        amend(made, mode=mode)
    elif isinstance(made, Merged) and isinstance(made.body, _BatchNorm) and mode != "joint":
        must = 'a batch norm without running statistics or momentum has only the mode "joint"'
        raise bad_value(f"upgrade {where}", must, mode, 'use norm="joint" or give it running statistics')

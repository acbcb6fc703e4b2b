"""Which rule lowers which function or module of torch, and why others have none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import fx, nn
from torch.nn.modules.dropout import _DropoutNd

from bitspike.lower.rules.functions import (
    joined,
    mapped,
    matmul,
    moving,
    pooled,
    rectified,
    reduced,
    resized,
    scaled,
    tables,
    volumes,
)
from bitspike.lower.rules.functions.base import Call, refused
from bitspike.lower.wire import Refused
from bitspike.upgrade.parts import MOVES, moves, nature

Rule = Callable[[Call], Any]

FUNCTIONS: dict[str, Rule] = {
    **dict.fromkeys(("add", "iadd"), scaled.add),
    **dict.fromkeys(("sub", "isub", "subtract"), scaled.subtract),
    "rsub": scaled.subtract_from,
    "neg": scaled.negative,
    **dict.fromkeys(("mul", "imul", "multiply"), scaled.multiply),
    **dict.fromkeys(("truediv", "itruediv", "div", "divide"), scaled.divide),
    **dict.fromkeys(("cat", "concat", "concatenate", "stack"), joined.join),
    **dict.fromkeys(("chunk", "split", "tensor_split", "unbind"), moving.pieces),
    **dict.fromkeys(("mean", "sum"), reduced.total),
    **dict.fromkeys(("amax", "amin"), reduced.extreme),
    **dict.fromkeys(("max", "min"), reduced.either),
    **dict.fromkeys(("maximum", "minimum"), reduced.elementwise),
    **dict.fromkeys(("relu", "relu6", "hardtanh", "clamp", "clip", "clamp_min", "clamp_max"), rectified.clip),
    **dict.fromkeys(("leaky_relu", "prelu", "abs"), rectified.bent),
    "hardsigmoid": rectified.hard_sigmoid,
    **dict.fromkeys(tables.NAMES, tables.table),
    **dict.fromkeys(("interpolate", "upsample"), resized.resize),
    **dict.fromkeys(("linear", "conv1d", "conv2d", "conv3d"), mapped.function),
    **dict.fromkeys(("matmul", "bmm"), matmul.matmul),
    "getattr": moving.attribute,
    **dict.fromkeys(("dropout", "contiguous", "clone", "detach", "double", "float", "to", "type_as"), moving.same),
}
"""Plain name of a function or method → rule."""

MODULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys((nn.ReLU, nn.ReLU6, nn.Hardtanh), rectified.clip),
    **dict.fromkeys((nn.LeakyReLU, nn.PReLU), rectified.bent),
    nn.Hardsigmoid: rectified.hard_sigmoid,
    **dict.fromkeys(tables.MODULES, tables.table),
    **dict.fromkeys((nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d), pooled.maxima),
    **dict.fromkeys((nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d), pooled.averages),
    **dict.fromkeys((nn.MaxPool3d, nn.AvgPool3d, nn.AdaptiveMaxPool3d, nn.AdaptiveAvgPool3d), volumes.pool),
    **dict.fromkeys((nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d), scaled.norm),
    nn.Upsample: resized.resize,
    nn.Identity: moving.same,
    **dict.fromkeys((nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d), mapped.module),
}
"""Class of a module → rule; a subclass may do something else."""

_DIVIDES = "divides by {} of what it gets, and a program divides by constants alone"
_MEMORY = "keeps a state of its own, and a program those of neurons alone; compile the layers in front of it"
REASONS: dict[str, str] = {
    **dict.fromkeys(
        (
            "LayerNorm GroupNorm InstanceNorm1d InstanceNorm2d InstanceNorm3d RMSNorm layer_norm group_norm "
            "instance_norm rms_norm"
        ).split(),
        _DIVIDES.format("a deviation") + "; train with batch norms",
    ),
    **dict.fromkeys(
        ("Softmax", "LogSoftmax", "Softmax2d", "softmax", "log_softmax"),
        _DIVIDES.format("a sum") + "; at the end of a network leave it out and read the logits",
    ),
    **dict.fromkeys(
        ("scaled_dot_product_attention", "MultiheadAttention", "TransformerEncoderLayer", "TransformerEncoder"),
        "has a softmax inside, which " + _DIVIDES.format("a sum") + "; write the attention without it",
    ),
    "einsum": "has no integer operation; write it as matmul",
    **dict.fromkeys(("LSTM", "GRU", "RNN", "LSTMCell", "GRUCell", "RNNCell"), _MEMORY),
    **dict.fromkeys(
        ("Embedding", "EmbeddingBag", "embedding"),
        "reads numbers of words; compile the network behind it, on what it gives",
    ),
}
"""Function or class → why no rule can lower it, and what to do."""


def rule_of_function(name: str, item: fx.Node | None = None) -> Rule:
    """The rule of a function; raises `Refused` where there is none."""
    if name in FUNCTIONS:
        return FUNCTIONS[name]
    if item is not None and moves(item):
        return moving.move
    raise _why(name)


def rule_of_module(module: nn.Module) -> Rule:
    """The rule of a module; raises `Refused` where there is none."""
    if mapped.computed(module):
        return mapped.module
    if type(module) in MODULES:
        return MODULES[type(module)]
    if isinstance(module, (nn.Dropout, _DropoutNd)):
        return moving.same
    if nature(module) == MOVES:
        return moving.move
    raise _why(type(module).__name__)


def _why(name: str) -> Refused:
    return Refused(f"{name} {REASONS[name]}") if name in REASONS else refused(name)

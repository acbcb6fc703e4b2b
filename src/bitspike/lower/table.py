"""Which rule lowers what: by the type of a layer, or by what a function does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from bitspike.fold.expand import UnarySynapse
from bitspike.graph import Node
from bitspike.layers import (
    Affine,
    AvgPool2d,
    BatchNorm,
    ClipFloor,
    Detach,
    Flatten,
    Gain,
    GlobalAvgPool,
    Join,
    MaxPool2d,
    MeanReadout,
    Potential,
    Restimulate,
    Squeeze,
    StepReadout,
    SumPool2d,
    Synapse,
    TallyMap,
    TallyMaxPool2d,
    TallyPool,
    Windows,
)
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules import neuron, pointwise, pool, potential, restimulate, sums, synapse, time
from bitspike.lower.wire import Refused, Wire
from bitspike.models.pad import PadShortcut
from bitspike.neurons import Neuron
from bitspike.upgrade.layers import Merged, ZeroPad

Rule = Callable[[Lowering, Node, list[Wire]], Any]

LAYERS: dict[type[nn.Module], Rule] = {
    UnarySynapse: synapse.synapse,
    Affine: pointwise.affine,
    BatchNorm: pointwise.affine,
    Gain: pointwise.gain,
    nn.ReLU: pointwise.relu,
    ClipFloor: pointwise.clip_floor,
    nn.Identity: pointwise.same,
    nn.Dropout: pointwise.same,
    Detach: pointwise.same,
    StepReadout: pointwise.same,
    AvgPool2d: pool.average,
    SumPool2d: pool.average,
    GlobalAvgPool: pool.average,
    MaxPool2d: pool.maximum,
    TallyMaxPool2d: pool.maximum,
    TallyPool: pool.maximum,
    Flatten: pool.flatten,
    PadShortcut: pool.pad,
    ZeroPad: pool.pad,
    Merged: pool.merged,
    Squeeze: time.squeeze,
    Windows: time.windows,
    MeanReadout: time.mean,
    Join: sums.add,
    Restimulate: restimulate.restimulate,
    Potential: potential.potential,
}
"""Layer → rule, by its very class: a subclass may do something else."""

FUNCTIONS: dict[str, Rule] = {
    "add": sums.add,
    "concat": sums.concat,
    "split": sums.split,
    "select": sums.select,
}
"""Kind of a plain function → rule."""


def rule_of(node: Node) -> Rule:
    """The rule of a node; raises `Refused` where there is none."""
    module = node.module
    if module is None:
        if node.kind not in FUNCTIONS:
            raise Refused("it is a function that no operation of a program computes")
        return FUNCTIONS[node.kind]
    if isinstance(module, Neuron):
        return neuron.neuron
    if isinstance(module, Synapse):
        return synapse.synapse
    if isinstance(module, TallyMap):
        raise Refused(f"{module.what} is an analog operation without an integer one")
    if type(module) not in LAYERS:
        raise Refused(f"{type(module).__name__} has no integer operation")
    return LAYERS[type(module)]

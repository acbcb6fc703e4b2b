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
    AxisSum,
    BatchNorm,
    ClipFloor,
    Detach,
    DropPath,
    Flatten,
    Gain,
    GlobalAvgPool,
    ImageView,
    Join,
    MatrixProduct,
    MaxPool2d,
    MeanReadout,
    Potential,
    Product,
    Restimulate,
    Squeeze,
    StepReadout,
    SumPool2d,
    Synapse,
    TallyMap,
    TallyMaxPool2d,
    TallyPool,
    TimeLayer,
    TokenView,
    Upsample,
    Windows,
)
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules import attention, body, neuron, pointwise, pool, potential, restimulate, sums, synapse, time
from bitspike.lower.wire import Refused, Wire
from bitspike.models.pad import PadShortcut
from bitspike.neurons import Neuron
from bitspike.upgrade.layers import Merged, SameSize, ZeroPad

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
    DropPath: pointwise.same,
    StepReadout: pointwise.same,
    AvgPool2d: pool.average,
    SumPool2d: pool.average,
    GlobalAvgPool: pool.average,
    MaxPool2d: pool.maximum,
    TallyMaxPool2d: pool.maximum,
    TallyPool: body.tally_pool,
    Flatten: pool.flatten,
    PadShortcut: pool.pad,
    ZeroPad: pool.pad,
    Merged: body.body,
    TallyMap: body.body,
    SameSize: pointwise.same,
    Squeeze: time.squeeze,
    Windows: time.windows,
    MeanReadout: time.mean,
    Join: sums.add,
    Restimulate: restimulate.restimulate,
    Potential: potential.potential,
    TokenView: attention.view,
    ImageView: attention.view,
    Upsample: attention.view,
    AxisSum: attention.axis_sum,
    Product: attention.product_of_two,
    MatrixProduct: attention.matrix_product,
}
"""Layer → rule, by its very class: a subclass may do something else."""

FUNCTIONS: dict[str, Rule] = {
    "add": body.addition,
    "concat": body.concatenation,
    "split": sums.split,
    "select": sums.select,
}
"""Kind of a plain function → rule."""


ELEMENTWISE = (
    neuron.neuron,
    pointwise.affine,
    pointwise.gain,
    pointwise.relu,
    pointwise.clip_floor,
    pointwise.same,
    time.squeeze,
    time.windows,
)
"""Rules that leave every number in its place, wherever that is."""

PLACED = (
    potential.potential,
    synapse.synapse,
    sums.add,
    body.addition,
    body.concatenation,
    sums.split,
    sums.select,
    pool.flatten,
    attention.view,
    body.body,
    body.function,
)
"""Rules that know of numbers that lie elsewhere."""


def lowered(low: Lowering, node: Node) -> Any:
    """What a node becomes: its rule on its inputs, lying as it needs them."""
    rule = rule_of(node)
    if rule in ELEMENTWISE:
        (x,) = wires = [low.wires[name] for name in node.inputs]
        made = rule(low, node, wires)
        return made.placed(x.at) if made.at is None else made
    if rule in PLACED:
        return rule(low, node, [low.wires[name] for name in node.inputs])
    return rule(low, node, [low.straightened(name) for name in node.inputs])


def rule_of(node: Node) -> Rule:
    """The rule of a node; raises `Refused` where there is none."""
    module = node.module
    if module is None:
        return FUNCTIONS.get(node.kind, body.function)
    if isinstance(module, Neuron):
        return neuron.neuron
    if isinstance(module, Synapse):
        return synapse.synapse
    if type(module) in LAYERS:
        return LAYERS[type(module)]
    if isinstance(module, TimeLayer):
        raise Refused(f"{type(module).__name__} has no integer operation")
    return body.function

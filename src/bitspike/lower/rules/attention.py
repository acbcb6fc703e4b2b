"""Attention over tokens: views, sums over an axis, and products of two signals."""

from __future__ import annotations

from torch import Tensor

from bitspike.graph import Node
from bitspike.layers import AxisSum, ImageView, MatrixProduct, TokenView, Upsample
from bitspike.lower.lowering import Lowering
from bitspike.lower.rules.functions.base import Call
from bitspike.lower.rules.functions.matmul import matmul
from bitspike.lower.rules.functions.reduced import total
from bitspike.lower.rules.moved import moved
from bitspike.lower.rules.product import product
from bitspike.lower.wire import Wire


def view(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Numbers in another place."""
    assert isinstance(node.module, (TokenView, ImageView, Upsample))
    return moved(low, node.name, node.module, wires[0], low.source(node), 2)


def axis_sum(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """A sum over one axis that stays with size 1."""
    module = node.module
    assert isinstance(module, AxisSum)
    args, options = (wires[0], module.axis), {"keepdim": True}
    return total(Call(low, node.name, "sum", module, wires, list(node.inputs), None, 2, args, options))


def product_of_two(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Value by value."""
    names = [str(n) for n in low.graph.items[node.name].args]
    return product(low, node.name, names, low.wires[names[0]], low.wires[names[1]])


def matrix_product(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """Head by head, one input turned first where the layer says so."""
    module = node.module
    assert isinstance(module, MatrixProduct)
    names = [str(n) for n in low.graph.items[node.name].args]
    factors = [low.wires[name] for name in names]

    def turned(x: Tensor) -> Tensor:
        return x.transpose(-1, -2)

    place = {"first": 0, "second": 1}.get(module.transposed)
    if place is not None:
        factors[place] = moved(low, f"{node.name}.turned", turned, factors[place], names[place], 2)
    return matmul(Call(low, node.name, "matmul", module, factors, names, None, 2, tuple(factors)))

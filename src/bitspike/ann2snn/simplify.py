"""Differences, factors and constants of a user's code, as additions, gains and affine maps, or inside weights."""

from __future__ import annotations

import operator

import torch
from torch import Tensor, fx, nn

from bitspike.graph.surgery import Surgery
from bitspike.layers import Affine, Gain, Synapse
from bitspike.upgrade.layers import Merged
from bitspike.upgrade.parts import elementwise, name_of, numbers, per_channel
from bitspike.upgrade.pointwise import Pointwise, moves_back

Shapes = dict[str, tuple[int, ...]]


def simplify(surgery: Surgery, shapes: Shapes, like: Tensor) -> set[str]:
    """Rewrite ``x − y`` as a sum with a gain of −1, and ``x/c``, ``x + c`` as a gain or an affine map per channel.

    They go into the weights of the layer before or of the layers behind where they can; constants of the last axis into
    the linear map of that axis before. What is done depends on the code and on shapes, never on values.

    Args:
        surgery: the network with its norms folded. shapes: node → shape [T, B, C, ...]; completed in place.
        like: of the dtype and device of the network.

    Returns:
        Names of the gains that are numbers above 0.
    """
    positive = set()
    for item in surgery:
        module = surgery.get(item)
        body = module.body if isinstance(module, Merged) else None
        if not isinstance(body, fx.GraphModule):
            continue
        if _into_pointwise(surgery, item, body, shapes):
            surgery.remove(item)
        elif _is_difference(body, item, shapes):
            _as_sum(surgery, item, body, shapes, like)
        elif (made := _as_layer(body, item, shapes, like)) is not None:
            surgery.put(item, made)
            if isinstance(made, Gain) and numbers(body):
                positive.add(item.name)
            absorb(surgery, item)
    return positive


def takes(module: Synapse | Affine | Gain, channels: int) -> bool:
    """Whether a factor for each of so many channels goes into a layer: not where a sum spreads its one channel."""
    if isinstance(module, Gain):
        return module.factor.shape == (channels,)
    if isinstance(module, Affine):
        return module.scale.numel() == channels
    return module.quantizer.format.real and len(module.weight) == channels


def absorb(surgery: Surgery, item: fx.Node) -> None:
    """Put a gain or an affine map into the only layer before it, or a gain into the weights of all layers behind it."""
    module, source = surgery.get(item), item.all_input_nodes[0]
    assert isinstance(module, (Gain, Affine))
    scale = module.factor if isinstance(module, Gain) else module.scale
    shift = module.shift if isinstance(module, Affine) else torch.zeros_like(scale)
    before = surgery.get(source)
    behind = [surgery.get(user) for user in item.users]
    if len(source.users) == 1 and isinstance(before, (Synapse, Affine)) and takes(before, len(scale)):
        if isinstance(before, Affine):
            before.scale, before.shift = before.scale * scale, before.shift * scale + shift
        else:
            _scale_rows(before, scale, shift if isinstance(module, Affine) else None)
    elif isinstance(module, Gain) and behind and all(_reads(layer, len(scale)) for layer in behind):
        for layer in behind:
            assert isinstance(layer, Synapse)
            layer.weight = nn.Parameter(layer.weight.detach() * layer.columns(scale).to(layer.weight))
    else:
        return
    surgery.remove(item)


def _reads(layer: nn.Module | None, channels: int) -> bool:
    real = isinstance(layer, Synapse) and layer.quantizer.format.real
    return isinstance(layer, Synapse) and real and layer.weight.shape[1] * layer.groups == channels


def _scale_rows(synapse: Synapse, scale: Tensor, shift: Tensor | None) -> None:
    weight = synapse.weight.detach()
    synapse.weight = nn.Parameter(weight * scale.reshape(-1, *[1] * (weight.dim() - 1)))
    if synapse.bias is not None or shift is not None:
        bias = weight.new_zeros(len(weight)) if synapse.bias is None else synapse.bias.detach()
        synapse.bias = nn.Parameter(bias * scale + (0 if shift is None else shift))


@torch.no_grad()
def _into_pointwise(surgery: Surgery, item: fx.Node, body: fx.GraphModule, shapes: Shapes) -> bool:
    """Put constants of the last axis of [B, ..., C] into the linear map that made it, if that is what comes before."""
    kind, back = elementwise(body), item.all_input_nodes[0]
    shape, moved = shapes.get(back.name, ()), surgery.get(back)
    if not kind or shape != shapes.get(item.name) or not isinstance(moved, Merged) or not moves_back(moved.body):
        return False
    made = back.all_input_nodes[0]
    synapse = surgery.get(made)
    alone = len(back.users) == len(made.users) == 1
    axes = len(shape) - 1
    if not alone or not isinstance(synapse, Pointwise) or not takes(synapse, shape[-1]):
        return False
    if not per_channel(body, axes, axes - 1):
        return False
    like = synapse.weight
    probe = torch.zeros(1, *shape[2:], dtype=torch.float64, device=like.device)
    shift, total = (body(probe + value).reshape(-1, shape[-1])[0] for value in (0, 1))
    _scale_rows(synapse, (total - shift).to(like), shift.to(like) if kind == "shift" else None)
    return True


def _is_difference(body: fx.GraphModule, item: fx.Node, shapes: Shapes) -> bool:
    inner = list(body.graph.nodes)
    calls = [node for node in inner if node.op.startswith("call")]
    plain = len(inner) == 4 and len(calls) == 1 and len(item.all_input_nodes) == 2
    if not plain or name_of(calls[0]) not in ("sub", "subtract") or calls[0].kwargs or len(calls[0].args) != 2:
        return False
    first, second = (shapes[node.name] for node in item.all_input_nodes)
    return len(first) == len(second) and first[2] == second[2]


def _as_sum(surgery: Surgery, item: fx.Node, body: fx.GraphModule, shapes: Shapes, like: Tensor) -> None:
    names = [node for node in body.graph.nodes if node.op == "placeholder"]
    call = next(node for node in body.graph.nodes if node.op.startswith("call"))
    less, more = (item.args[names.index(node)] for node in reversed(call.args))  # type: ignore[arg-type]
    assert isinstance(less, fx.Node) and isinstance(more, fx.Node)
    shape, name = shapes[less.name], surgery.free(f"{item.name}_minus")
    surgery.module.add_module(name, Gain(like.new_full((shape[2],), -1.0)))
    with surgery.module.graph.inserting_before(item):
        turned = surgery.module.graph.call_module(name, (less,))
        total = surgery.module.graph.call_function(operator.add, (more, turned))
    shapes[turned.name] = shape
    item.replace_all_uses_with(total)
    surgery.module.graph.erase_node(item)
    surgery.module.delete_submodule(str(item.target))
    total.name = item.name
    absorb(surgery, turned)


def _as_layer(body: fx.GraphModule, item: fx.Node, shapes: Shapes, like: Tensor) -> Gain | Affine | None:
    """The factor and shift of every channel; None where the code does something else."""
    kind, source = elementwise(body), item.all_input_nodes[0].name
    shape = shapes.get(source, ())
    same = shape == shapes.get(item.name) and len(shape) > 2
    if not kind or not same or not per_channel(body, len(shape) - 1):
        return None
    probe = torch.zeros(1, *shape[2:], dtype=torch.float64, device=like.device)
    with torch.no_grad():
        shift, total = (body(probe + value)[0].flatten(1)[:, 0] if probe.dim() > 2 else body(probe + value)[0]
                        for value in (0, 1))  # fmt: skip
    scale, shift = (total - shift).to(like), shift.to(like)
    return Gain(scale) if kind == "scale" else Affine(scale, shift)

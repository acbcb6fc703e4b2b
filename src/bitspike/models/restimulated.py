"""Connections from one layer to the current of the next in networks of residual blocks."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from torch import nn

from bitspike.checks import bad_value
from bitspike.layers import AvgPool2d, Conv2d, Restimulate
from bitspike.models.parts import ResidualBlock, new_norm
from bitspike.quantizers import Quantizer

_SLOT = {"neuron1": "restimulate1", "neuron2": "restimulate2"}


def restimulate(
    model: nn.Module,
    match: str | Sequence[str] = "*",
    attention: str = "efficient",
    over: str = "step",
    weight: Quantizer | None = None,
) -> list[str]:
    """Let what the previous layer sent stimulate neurons of `ResidualBlock`s again, in place.

        I_t ← I_t + P(a_t ⊙ s_t)        in front of neuron1: s of the block's input; of neuron2: s of neuron1

    P is nothing where the shape stays, else average pool (where the block has a stride) – 1×1 conv – norm. Its conv has
    the role "hidden", so no total leaves it out. Everything random is drawn after the network's own weights, and all
    projections before the attentions, so at one seed a network without connections, with them, and the control
    ``attention="one"`` begin with the same shared weights.

    Source: multi-bit mechanism (arXiv 2407.05739), reconstruction [?]: see `Restimulate`; P and which layers: ours [?].
    With ``u = decay·v + I``, adding to the current and to the membrane before firing are the same.

    Args:
        model: the network; blocks in wiring "spike". match: shell patterns on the names of the neurons, as
            ``named_modules()`` has them: "*" for all, "body.3.neuron2".
        attention, over: of `Restimulate`. weight: of the projections, default float.

    Returns:
        Names of the neurons that are stimulated again.

    Raises:
        ValueError: a pattern matches no neuron of a block, or a neuron has its connection already.
    """
    patterns = [match] if isinstance(match, str) else list(match)
    sites = {
        f"{name}.{neuron}".lstrip("."): (block, neuron)
        for name, block in model.named_modules()
        if isinstance(block, ResidualBlock)
        for neuron in _SLOT
    }
    for pattern in patterns:
        if not fnmatch.filter(sites, pattern):
            raise bad_value(
                "restimulate", f"the pattern must match one of {sorted(sites)}", repr(pattern), "respell it"
            )
    chosen = [name for name in sites if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]
    for name in chosen:
        block, neuron = sites[name]
        if getattr(block, _SLOT[neuron]) is not None:
            raise bad_value("restimulate", "a neuron takes one connection", name, "leave it out of the patterns")
    projections = [_projection(*sites[name], weight) for name in chosen]
    for name, projection in zip(chosen, projections, strict=True):
        block, neuron = sites[name]
        outputs, inputs = block.conv1.weight.shape[:2]
        layer = Restimulate(inputs if neuron == "neuron1" else outputs, attention, over)
        connection = nn.Sequential(layer, *projection).train(block.training).to(block.conv1.weight)
        setattr(block, _SLOT[neuron], connection)
    return chosen


def _projection(block: ResidualBlock, neuron: str, weight: Quantizer | None) -> list[nn.Module]:
    """What fits the block's input to the current of its first neuron."""
    outputs, inputs = block.conv1.weight.shape[:2]
    if neuron == "neuron2" or (block.conv1.stride == 1 and inputs == outputs):
        return []
    pool = [AvgPool2d(block.conv1.stride)] if block.conv1.stride != 1 else []
    return [*pool, Conv2d(inputs, outputs, 1, weight=weight), new_norm(outputs, block.norm1.mode, block.neuron1)]

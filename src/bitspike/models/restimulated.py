"""Connections from one layer to the next: what was sent, the current or the potential stimulates again."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping, Sequence

from torch import nn

from bitspike.checks import bad_type, bad_value, one_of
from bitspike.graph import trace
from bitspike.layers import AvgPool2d, Conv2d, Restimulate
from bitspike.models.components import new_norm
from bitspike.models.network import Network
from bitspike.models.residual_block import ResidualBlock
from bitspike.models.rewired import PLACES, SIGNALS, as_network, rewire, sites
from bitspike.quantizers import Quantizer

_SLOT = {"neuron1": "restimulate1", "neuron2": "restimulate2"}


def restimulate(
    model: nn.Module,
    match: str | Sequence[str] = "*",
    attention: str = "efficient",
    over: str = "step",
    weight: Quantizer | None = None,
    signal: str = "spikes",
    into: str = "current",
) -> list[str]:
    """Let a signal x of the layer before stimulate neurons again, in place.

        into "current":    I_t ← I_t + P(a_t ⊙ x_t)
        into "potential":  v_{t−1} ← v_{t−1} + P(a_t ⊙ x_t), so that u_t = decay·v_{t−1} + I_t + decay·P(a_t ⊙ x_t)
        into "input":      s_t ← s_t + a_t ⊙ x_t, in front of the layer's weights: I_t = norm(W·(s_t + a_t ⊙ x_t))

    In a `ResidualBlock` the layer before neuron1 is the one that sent the block's input, and before neuron2 neuron1. P
    is nothing where the shape stays, else average pool (where there is a stride) – 1×1 conv – norm. Its conv has the
    role "hidden", so no total leaves it out. Everything random is drawn after the network's own weights, and all
    projections before the attentions, so at one seed a network without connections, with them, and the control
    ``attention="one"`` begin with the same shared weights.

    Spikes into the current of residual blocks are drawn within the blocks. Everything else is drawn into the traced
    body of a `Network` of any builder, whose layers keep their names; batch norms and neurons then run one after the
    other in training, never as one operation.

    Source: multi-bit mechanism (arXiv 2407.05739), reconstruction [?]: see `Restimulate`; signal, place, P and which
    layers: ours [?]. With ``u = decay·v + I``, adding to the current and to the membrane before firing are the same;
    adding to the membrane that the step before left ("potential") is not.

    Args:
        model: the network. match: shell patterns on the names of the neurons, as ``named_modules()`` has them: "*" for
            all (of blocks, where connections are drawn within them; else all with a layer of neurons before them).
        attention, over: of `Restimulate`. weight: of the projections, default float.
        signal: x: "spikes" that the layer before sends at this step, the "current" that charges it (the weighted sum
            with norm and shortcut, and its own stimulation) or its "potential" before firing. The last two are real
            numbers: a projection, or with into "input" the layer's own weights, then multiply.
        into: "current", "potential" or "input".

    Returns:
        Names of the neurons that are stimulated again.

    Raises:
        ValueError: a pattern matches no neuron, a neuron has its connection already, or one is out of reach: behind a
            flatten or a sum of spikes, of time steps of its own, with numbers that are learned where "potential" needs
            them fixed.
        TypeError: what must be drawn into a body, in a model that is no `Network`.
    """
    if not isinstance(match, Sequence) or not all(isinstance(pattern, str) for pattern in match):
        raise bad_type("restimulate", "patterns must be text or a list of texts", repr(match), 'e.g. "*"')
    patterns = [match] if isinstance(match, str) else list(match)
    one_of("restimulate", "signal", signal, SIGNALS)
    one_of("restimulate", "into", into, PLACES)
    blocks = any(isinstance(module, ResidualBlock) for module in model.modules())
    if (signal, into) != ("spikes", "current") or (not blocks and isinstance(model, Network)):
        network = as_network(model)
        reach = {f"body.{path}": site for path, site in sites(trace(network.body)).items()}
        chosen = _chosen(reach, patterns)
        rewire(network, {name: reach[name] for name in chosen}, attention, over, weight, signal, into)
        return chosen
    places = {
        f"{name}.{neuron}".lstrip("."): (block, neuron)
        for name, block in model.named_modules()
        if isinstance(block, ResidualBlock)
        for neuron in _SLOT
    }
    chosen = _chosen(places, patterns)
    for name in chosen:
        block, neuron = places[name]
        if getattr(block, _SLOT[neuron]) is not None:
            raise bad_value("restimulate", "a neuron takes one connection", name, "leave it out of the patterns")
    projections = [_projection(*places[name], weight) for name in chosen]
    for name, projection in zip(chosen, projections, strict=True):
        block, neuron = places[name]
        outputs, inputs = block.conv1.weight.shape[:2]
        layer = Restimulate(inputs if neuron == "neuron1" else outputs, attention, over)
        connection = nn.Sequential(layer, *projection).train(block.training).to(block.conv1.weight)
        setattr(block, _SLOT[neuron], connection)
    return chosen


def _chosen(places: Mapping[str, object], patterns: list[str]) -> list[str]:
    for pattern in patterns:
        if not fnmatch.filter(places, pattern):
            must = f"the pattern must match one of {sorted(places)}"
            raise bad_value("restimulate", must, repr(pattern), "respell it")
    return [name for name in places if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)]


def _projection(block: ResidualBlock, neuron: str, weight: Quantizer | None) -> list[nn.Module]:
    """What fits the block's input to the current of its first neuron."""
    outputs, inputs = block.conv1.weight.shape[:2]
    stride, _ = block.conv1.strides()
    if neuron == "neuron2" or (stride == 1 and inputs == outputs):
        return []
    pool = [AvgPool2d(stride, ceil=True)] if stride != 1 else []
    return [*pool, Conv2d(inputs, outputs, 1, weight=weight), new_norm(outputs, block.norm1.mode, block.neuron1)]

"""A network = encoder → body → read-out; the weight policy of its layers; the warning about inert factors."""

from __future__ import annotations

import fnmatch
import warnings
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from bitspike.checks import bad_value, one_of
from bitspike.graph import Graph, Node, trace
from bitspike.layers import BatchNorm, Encoder, Potential, Recurrent, Refined, Synapse, TimeLayer
from bitspike.neurons import Neuron
from bitspike.quantizers import Float, Quantizer
from bitspike.registry import Registry

MODELS: Registry[Callable[..., Network]] = Registry("model")
INERT = "bitspike: these factors are inert"
"""How the warning about inert factors begins."""


class Network(nn.Module):
    """A whole spiking network: encoder, body and read-out.

    Samples [B, ...] → logits [B, K] (mean read-out) or [T, B, K] (per step).

    Args:
        encoder: sample → sequence. body: layers over [T, B, ...]. readout: sequence of logits → output.
    """

    def __init__(self, encoder: Encoder, body: nn.Module, readout: TimeLayer) -> None:
        super().__init__()
        self.encoder: Encoder = encoder
        self.body: nn.Module = body
        self.readout: TimeLayer = readout

    def forward(self, x: Tensor) -> Tensor:
        """Encode, run the body, read out."""
        return self.readout(self.body(self.encoder(x)))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Policy:
    """Quantizers of the layers that papers treat apart; None means "as the hidden layers".

    Args:
        first: layers that see the input. last: the classifier. downsample: projections on shortcuts.
    """

    first: Quantizer | None = None
    last: Quantizer | None = None
    downsample: Quantizer | None = None


def policy_for(paper: str) -> Policy:
    """The default of a paper.

    "ternary": every weight full precision (Ternary Spike's code), which the hidden quantizer decides, so nothing
    is set apart. "reverb": first, last and down-sampling layers stay real (binary-network practice; the paper's choice
    is not confirmed [?]). "multibit": first and last real (not confirmed [?]). "adaptive": first layer fixed at 8 bits.

    Args:
        paper: "ternary", "reverb", "multibit" or "adaptive".

    Raises:
        ValueError: another name.

    >>> policy_for("multibit")
    Policy(first=Float(float), last=Float(float), downsample=None)
    """
    from bitspike.quantizers import Uniform

    one_of("policy_for", "paper", paper, ("ternary", "reverb", "multibit", "adaptive"))
    return {
        "ternary": Policy(),
        "reverb": Policy(first=Float(), last=Float(), downsample=Float()),
        "multibit": Policy(first=Float(), last=Float()),
        "adaptive": Policy(first=Uniform(8)),
    }[paper]


def assign(
    model: nn.Module,
    match: str,
    neuron: Neuron | None = None,
    weight: Quantizer | None = None,
    T: int | None = None,
) -> list[str]:
    """Give the layers whose name matches a shell pattern another neuron, quantizer or number of time steps, in place.

    Args:
        model: the network. match: pattern on the names of ``named_modules()``, e.g. "body.3.*".
        neuron: prototype for the matched neurons; per-channel amplitudes are sized by the neuron it replaces.
        weight: prototype for the matched synapses, initialised from their present weight.
        T: time steps of the matched `Refined` neurons; a learned T starts from it.

    Returns:
        Names of the modules that changed.

    Raises:
        ValueError: nothing matched, a per-channel amplitude whose width is not known, or a network with `Potential`.
    """
    if neuron is not None and any(isinstance(module, Potential) for module in model.modules()):
        must = "a network in which potentials stimulate must get its neurons when it is built"
        raise bad_value("assign", must, repr(match), "call restimulate after assign")
    changed = []
    recurrent = {id(m.neuron) for m in model.modules() if isinstance(m, Recurrent)}
    for name, module in list(model.named_modules()):
        if not fnmatch.fnmatchcase(name, match) or id(module) in recurrent:
            continue
        if isinstance(module, Recurrent) and neuron is not None:  # its synapse stays
            axis = neuron.emission.channel_dim or module.emission.channel_dim
            module.neuron = neuron.replicate(len(module.synapse.weight), axis)
            changed.append(name)
        elif isinstance(module, Neuron) and neuron is not None:
            parent, _, own = name.rpartition(".")
            axis = neuron.emission.channel_dim or module.emission.channel_dim
            setattr(model.get_submodule(parent), own, neuron.replicate(channels_of(model, name), axis))
            changed.append(name)
        elif isinstance(module, Synapse) and weight is not None:
            module.quantize_with(weight)
            changed.append(name)
        elif isinstance(module, Refined) and T is not None:
            module.set_steps(T)
            changed.append(name)
    if not changed:
        given = (("neuron", neuron), ("synapse", weight), ("refined neuron", T))
        kinds = " or ".join(kind for kind, value in given if value is not None)
        raise bad_value("assign", f"the pattern must match a {kinds or 'layer'}", repr(match), "see named_modules()")
    return changed


def channels_of(model: nn.Module, path: str) -> int:
    """Channels [B, C, ...] of the current of a neuron, from the layers before it in the traced graph."""
    graph = trace(model)
    pending = [node for node in graph if node.path == path]
    while pending:
        node = pending.pop()
        if isinstance(node.module, Synapse):
            return node.module.weight.shape[0]
        if isinstance(node.module, BatchNorm):
            return node.module.weight.numel()
        pending += [graph[name] for name in node.inputs]
    raise bad_value("channels_of", "a synapse or norm must come before the neuron", path, "size it by hand")


def finish(model: Network, weight: Quantizer | None, policy: Policy | None) -> Network:
    """Quantize every synapse by its role and warn about inert factors; the last call of every builder."""
    hidden = Float() if weight is None else weight
    rules = Policy(first=Float(), last=Float()) if policy is None else policy
    special = {"first": rules.first, "last": rules.last, "downsample": rules.downsample}
    synapses = [m for m in model.modules() if isinstance(m, Synapse)]
    if not synapses:
        raise bad_value("finish", "a network must have synapses", "none", "add Conv2d or Linear layers")
    for synapse in synapses:
        synapse.quantize_with(special.get(synapse.role) or hidden)
    warn_inert(model, stacklevel=4)
    return model


def warn_inert(model: nn.Module, stacklevel: int = 2) -> None:
    """Warn once (`UserWarning`) if the network holds factors that provably train nothing; see `inert_parameters`.

    Args:
        model: a traceable network. stacklevel: of the warning, as in `warnings.warn`.

    Raises:
        ValueError: as `bitspike.trace`.
    """
    inert = inert_parameters(model)
    if inert:
        warnings.warn(
            f"{INERT}, because every path from them is linear → batch norm, which cancels a "
            f"positive factor: {', '.join(inert)}. They train nothing; report no gain from them.",
            stacklevel=stacklevel,
        )


def inert_parameters(model: nn.Module | Graph) -> dict[str, str]:
    """Factors that provably change nothing in training, with the reason.

    Two cases (derived and measured, see docs/equations.md): a per-layer amplitude all of whose consumers are
    linear → batch norm; a per-layer or per-output-channel weight factor whose only consumer is batch norm.

    Args:
        model: a traceable network, or its graph.

    Returns:
        parameter name → reason. Per-channel amplitudes and per-input-channel factors are never listed.

    Raises:
        ValueError: as `bitspike.trace`.
    """
    graph = model if isinstance(model, Graph) else trace(model)
    found: dict[str, str] = {}
    acting: set[str] = set()  # a module may be called twice: one call that is not cancelled is enough to act
    for node in graph:
        if isinstance(node.module, Neuron):
            name, reason = f"{node.path}.emission.raw_amplitude", "every consumer is linear → batch norm"
            emission = node.module.emission
            free = node.module.feeds_back or emission.raw
            inert = emission.train_kind == "layer" and not free and _all_cancelled(graph, node)
        elif isinstance(node.module, Synapse):
            name, reason = f"{node.path}.quantizer.factor.raw_factor", "batch norm follows the layer"
            named = [n for n, _ in node.module.quantizer.named_parameters() if n == "factor.raw_factor"]
            shared = node.module.quantizer.format.scale in ("layer", "output")
            inert = bool(named) and shared and _only_norm(graph, node)
        else:
            continue
        if inert:
            found[name] = reason
        else:
            acting.add(name)
    return {name: reason for name, reason in found.items() if name not in acting}


def _only_norm(graph: Graph, node: Node) -> bool:
    return bool(node.consumers) and all(isinstance(graph[c].module, BatchNorm) for c in node.consumers)


def _all_cancelled(graph: Graph, node: Node) -> bool:
    """Whether every path from a node runs through layers that pass a positive factor into linear → batch norm."""
    for consumer in (graph[name] for name in node.consumers):
        module = consumer.module
        if isinstance(module, Synapse):
            if not _only_norm(graph, consumer):
                return False
        elif (
            not isinstance(module, TimeLayer)
            or module.scaling in ("none", "add")
            or not _all_cancelled(graph, consumer)
        ):
            return False
    return bool(node.consumers)

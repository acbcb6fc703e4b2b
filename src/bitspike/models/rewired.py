"""Re-stimulation from other signals and at other places: connections drawn into the traced body of a network."""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

import torch
from torch import Tensor, fx, nn

from bitspike.checks import bad_type, bad_value
from bitspike.graph import Graph, Node, trace
from bitspike.layers import (
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Gain,
    Linear,
    MaxPool2d,
    Potential,
    Restimulate,
    Squeeze,
    TallyMaxPool2d,
)
from bitspike.layers.potential import followed
from bitspike.models.components import new_norm
from bitspike.models.network import Network
from bitspike.neurons import Neuron
from bitspike.neurons.membrane import Membrane
from bitspike.quantizers import Quantizer

SIGNALS, PLACES = ("spikes", "current", "potential"), ("current", "potential", "input")


_Window = tuple[int, int, int, bool]


@dataclass
class _Site:
    """A neuron that can be stimulated.

    Attributes:
        neuron, synapse: nodes; the synapse is the first that feeds the neuron. before: node of the neuron whose spikes
            the synapse reads. norm: between synapse and neuron. windows: for each pool and the synapse, from the neuron
            before on, arguments of an `AvgPool2d` that gives the same sides. why: why it cannot be.
    """

    neuron: Node
    synapse: Node
    before: Node | None = None
    norm: BatchNorm | None = None
    windows: list[_Window] = field(default_factory=list)
    why: str = ""


def sites(body: Graph) -> dict[str, _Site]:
    """Path of every neuron that has a layer of neurons before it → how it is reached."""
    found: dict[str, _Site] = {}
    for node in body.of_kind("neuron"):
        site = _reach(body, node)
        if site is None:
            continue
        if node.path in found:
            site.why = "it is called more than once"
        found[node.path] = site
    return found


def rewire(
    model: Network,
    chosen: dict[str, _Site],
    attention: str,
    over: str,
    weight: Quantizer | None,
    signal: str,
    into: str,
) -> None:
    """Draw connections into ``model.body``, which becomes a `torch.fx.GraphModule` with the same names of layers.

    Args: as of `restimulate`; ``chosen``: name of the neuron → its site.

    Raises:
        ValueError: a neuron that cannot be reached, that has a connection, or whose signal cannot be had.
    """
    for path, site in chosen.items():
        why = site.why or _objection(site, signal, into)
        if why:
            todo = "leave it out of the patterns, or choose another signal or place"
            raise bad_value("restimulate", f"{path} must be within reach of the signal", why, todo)
    projections = {path: _projection(site, weight) if into != "input" else [] for path, site in chosen.items()}
    traced = trace(model.body)
    items = {item.name: item for item in traced.fx.nodes}
    built = fx.GraphModule(model.body, traced.fx)
    for name, site in chosen.items():
        path = name.removeprefix("body.")
        layers: list[nn.Module] = [Restimulate(_channels(site), attention, over), *projections[name]]
        decay = site.neuron.module.membrane.fixed_decay  # type: ignore[union-attr]
        if into == "potential" and decay != 1:
            layers.append(Gain(torch.tensor(decay)))
        target = items[(site.synapse if into == "input" else site.neuron).name]
        before = items[site.before.name]  # type: ignore[union-attr]
        with traced.fx.inserting_before(target):
            value = before if signal == "spikes" else before.all_input_nodes[0]
            if signal == "potential":
                value = _call(built, f"{path}_potential", Potential(site.before.module), (value, before))  # type: ignore
            for index, module in enumerate(layers):
                module.to(_weight(site)).train(model.training)
                value = _call(built, f"{path}_restimulate.{index}", module, (value,))
            current = target.all_input_nodes[0]
            total = traced.fx.call_function(operator.add, (current, value))
        target.replace_input_with(current, total)
    traced.fx.lint()
    built.recompile()
    model.body = built.train(model.training)


def _call(built: fx.GraphModule, name: str, module: nn.Module, inputs: tuple[fx.Node, ...]) -> fx.Node:
    built.add_submodule(name, module)
    return built.graph.call_module(name, inputs)


def as_network(model: nn.Module) -> Network:
    """The model, if its body can be replaced; raises `TypeError` otherwise."""
    if not isinstance(model, Network):
        must = "with another signal or place the model must be a Network"
        raise bad_type("restimulate", must, type(model).__name__, "build it as one, see bitspike.models")
    return model


def _reach(body: Graph, neuron: Node) -> _Site | None:
    """The way back to the neuron before; None where there is none, such as from the first layer."""
    norm, at = None, neuron
    while at.kind != "synapse":
        if at.kind == "input" or (at is not neuron and at.kind == "neuron"):
            return None
        if isinstance(at.module, BatchNorm):
            norm = at.module
        if not at.inputs:
            return None
        at = body[at.inputs[0]]
    site = _Site(neuron, at, norm=norm)
    if isinstance(at.module, Conv2d):
        stride, across = at.module.strides()
        site.windows.append((stride, stride, 0, True))
        site.why = "" if stride == across else "a convolution whose strides differ"
    while at.kind != "neuron":
        at = body[at.inputs[0]]
        if at.kind == "input":
            return None
        if isinstance(at.module, (AvgPool2d, MaxPool2d, TallyMaxPool2d)):
            pool = at.module
            window = (pool.kernel, pool.stride, getattr(pool, "padding", 0), getattr(pool, "ceil", False))
            site.windows.insert(0, window)
        elif isinstance(at.module, Restimulate) or _restimulated(body, at):
            site.why = "it has a connection already"
        elif at.kind != "neuron" and not isinstance(at.module, (nn.Identity, nn.Dropout)):
            name = at.kind if at.module is None else type(at.module).__name__
            site.why = site.why or f"a layer between that changes the signal: {name}"
    site.before = at
    if _restimulated(body, body[neuron.inputs[0]]):
        site.why = "a neuron takes one connection"
    if any(isinstance(body[n.inputs[0]].module, Squeeze) for n in (neuron, at)):
        site.why = "time steps of its own"
    return site


def _restimulated(body: Graph, node: Node) -> bool:
    """Whether a node is a sum, of sums perhaps, with a connection."""
    if node.kind != "add":
        return False
    for name in node.inputs:
        at = body[name]
        while at.inputs and at.kind != "add" and not isinstance(at.module, (Restimulate, Neuron)):
            at = body[at.inputs[0]]
        if isinstance(at.module, Restimulate) or _restimulated(body, at):
            return True
    return False


def _objection(site: _Site, signal: str, into: str) -> str:
    """Why a site cannot take this signal at this place; "" if it can."""
    before, neuron = site.before and site.before.module, site.neuron.module
    if not isinstance(before, Neuron) or not isinstance(neuron, Neuron):
        return "no neuron before"
    numbers = followed(before) if signal == "potential" else ""
    if isinstance(numbers, str) and numbers:
        return f"a neuron before whose potential is not known: {numbers}"
    if into == "input" and site.before and site.synapse.inputs[0] != site.before.name:
        return "a layer that reads pooled spikes"
    layer = site.synapse.module
    if into != "input" and isinstance(layer, Conv2d) and not layer.halved():
        return "a convolution that changes the size of its images, which the signal cannot follow"
    if into == "potential":
        decay = neuron.membrane.decay()
        if type(neuron.membrane) is not Membrane or isinstance(decay, Tensor) or not decay:
            return "a membrane whose decay is learned or 0"
    return ""


def _channels(site: _Site) -> int:
    return int(_weight(site).shape[1]) * int(getattr(site.synapse.module, "groups", 1))


def _weight(site: _Site) -> Tensor:
    return site.synapse.module.weight  # type: ignore[union-attr,return-value]


def _projection(site: _Site, weight: Quantizer | None) -> list[nn.Module]:
    """What fits the signal to the current: nothing, or average pool – linear map – norm."""
    inputs, outputs = _channels(site), len(_weight(site))
    pools = _pools(site.windows)
    if not pools and inputs == outputs:
        return []
    norm = [] if site.norm is None else [new_norm(outputs, site.norm.mode, site.neuron.module)]  # type: ignore[arg-type]
    if isinstance(site.synapse.module, Linear):
        return [Linear(inputs, outputs, bias=not norm, weight=weight), *norm]
    return [*pools, Conv2d(inputs, outputs, 1, bias=not norm, weight=weight), *norm]


def _pools(windows: list[_Window]) -> list[nn.Module]:
    """As few average pools as give the sides of those, in one layer: ⌈⌈n/a⌉/b⌉ = ⌈n/ab⌉, and so for ⌊⌋."""
    merged: list[_Window] = []
    for kernel, stride, padding, up in windows:
        if kernel == 2 * padding + 1 and not up:  # ⌈n/stride⌉, whatever the kernel
            kernel, padding, up = stride, 0, True
        plain = kernel == stride and not padding
        if plain and stride == 1:  # sides stay
            continue
        if plain and merged and merged[-1] == (merged[-1][1], merged[-1][1], 0, up):
            kernel = stride = stride * merged.pop()[1]
        merged.append((kernel, stride, padding, up))
    pools = [AvgPool2d(*window) for window in merged]
    return [nn.Sequential(*pools)] if len(pools) > 1 else [*pools]

"""A network that starts from the published weights of an ANN, in the units of its own spikes."""

from __future__ import annotations

import copy
import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.checks import bad_value
from bitspike.data import Samples
from bitspike.functional import learns_bits
from bitspike.graph import Graph, Node, trace
from bitspike.layers import BatchNorm, Synapse
from bitspike.models import Network, load_he_checkpoint
from bitspike.training.build import build_model
from bitspike.training.recipe import ComponentConfig, PolicyConfig, Recipe

WHERE = "[start]"
SHARES = tuple(0.05 * step for step in range(1, 25))
"""Scales that are tried, as shares of the one at which the greatest spike is the greatest activation."""


@torch.no_grad()
def start_from_ann(model: Network, recipe: Recipe, train: Samples) -> None:
    """Load an ANN's weights into a spiking network of the same builder, in place.

    With λ_l the scale of layer l, its neurons get 1/λ_l of the ANN's currents: norms in front are divided by it, and
    what reads its spikes without a norm behind takes them times λ_l. Neurons whose spikes are added share one scale.
    λ_l is the one with the least error of λ_l·mean_t s against the ANN's activation, s the spikes of the layer's own
    neuron at the ANN's currents, held for T steps and divided by λ_l; 1 where a neuron learns its step size, which
    starts from the first batch. Quantizers start afresh.

    Source: data-based scaling in conversion (Rueckauer et al., Front. Neurosci. 2017), here as a start of training.

    Args:
        model: of the recipe, not yet trained. recipe: with a table [start]. train: its first images are read.

    Raises:
        ValueError: a file that is not there, has another hash or does not fit; a layer through which no scale passes.
    """
    config = recipe.start
    if config is None:
        return
    path = Path(recipe.data.root or os.environ.get("BITSPIKE_DATA") or ".") / config.weights
    try:
        found = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        todo = "set data.root or BITSPIKE_DATA to the folder that holds it"
        raise bad_value(WHERE, f"{path} must be readable", error.strerror or error, todo) from error
    if found != config.sha256:
        raise bad_value(
            WHERE, f"the SHA-256 of {path} must be {config.sha256}", found, "take the file it was made with"
        )
    graph = trace(model)
    groups = _Groups(graph)
    load_he_checkpoint(model, path)
    ann = load_he_checkpoint(build_model(_analog(recipe), train, warn=False), path).eval()
    images = train.normalise(train.images[: config.images]).cpu()
    currents = _currents(ann, graph, images)
    scales = {root: _scale(group, currents) for root, group in groups.neurons.items() if root != groups.fixed}
    _apply(graph, groups, {root: scale for root, scale in scales.items() if scale != 1})


def _analog(recipe: Recipe) -> Recipe:
    """The recipe of the ANN itself."""
    plain = PolicyConfig(first="float", last="float", downsample="float")
    return replace(
        recipe,
        model=replace(recipe.model, T=1),
        neuron=ComponentConfig("relu"),
        weight=ComponentConfig("float"),
        policy=plain,
        layers=None,
        allocation=None,
    )


class _Groups:
    """Which values of a network must have one scale.

    Attributes:
        fixed: root of the values that keep the ANN's own, the input's and the output's. neurons: root → its neurons.
        absorbed: names of synapses whose one reader is a norm.
    """

    def __init__(self, graph: Graph) -> None:
        self.parents = {node.name: node.name for node in graph}
        self.absorbed = {
            node.name
            for node in graph.of_kind("synapse")
            if len(node.consumers) == 1 and isinstance(graph[node.consumers[0]].module, BatchNorm)
        }
        ends = [node.name for node in graph if node.kind in ("input", "output")]
        for node in graph:
            if node.kind == "synapse" or isinstance(node.module, BatchNorm):
                continue
            scaling = getattr(node.module, "scaling", "none")
            passes = node.kind in ("input", "output", "neuron", "add") or scaling in ("linear", "positive", "add")
            if not (passes or getattr(node.module, "repeats", False)):
                must, got = "a scale must pass through every layer", f"{node.name} ({type(node.module).__name__})"
                raise bad_value(WHERE, must, got, "leave the table out for this network")
            for name in node.inputs:
                self.parents[self.root(name)] = self.root(node.name)
        for name in ends[1:]:
            self.parents[self.root(name)] = self.root(ends[0])
        for node in graph.of_kind("neuron"):
            if any(learns_bits(part) for part in _neuron(node).modules()):
                self.parents[self.root(node.name)] = self.root(ends[0])
        self.fixed = self.root(ends[0])
        self.neurons: dict[str, list[Node]] = {}
        for node in graph.of_kind("neuron"):
            self.neurons.setdefault(self.root(node.name), []).append(node)

    def root(self, name: str) -> str:
        """The value that stands for all of one scale."""
        while self.parents[name] != name:
            name = self.parents[name]
        return name


def _neuron(node: Node) -> nn.Module:
    if node.module is None:
        raise RuntimeError("a neuron must be a module")
    return node.module


def _currents(ann: Network, graph: Graph, images: Tensor) -> dict[str, Tensor]:
    """Path of every neuron → the ANN's currents there, [1, B, ...]."""
    found: dict[str, Tensor] = {}
    modules, hooks = dict(ann.named_modules()), []
    for path in {node.path for node in graph.of_kind("neuron")}:
        place = path if path in modules else path.rpartition(".")[0]  # the neuron inside of a refined one
        note = modules[place].register_forward_pre_hook
        hooks.append(note(lambda _, args, path=path: found.update({path: args[0].clone()})))
    ann(images)
    for hook in hooks:
        hook.remove()
    return found


def _scale(group: list[Node], currents: Mapping[str, Tensor]) -> float:
    """λ of neurons that share it; 1 where none of them ever gets a positive current."""
    most = max(float(currents[node.path].max()) for node in group)
    reach = max(_greatest(_neuron(node)) for node in group)
    errors = {share * most / reach: 0.0 for share in SHARES}
    for node in group:
        neuron, x = copy.deepcopy(_neuron(node)).eval(), currents[node.path]
        held = x.expand(node.T, *x.shape[1:])
        for scale in errors:
            sent = neuron(held / scale).mean(0) * scale if scale > 0 else x[0].relu()
            errors[scale] += float((sent - x[0].relu()).square().sum(dtype=torch.float64))
    return min(errors, key=errors.__getitem__) if most > 0 else 1.0


def _greatest(neuron: Any) -> float:
    """The greatest spike; 1 for real ones."""
    return 1.0 if neuron.format.real else neuron.format.high * float(neuron.emission.scale().max())


def _apply(graph: Graph, groups: _Groups, scales: Mapping[str, float]) -> None:
    """Put scales into norms, and into synapses without one behind."""
    for node in graph:
        module: Any = node.module
        if isinstance(module, BatchNorm):
            out = scales.get(groups.root(node.name), 1.0)
            module.weight.div_(out)
            module.bias.div_(out)
            read = node.inputs[0]
            into = scales.get(groups.root(graph[read].inputs[0]), 1.0) if read in groups.absorbed else 1.0
            module.running_mean.div_(into)
            module.running_var.div_(into**2)
        elif isinstance(module, Synapse) and node.name not in groups.absorbed:
            out = scales.get(groups.root(node.name), 1.0)
            module.weight.mul_(scales.get(groups.root(node.inputs[0]), 1.0) / out)
            if module.bias is not None:
                module.bias.div_(out)
            module.quantize_with(module.quantizer)

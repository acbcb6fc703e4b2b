"""The spiking network that a conversion fills with numbers: norms folded, neurons, gains and biases in their places."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from bitspike.ann2snn.rectifier import WHERE, Rectifier, Rectifies, check_neuron, check_slope, rectifier_of
from bitspike.checks import bad_value, one_of
from bitspike.fold.norms import fold_norms
from bitspike.graph import Graph, adds, trace
from bitspike.graph.surgery import Surgery
from bitspike.layers import (
    Affine,
    AvgPool2d,
    ClipFloor,
    Encoder,
    Flatten,
    Gain,
    GlobalAvgPool,
    MaxPool2d,
    MeanReadout,
    Synapse,
    TallyMaxPool2d,
    TallyPool,
    TimeLayer,
)
from bitspike.models import Network
from bitspike.neurons import Emission, Neuron
from bitspike.upgrade.inplace import out_of_place
from bitspike.upgrade.layers import Merged
from bitspike.upgrade.mapping import activation
from bitspike.upgrade.over_time import over_time
from bitspike.upgrade.roles import assign_roles
from bitspike.upgrade.trace import is_torch_layer, trace_user
from bitspike.upgrade.translate import MAXIMA
from bitspike.upgrade.upgrading import private_copy, upgrade


@dataclass
class Place:
    """One neuron of the new network and the layers its scale goes into.

    Attributes:
        name: node. path: the user's name of the activation. rectifier: what it was. channels: C.
        before: layers whose output is the neuron's current; all take the factor. shift: the one that takes the bias.
    """

    name: str
    path: str
    rectifier: Rectifier
    channels: int
    before: list[Synapse | Affine | Gain] = field(default_factory=list)
    shift: Synapse | Affine | None = None


@dataclass
class Skeleton:
    """A converted network before calibration: all factors 1, all corrections 0.

    Attributes:
        graph: of the network. places: node → `Place`, in order. logits: the synapse before the read-out, or None.
    """

    graph: Graph
    places: dict[str, Place]
    logits: Synapse | None


def build(
    model: nn.Module,
    neuron: Neuron,
    sample: Tensor,
    T: int,
    sharing: str = "channel",
    initial: float = 0.5,
    readout: str = "mean",
) -> Skeleton:
    """Norms folded, every activation a neuron, a gain on every spike that is added to a current.

    The structure depends on the model, the neuron's format and the options alone, never on values.

    Args:
        model, neuron, T, sharing, initial, readout: as in `ann2snn`.
        sample: inputs [B, ...], B >= 1; their shape is used.

    Raises:
        TypeError, ValueError: see `ann2snn`.
    """
    check_neuron(neuron)
    one_of(WHERE, "sharing", sharing, ("channel", "layer"))
    one_of(WHERE, "readout", readout, ("mean", "settled"))
    if not 0 <= initial < 1:
        raise bad_value(WHERE, "the initial membrane must lie in [0, 1) of a level", initial, "0.5 rounds")
    kinds = _activations(model)
    model = _averaged(model)
    spiking = upgrade(model, {kind: None for kind in kinds}, sample, T=T, readout="mean").eval()
    reference = trace(spiking)
    left = {f"body.{name}": name for name in spiking.report.left_alone}
    surgery = Surgery(reference)
    surgery.module.eval()
    fold_norms(surgery)
    channels = _channels(reference, sample, set(left))
    places: dict[str, Place] = {}
    logits: Synapse | None = None
    for item in surgery:
        path = reference[item.name].path
        if path in left:
            rectifier = rectifier_of(surgery.get(item), left[path])
            check_slope(neuron, rectifier, left[path])
            place = Place(item.name, left[path], rectifier, channels[item.name])
            _connect(surgery, item, place, sample)
            surgery.put(item, _sized(neuron, place, sharing, initial, sample))
            places[item.name] = place
        elif (pool := _tally(surgery.get(item))) is not None:
            _check_pooled(surgery, item, places, T)
            surgery.put(item, pool)
        else:
            _check(surgery, item, path.removeprefix("body."))
            if isinstance(surgery.get(item), MeanReadout):
                logits = _last(surgery, item)
                surgery.put(item, MeanReadout(T if readout == "settled" else 0))
    graph = surgery.finish()
    if not over_time(model):  # a builder has said which synapses are first, last and on shortcuts
        for synapse in (node.module for node in graph.of_kind("synapse")):
            synapse.role = "hidden"  # type: ignore[union-attr,assignment]
        assign_roles(graph)
    return Skeleton(graph, places, logits)


def _activations(model: nn.Module) -> set[type[nn.Module]]:
    """Classes of the activations that a forward calls."""
    ours = private_copy(model)
    body = ours.body if isinstance(ours, Network) else ours
    root, graph = trace_user(body, lambda m, _: isinstance(m, (TimeLayer, Neuron)) or is_torch_layer(m))
    out_of_place(root, graph)  # as `upgrade` does: relu_ is relu, and what nothing reads is gone
    called = [root.get_submodule(str(n.target)) for n in graph.nodes if n.op == "call_module"]
    if any(isinstance(module, Neuron) for module in called):
        raise bad_value(WHERE, "the model must be an ANN", "a network with neurons", "pass the network before upgrade")
    found = {kind for kind in (activation(root, node) for node in graph.nodes) if kind is not None}
    found |= {ClipFloor} if any(isinstance(module, ClipFloor) for module in called) else set()
    if not found:
        raise bad_value(WHERE, "the model must have activations", "none", "a network without any needs no conversion")
    return found


def _averaged(model: nn.Module) -> nn.Module:
    """A copy whose norms with cumulative averages (momentum None) are as any other: training is over."""
    ours = private_copy(model)
    for module in ours.modules():
        if isinstance(module, _BatchNorm) and module.momentum is None:
            module.momentum = 0.0
    return ours


def _channels(graph: Graph, sample: Tensor, activations: set[str]) -> dict[str, int]:
    found: dict[str, int] = {}

    def note(node, call: Callable[[], Tensor], args: tuple[Tensor, ...]) -> Tensor:  # type: ignore[no-untyped-def]
        if node.path in activations:
            found[node.name] = args[0].shape[2] if args[0].dim() > 2 else 1
        return call()

    with torch.no_grad():
        graph.run(sample[:1], handler=note)
    return found


def _check(surgery: Surgery, item: fx.Node, path: str) -> None:
    """Raise `ValueError` unless a mean over time passes through a layer unchanged."""
    module = surgery.get(item)
    if item.op in ("placeholder", "output") or isinstance(module, (Encoder, Synapse, nn.Identity, nn.Dropout)):
        return
    if isinstance(module, Affine) or (isinstance(module, TimeLayer) and module.scaling == "linear"):
        return
    plain = adds(item) and len(item.args) > 1 and all(isinstance(a, fx.Node) for a in item.args) and not item.kwargs
    if plain:
        return
    body = module.body if isinstance(module, Merged) else module
    what = type(body).__name__ if body is not None else getattr(item.target, "__name__", str(item.target))
    if isinstance(body, fx.GraphModule):
        what = module.where if isinstance(module, Merged) else what
    must = "every layer must be a convolution, linear map, norm, pool, addition or shortcut"
    raise bad_value(f"{WHERE} {path or item.name}", must, what, "convert the parts before and behind it, or replace it")


def _connect(surgery: Surgery, item: fx.Node, place: Place, like: Tensor) -> None:
    """Find the layers whose outputs make up a neuron's current; put gains where spikes are added to it."""
    source = item.all_input_nodes[0]
    edges: list[tuple[fx.Node, fx.Node]] = []
    _inlets(surgery, source, item, place, edges)
    place.shift = next((m for m in place.before if isinstance(m, (Synapse, Affine))), None)
    if place.shift is None:
        affine = Affine(torch.ones(place.channels), torch.zeros(place.channels)).to(like)
        surgery.insert(source, item, f"{item.name}_affine", affine)
        place.before, place.shift = [affine], affine
        return
    for index, (before, consumer) in enumerate(edges):
        gain = Gain(torch.ones(place.channels)).to(like)
        surgery.insert(before, consumer, f"{item.name}_level_{index}", gain)
        place.before.append(gain)
    for module in place.before:
        _biased(module, module is place.shift)


def _inlets(
    surgery: Surgery, source: fx.Node, consumer: fx.Node, place: Place, edges: list[tuple[fx.Node, fx.Node]]
) -> None:
    """Layers behind which a factor per channel can be put into weights; other edges are listed."""
    module = surgery.get(source)
    alone = len(source.users) == 1
    if alone and isinstance(module, (Synapse, Affine)) and _takes(module, place.channels):
        place.before.append(module)
    elif alone and adds(source) and len(source.all_input_nodes) > 1:  # in x + x a shift would count twice
        for before in source.all_input_nodes:
            _inlets(surgery, before, source, place, edges)
    elif alone and (isinstance(module, (nn.Identity, nn.Dropout)) or _pools(module)):
        _inlets(surgery, source.all_input_nodes[0], source, place, edges)
    else:
        edges.append((source, consumer))


def _takes(module: Synapse | Affine, channels: int) -> bool:
    """Whether a factor for each of so many channels goes into a layer: not where a sum spreads its one channel."""
    if isinstance(module, Affine):
        return module.scale.numel() == channels
    return module.quantizer.format.real and len(module.weight) == channels


def _pools(module: nn.Module | None) -> bool:
    """Whether a constant passes a pool unchanged: no zeros are averaged in."""
    return isinstance(module, AvgPool2d) and not module.padding


def _biased(module: Synapse | Affine | Gain, wanted: bool) -> None:
    if wanted and isinstance(module, Synapse) and module.bias is None:
        zeros = module.weight.new_zeros(module.weight.shape[0])
        module.bias = nn.Parameter(zeros, module.weight.requires_grad)


def _last(surgery: Surgery, readout: fx.Node) -> Synapse | None:
    """The synapse in front of the read-out, given a bias: what is between them passes a constant unchanged."""
    item = readout.all_input_nodes[0]
    while len(item.users) == 1:
        module = surgery.get(item)
        if isinstance(module, Synapse):
            _biased(module, True)
            return module
        passes = (nn.Identity, nn.Dropout, GlobalAvgPool, Flatten)
        if not isinstance(module, passes) and not _pools(module):
            return None
        item = item.all_input_nodes[0]
    return None


def _tally(module: nn.Module | None) -> TimeLayer | None:
    """What takes the place of max pooling, None for another layer."""
    if isinstance(module, MaxPool2d):
        return TallyMaxPool2d(module.kernel, module.stride)
    return TallyPool(module.body) if isinstance(module, Merged) and isinstance(module.body, MAXIMA) else None


def _check_pooled(surgery: Surgery, item: fx.Node, places: dict[str, Place], T: int) -> None:
    """Raise `ValueError` for a maximum over time of spikes with two amplitudes: its steps are on no grid."""
    source = item
    while source.name not in places and len(source.all_input_nodes) == 1:
        if isinstance(surgery.get(source), (Synapse, Affine)):
            return  # no spikes reach the pool
        source = source.all_input_nodes[0]
    if source.name in places and places[source.name].rectifier.slope and T > 1:
        where = f"{WHERE} {places[source.name].path}"
        raise bad_value(where, "max pooling behind a LeakyReLU needs T = 1", f"T = {T}", "pool before the LeakyReLU")


def _sized(prototype: Neuron, place: Place, sharing: str, initial: float, like: Tensor) -> Neuron:
    """A neuron whose amplitude is a number per channel or layer, and whose first level begins where asked."""
    made = copy.deepcopy(prototype)
    made.emission = Emission(1.0, sharing, raw=True, fraction_bits=made.emission.fraction_bits)
    made.emission.resize(place.channels)
    made.format = replace(made.format, amplitude=sharing)
    if isinstance(made, Rectifies):
        slope = place.rectifier.slope
        made.rectify(slope or 1.0, not slope)
    made.membrane.initial = made.stairs.first - (1 - initial) * made.stairs.spacing
    return made.to(like)

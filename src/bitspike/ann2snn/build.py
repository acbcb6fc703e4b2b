"""The spiking network that a conversion fills with numbers: norms folded, neurons, gains and biases in their places."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from bitspike.ann2snn.analog import Analog, mixes
from bitspike.ann2snn.rectifier import WHERE, Rectifier, Rectifies, check_neuron, check_slope, rectifier_of
from bitspike.ann2snn.simplify import simplify, takes
from bitspike.ann2snn.trained import trained
from bitspike.checks import bad_value, one_of
from bitspike.fold.norms import fold_norms
from bitspike.graph import Graph, Node, adds, trace
from bitspike.graph.surgery import Surgery
from bitspike.layers import (
    Affine,
    AvgPool2d,
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
from bitspike.neurons import Emission, Neuron
from bitspike.sealed import amend
from bitspike.upgrade.layers import Merged
from bitspike.upgrade.over_time import over_time
from bitspike.upgrade.roles import assign_roles
from bitspike.upgrade.translate import MAXIMA
from bitspike.upgrade.upgrading import upgrade_evaluated


@dataclass
class Place:
    """One neuron of the new network and the layers its scale goes into.

    Attributes:
        name: node. path: the user's name of the activation. rectifier: what it was. channels: C.
        before: layers whose output is the neuron's current; all take the factor. shift: the one that takes the bias.
        sharing: one range per "channel" or "layer"; the latter also where a layer behind, such as a pixel shuffle,
            makes one channel of several.
    """

    name: str
    path: str
    rectifier: Rectifier
    channels: int
    before: list[Synapse | Affine | Gain] = field(default_factory=list)
    shift: Synapse | Affine | None = None
    sharing: str = "channel"


@dataclass
class Skeleton:
    """A converted network before calibration: all factors 1, all corrections 0.

    Attributes:
        graph: of the network. places: node → `Place`, in order. logits: the synapse before the read-out, or None.
        analog: the user's name of an operation that stays as it is → what it is. outside: a softmax that is left out.
    """

    graph: Graph
    places: dict[str, Place]
    logits: Synapse | None
    analog: dict[str, str] = field(default_factory=dict)
    outside: str = ""


def build(
    model: nn.Module,
    neuron: Neuron,
    sample: Tensor,
    T: int,
    sharing: str = "channel",
    initial: float = 0.5,
    readout: str = "mean",
    leaves: Sequence[type[nn.Module]] = (),
) -> Skeleton:
    """Norms folded, every activation a neuron, a gain on every spike that is added to a current.

    The structure depends on the model, the neuron's format and the options alone, never on values.

    Args:
        model, neuron, T, sharing, initial, readout, leaves: as in `ann2snn`.
        sample: inputs [B, ...], B >= 1; their shape is used.

    Raises:
        TypeError, ValueError: see `ann2snn`.
    """
    check_neuron(neuron)
    one_of(WHERE, "sharing", sharing, ("channel", "layer"))
    one_of(WHERE, "readout", readout, ("mean", "settled"))
    if not 0 <= initial < 1:
        raise bad_value(WHERE, "the initial membrane must lie in [0, 1) of a level", initial, "0.5 rounds")
    model = trained(model)
    spiking = upgrade_evaluated(model, sample, T, leaves).eval()
    reference = trace(spiking)
    if reference.of_kind("neuron"):
        raise bad_value(WHERE, "the model must be an ANN", "a network with neurons", "pass the network before upgrade")
    left = {f"body.{name}": kind for name, kind in spiking.report.left_alone.items()}
    surgery = Surgery(reference)
    surgery.module.eval()
    fold_norms(surgery)
    shapes = _shapes(reference, sample)
    analog = Analog(surgery, neuron, shapes, simplify(surgery, shapes, sample))
    places: dict[str, Place] = {}
    logits: Synapse | None = None

    def settle(item: fx.Node, path: str, rectifier: Rectifier) -> None:
        mixed = mixes(surgery, item, shapes)
        before = shapes[item.all_input_nodes[0].name]
        if len(before) < 3:
            must, todo = "what becomes spikes must have channels, [B, C, ...]", "squeeze behind it, not before"
            raise bad_value(f"{WHERE} {path}", must, "[B]", todo)
        place = Place(item.name, path, rectifier, before[2], sharing="layer" if mixed else sharing)
        _connect(surgery, item, place, sample)
        surgery.put(item, _sized(neuron, place, initial, sample))
        places[item.name] = place

    for item in surgery:
        path = reference[item.name].path if item.name in reference.items else ""
        name, module = path.removeprefix("body."), surgery.get(item)
        rectifier = rectifier_of(module) if path in left else None
        if rectifier is not None:
            check_slope(neuron, rectifier.kind, bool(rectifier.slope), name)
            settle(item, name, rectifier)
        elif path in left or analog.is_operation(item):
            spikes = analog.keep(item, name, left.get(path, ""))
            if spikes is not None:
                settle(spikes, name, analog.rectifier(item))
        elif (pool := _tally(module)) is not None:
            _check_pooled(surgery, item, places, T)
            surgery.put(item, pool)
        elif isinstance(module, MeanReadout):
            logits = _last(surgery, item, shapes)
            surgery.put(item, MeanReadout(T if readout == "settled" else 0))
        else:
            analog.check(item, name)
    if not places:
        raise analog.no_spikes()
    graph = surgery.finish()
    if not over_time(model):  # a builder has said which synapses are first, last and on shortcuts
        for synapse in (node.module for node in graph.of_kind("synapse")):
            synapse.role = "hidden"  # type: ignore[union-attr,assignment]
        assign_roles(graph)
    return Skeleton(graph, places, logits, analog.kept, analog.outside)


def _shapes(graph: Graph, sample: Tensor) -> dict[str, tuple[int, ...]]:
    """Shape [T, 1, C, ...] of the value of every node."""
    found: dict[str, tuple[int, ...]] = {}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(value, Tensor):  # a split has pieces
            found[node.name] = tuple(value.shape)
        return value

    with torch.no_grad():
        graph.run(sample[:1], handler=note)
    for node in graph.of_kind("input"):
        found[node.name] = (1, *sample[:1].shape)
    return found


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
    if alone and isinstance(module, (Synapse, Affine, Gain)) and takes(module, place.channels):
        place.before.append(module)
    elif alone and adds(source) and len(source.all_input_nodes) > 1:  # in x + x a shift would count twice
        for before in source.all_input_nodes:
            _inlets(surgery, before, source, place, edges)
    elif alone and (isinstance(module, (nn.Identity, nn.Dropout)) or _pools(module)):
        _inlets(surgery, source.all_input_nodes[0], source, place, edges)
    else:
        edges.append((source, consumer))


def _pools(module: nn.Module | None) -> bool:
    """Whether a constant passes a pool unchanged: no zeros are averaged in."""
    return isinstance(module, AvgPool2d) and not module.padding


def _biased(module: Synapse | Affine | Gain, wanted: bool) -> None:
    if wanted and isinstance(module, Synapse) and module.bias is None:
        zeros = module.weight.new_zeros(module.weight.shape[0])
        module.bias = nn.Parameter(zeros, module.weight.requires_grad)


def _last(surgery: Surgery, readout: fx.Node, shapes: dict[str, tuple[int, ...]]) -> Synapse | None:
    """The synapse in front of the read-out, given a bias: what is between them passes a constant unchanged."""
    item = readout.all_input_nodes[0]
    while len(item.users) == 1:
        module = surgery.get(item)
        if isinstance(module, Synapse):
            _biased(module, True)
            return module
        passes = (nn.Identity, nn.Dropout, GlobalAvgPool, Flatten)
        if not isinstance(module, passes) and not _pools(module) and not _in_place(module, item, shapes):
            return None
        item = item.all_input_nodes[0]
    return None


def _in_place(module: nn.Module | None, item: fx.Node, shapes: dict[str, tuple[int, ...]]) -> bool:
    """Whether a layer moves the values of every channel within it, such as a squeeze."""
    shape = shapes.get(item.all_input_nodes[0].name)
    if shape is None or not isinstance(module, Merged) or not module.keeps_format or module.mixes(shape):
        return False
    numbers = torch.arange(1.0, shape[2] + 1)
    return torch.equal(module.carry(numbers, shape), numbers)


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
    if source.name in places and places[source.name].rectifier.slope not in (0, 1) and T > 1:
        where = f"{WHERE} {places[source.name].path}"
        raise bad_value(where, "max pooling behind a LeakyReLU needs T = 1", f"T = {T}", "pool before the LeakyReLU")


def _sized(prototype: Neuron, place: Place, initial: float, like: Tensor) -> Neuron:
    """A neuron whose amplitude is a number per channel or layer, and whose first level begins where asked."""
    made = copy.deepcopy(prototype)
    emission = Emission(1.0, place.sharing, raw=True, fraction_bits=made.emission.fraction_bits)
    emission.resize(place.channels, 1)
    amend(made, emission=emission, format=replace(made.format, amplitude=place.sharing))
    if isinstance(made, Rectifies):
        slope = place.rectifier.slope
        made.rectify(slope or 1.0, not slope)
    amend(made.membrane, initial=made.stairs.first - (1 - initial) * made.stairs.spacing)
    return made.to(like)

"""Turning an ordinary network into a spiking one."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils import prune
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm
from torch.utils._pytree import tree_map

from bitspike.checks import bad_type, bad_value, one_of
from bitspike.graph import trace
from bitspike.graph.modes import without_gradient
from bitspike.layers import ClipFloor, Encoder, TimeLayer, check_numbers
from bitspike.layers.base import changed_by
from bitspike.models import Network, warn_inert
from bitspike.models.components import new_encoder, new_readout
from bitspike.neurons import Neuron
from bitspike.sealed import amend
from bitspike.upgrade.build import Builder, Built
from bitspike.upgrade.check import (
    check_merged,
    check_repeatable,
    check_trace,
    different_steps,
    guess_sample,
    record,
)
from bitspike.upgrade.hooks import copy_hooks, lost_hooks, warn_lost
from bitspike.upgrade.inplace import in_place, out_of_place
from bitspike.upgrade.inside import look_at_modules, look_inside
from bitspike.upgrade.layers import Merged
from bitspike.upgrade.mapping import KEEP, Choices, Replacements, instance, remembers
from bitspike.upgrade.norms import is_norm
from bitspike.upgrade.over_time import body_over_time, over_time
from bitspike.upgrade.parts import fuse_means
from bitspike.upgrade.report import UpgradeReport
from bitspike.upgrade.roles import assign_roles
from bitspike.upgrade.sites import Names, Site, called, find_sites, wanted_name
from bitspike.upgrade.trace import Root, is_torch_layer, path_of, place, trace_user

_NORMS = {
    "joint": "joint: mean and variance over time and batch together; one set of running statistics",
    "per_step": "per_step: in training every time step by its own mean and variance; one set of running statistics",
}


class Upgraded(nn.Module):
    """A spiking network made from an ordinary one: encoder → body over [T, B, ...] → read-out.

    Attributes:
        encoder: sample → sequence, or None. body: the network, a `torch.fx.GraphModule` with the user's names.
        readout: sequence → output. report: what was replaced and what was left alone.
    """

    def __init__(self, encoder: Encoder | None, body: nn.Module, readout: TimeLayer, report: UpgradeReport) -> None:
        super().__init__()
        self.encoder: Encoder | None = encoder
        self.body: nn.Module = body
        self.readout: TimeLayer = readout
        self.report: UpgradeReport = report

    def forward(self, x: Tensor) -> Any:
        """Samples [B, ...] (without encoder: a sequence [T, B, ...]) → [B, K], or [T, B, K] per step.

        Where the model returns tuples, lists or dicts of tensors, every one of them is read out.
        """
        sequence = x if self.encoder is None else self.encoder(x)
        return tree_map(self.readout, self.body(sequence))


def upgrade(
    model: nn.Module,
    mapping: Replacements,
    sample: Tensor | None = None,
    T: int = 2,
    encoder: str | Encoder | None = "repeat",
    readout: str | None = None,
    norm: str = "joint",
    leaves: Sequence[type[nn.Module]] = (),
) -> Upgraded:
    """Turn an ordinary network into a spiking one: its activations become neurons, time is added around the rest.

    The forward is traced and written anew over [T, B, ...]. Convolutions, linear layers, batch norms, pools, flattening
    and additions become bitspike's layers with the same parameters, so that `fold`, `cost` and `stream` work on the
    result. Every other module or function runs unchanged with time merged into the batch, and the report lists it.
    Every call gets a neuron of its own, so a module that is called twice becomes two neurons. The model is copied.

    Before the neurons go in, the network over time is compared on a few inputs, every operation for itself, with the
    model in evaluation mode: what mixes the batch or fixes its size is found and named.

    Weights that something computes at every call (weight norm, spectral norm, pruning) go on being trained as before,
    so their layers are no synapses; ``report.changed`` and `cost` name them. Hooks on gradients of parameters and of
    layers that are called whole are kept; of others a warning says that they are gone.

    The weights are kept, nothing is calibrated: train the result. Batch norm then sees time and batch together.

    Args:
        model: a network, one input [B, ...] → one output [B, K, ...] or [B], or tuples, lists or dicts of them. For
            SpikingJelly and snnTorch: one time step, that is step mode "s", or the body of the loop over time. Or a
            network of bitspike's own layers (a `Network`, whose encoder is replaced, or its body), where only the
            modules named change.
        mapping: what becomes what. Keys: a class of activations, which stands for its functions and methods too
            (nn.ReLU: F.relu, torch.relu, x.relu(), clamp(min=0); nn.Hardtanh: clamp(-1, 1)), any other class of
            modules, or a name or shell pattern of places ("layer1.*"); a name is stronger than a pattern, a pattern
            than a class. Values: a neuron, of which every place gets a copy; a function of the replaced module (None
            for a function) that makes one; None: leave it alone.
        sample: inputs [B, ...] of one time step; default: random ones of a shape that the first layer takes.
        T: time steps, default 2. encoder: a name of `ENCODERS`, an `Encoder` with a T of its own, which is copied, or
            None (the network then takes sequences [T, B, ...]). readout: "mean" or "steps"; default that of a bitspike
            `Network`, else "mean".
        norm: how batch norms see time in training, "joint" or "per_step".
        leaves: further classes of modules that run whole, time merged into their batch.

    Returns:
        `Upgraded`, with ``report``.

    Raises:
        TypeError: a mapping of the wrong kind.
        ValueError: code that cannot be traced, keeps a state, loops over time, mixes the batch, or does something else
            in training; a neuron with memory or a multi-step layer that is not mapped; a key that matches nothing (the
            message names module and line); NaN or inf in the weights.

    >>> import torch; from bitspike.neurons import MultiBit
    >>> net = upgrade(nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)), {nn.ReLU: MultiBit(1, 1)}, T=3)
    >>> net(torch.ones(5, 4)).shape, net.report.neurons
    (torch.Size([5, 2]), {'1': 'ReLU → MultiBit'})
    """
    return _upgrade(model, mapping, sample, T, encoder, readout, norm, leaves, evaluation=False)


def upgrade_evaluated(model: nn.Module, sample: Tensor, T: int, leaves: Sequence[type[nn.Module]] = ()) -> Upgraded:
    """`upgrade` of a trained network as it is in evaluation mode, whatever it does in training; activations stay."""
    mapping: Replacements = {nn.ReLU: None, ClipFloor: None}  # other activations are left alone as well
    return _upgrade(model, mapping, sample, T, "repeat", "mean", "joint", leaves, evaluation=True)


def _upgrade(
    model: nn.Module,
    mapping: Replacements,
    sample: Tensor | None,
    T: int,
    encoder: str | Encoder | None,
    readout: str | None,
    norm: str,
    leaves: Sequence[type[nn.Module]],
    evaluation: bool,
) -> Upgraded:
    choices = Choices(mapping)
    one_of("upgrade", "norm", norm, tuple(_NORMS))
    coder = None if encoder is None else new_encoder(encoder, encoder.T if isinstance(encoder, Encoder) else T)
    reader = new_readout("mean" if readout is None else readout)
    _refuse(model, choices)
    check_numbers("upgrade", model)
    if evaluation:
        choices.used.update(choices.mapping)
    ours = private_copy(model)
    lost, whole = copy_hooks(model, ours), ours
    modes = {module: module.training for module in ours.modules()}
    if isinstance(ours, Network):
        reader = ours.readout if readout is None else reader
        ours = ours.body
    timed = over_time(ours)
    root, graph = trace_user(ours, _leaf(choices, tuple(leaves)), None if timed else sample, evaluation)
    if timed and root.only_in_training:
        must = "the forward must do the same in training and in evaluation"
        raise bad_value("upgrade", must, f"a difference at {root.only_in_training[0]}", "make it one")
    if not evaluation:
        _refuse_memories(root, graph, (*leaves, *choices.classes))
    out_of_place(root, graph)
    fuse_means(graph)
    if timed:
        body, found, report = body_over_time(root, graph, choices, sample)
        made: list[tuple[nn.Module, nn.Module]] = []
    else:
        built, found, report = _merged(model, root, graph, choices, sample, norm)
        body, made = built.body, built.modules
    for site, x in found:
        _replace(body, site, x, report)
    _split(report, [site for site, _ in found])
    called_frozen = [str(n.target) for n in body.graph.nodes if n.op == "call_module" and without_gradient(n)]
    report.frozen = [name for name in called_frozen if any(True for _ in body.get_submodule(name).parameters())]
    net = Upgraded(coder, body, reader, report).train(model.training)
    report.lost_hooks = [*lost_hooks(whole, net), *lost]
    warn_lost(report.lost_hooks, stacklevel=3)
    for module, training in modes.items():
        module.training = training
    for layer, module in made:
        layer.training = modes[module]
    if not timed:
        assign_roles(trace(net))
    warn_inert(net, stacklevel=4)
    return net


def _merged(
    model: nn.Module, root: Root, graph: fx.Graph, choices: Choices, sample: Tensor | None, norm: str
) -> tuple[Built, list[tuple[Site, Tensor]], UpgradeReport]:
    """The network with time merged into the batch, checked with its activations still in place."""
    names = Names(called(graph))
    sites = find_sites(root, graph, choices, names)
    held = look_at_modules(root, graph, choices).activations
    choices.check_used([f"{site.name} ({site.kind.__name__})" for site in sites], list(held))
    standing_in = {site.node for site in sites if site.stands_in}
    steps = different_steps(guess_sample(root, graph, standing_in) if sample is None else sample)
    values = record(root, graph, steps, standing_in)
    check_repeatable(root, graph, steps[0], standing_in, values)
    report = UpgradeReport(norm=_NORMS[norm], sample=tuple(steps[0].shape), guessed=sample is None)
    report.compared = "the traced code, a ReLU for each replaced module" if standing_in else "the model"
    built = Builder(root, graph, values, sites, names, norm).build()
    if not standing_in:
        outputs = values[next(n for n in graph.nodes if n.op == "output")]
        report.difference = check_trace(private_copy(model), steps, outputs, in_place(graph))
    report.difference = max(report.difference, check_merged(built.body.eval(), steps, built.origin, values))
    report.translated, report.merged = built.translated, built.merged
    report.only_in_training, report.fixed_shape = root.only_in_training, root.fixed_shape
    if root.only_in_training:
        left = ", ".join(root.only_in_training)
        warnings.warn(f"upgrade: what the forward does in training alone is left out: {left}.", stacklevel=3)
    report.left_alone = {s.name: s.kind.__name__ for s in sites if not s.replaced and s.node in built.depends}
    layers = dict(built.body.named_modules())
    inside = look_inside(built.body, torch.stack(steps), choices)
    inside.tell(report, choices)
    for layer in (layers[name] for name in inside.normed if norm == "per_step"):
        if isinstance(layer, Merged):
            amend(layer, by_step=True)
    weighed = {name: layers[name] for name in built.merged if _weighs(layers[name])}
    report.changed = {name: what for name, layer in weighed.items() if (what := changed_by(*layer.modules()))}
    unknown = {name: layer for name, layer in weighed.items() if not is_norm(layer)}
    report.uncounted = [_with_weights(name, layer) for name, layer in unknown.items()]
    return built, [(site, values[site.node.args[0]][0]) for site in built.neurons], report  # type: ignore[index]


def _weighs(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


def _with_weights(name: str, layer: nn.Module) -> str:
    """The name of a merged layer; where it is a part of the forward, with the modules that this part calls."""
    if not isinstance(body := layer.body, fx.GraphModule):
        return name
    called = {str(node.target) for node in body.graph.nodes if node.op == "call_module"}
    inside = [f"{path_of(target)}: {type(body.get_submodule(target)).__name__}" for target in sorted(called)]
    return f"{name} ({', '.join(inside)})" if inside else name


def private_copy(model: nn.Module) -> nn.Module:
    """A deep copy; raises `ValueError` where the model holds what no copy can be made of."""
    weights = [_computed(module, hook) for module in model.modules() for hook in module._forward_pre_hooks.values()]
    try:
        return copy.deepcopy(model, {id(weight): weight.detach().clone() for weight in weights if weight is not None})
    except RuntimeError as error:
        must = "the model must hold no result of an earlier call"
        todo = "reset its states first (functional.reset_net, utils.reset), or call it once under torch.no_grad()"
        raise bad_value("upgrade", must, str(error).splitlines()[0], todo) from error


def _computed(module: nn.Module, hook: object) -> Tensor | None:
    """The weight that a hook computes anew at every call: weight norm, spectral norm, pruning."""
    if isinstance(hook, (WeightNorm, SpectralNorm)):
        return getattr(module, hook.name)  # type: ignore[no-any-return]
    return getattr(module, hook._tensor_name) if isinstance(hook, prune.BasePruningMethod) else None


def _refuse(model: nn.Module, choices: Choices) -> None:
    """Raise on what no tracing can make sense of."""
    if not isinstance(model, nn.Module):
        raise bad_type("upgrade", "the model must be an nn.Module", type(model).__name__, "pass the network itself")
    for name, module in model.named_modules():
        what = f"module {name!r} ({type(module).__name__})" if name else type(module).__name__
        if getattr(module, "step_mode", "s") != "s":
            must = f"{what} must be in single-step mode"
            todo = 'call functional.set_step_mode(net, "s") and upgrade what is one time step'
            raise bad_value("upgrade", must, f"step_mode {module.step_mode!r}", todo)
        choice = choices.of(name, type(module)) if remembers(module) else None
        if remembers(module) and (choice is KEEP or choice is None):
            must = f"every module with memory must become one of bitspike's, and {what} is one"
            todo = f"add {{{type(module).__name__}: ...}} to the mapping"
            raise bad_value("upgrade", must, "no neuron for it", todo)


def _refuse_memories(root: nn.Module, graph: fx.Graph, named: tuple[type[nn.Module], ...]) -> None:
    """Raise on torch's recurrent modules that are called and that the user has not named."""
    for node in graph.nodes:
        module = root.get_submodule(str(node.target)) if node.op == "call_module" else None
        if isinstance(module, (nn.RNNBase, nn.RNNCellBase)) and not isinstance(module, named):
            kind = type(module).__name__
            must = f"{place(node)} ({kind}) has a memory of its own, which upgrade does not turn into spikes"
            todo = (
                f"put bitspike.layers.Recurrent in its place, or run it as it is in every step with leaves=(nn.{kind},)"
            )
            raise bad_value("upgrade", must, "no word of it", todo)


def _leaf(choices: Choices, leaves: tuple[type[nn.Module], ...]) -> Callable[[nn.Module, str], bool]:
    whole: tuple[type[nn.Module], ...] = (TimeLayer, Neuron, *leaves)
    return lambda module, name: isinstance(module, whole) or choices.leaf(module, name) or is_torch_layer(module)


def _replace(body: nn.Module, site: Site, x: Tensor, report: UpgradeReport) -> None:
    """Put the module that the mapping names in place of the activation at one site, and report it."""
    made = instance(site.choice, site.module, site.name, x, site.channel_dim if x.dim() > 2 else None)
    if made is None and site.stands_in:
        must = "a module that may remember must become one of bitspike's"
        raise bad_value(f"upgrade {site.name}", must, "None from the mapping", "return a neuron")
    if made is None:
        report.left_alone[site.name] = site.kind.__name__
        return
    parent, _, own = site.name.rpartition(".")
    setattr(body.get_submodule(parent), own, made)
    report.neurons[site.name] = f"{site.kind.__name__} → {type(made).__name__}"
    if site.module is not None:
        path = wanted_name(site.node)
        report.dropped += [f"{path}.{name}" for name, p in site.module.named_parameters() if p.requires_grad]


def _split(report: UpgradeReport, replaced: list[Site]) -> None:
    places: dict[str, list[str]] = {}
    for site in (site for site in replaced if site.module is not None):
        places.setdefault(wanted_name(site.node), []).append(site.name)
    report.split = {name: found for name, found in places.items() if len(found) > 1}

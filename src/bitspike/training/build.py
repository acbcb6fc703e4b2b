"""Recipe → network."""

from __future__ import annotations

import inspect
import warnings
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from bitspike.checks import bad_value
from bitspike.data import Samples, SequenceSet
from bitspike.layers import ENCODERS, ClipFloor, Encoder, Refined, Windows
from bitspike.models import MODELS, Network, Policy, assign, stochastic_depth, warn_inert
from bitspike.models.network import INERT
from bitspike.neurons import NEURONS, Neuron
from bitspike.quantizers import QUANTIZERS, Quantizer
from bitspike.training.recipe import ComponentConfig, ModelConfig, Recipe, check_options

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "clip_floor": ClipFloor}
"""What may stand in [neuron] in place of a neuron: the network is then an ANN, to be converted."""


def build_activation(config: ComponentConfig) -> nn.Module:
    """A neuron, or an activation of `ACTIVATIONS`."""
    if config.name not in ACTIVATIONS:
        return build_neuron(config)
    cls = ACTIVATIONS[config.name]
    check_options(f"[neuron] {config.name}", cls, config.options)
    return _make(f"[neuron] {config.name}", cls, config.options)  # type: ignore[no-any-return]


def build_neuron(config: ComponentConfig) -> Neuron:
    """The neuron prototype of a recipe; an unknown option raises with the nearest spelling."""
    cls = NEURONS[config.name]
    check_options(f"[neuron] {config.name}", cls, config.options)
    return _make(f"[neuron] {config.name}", cls, config.options)


def build_quantizer(config: ComponentConfig) -> Quantizer:
    """The weight prototype of a recipe."""
    cls = QUANTIZERS[config.name]
    check_options(f"[weight] {config.name}", cls, config.options)
    return _make(f"[weight] {config.name}", cls, config.options)


def build_encoder(config: ModelConfig, T: int) -> str | Encoder:
    """The encoder of a recipe: its name where it has no options, as builders take it."""
    options, where = config.encoder_options, "[model.encoder_options]"
    if not options:
        return config.encoder
    cls = ENCODERS[config.encoder]
    if "T" in options:
        raise bad_value(where, "T must be left out", options["T"], "set model.T")
    check_options(where, partial(cls, T), options)
    return _make(where, partial(cls, T), options)  # type: ignore[no-any-return]


def build_model(recipe: Recipe, data: Samples, warn: bool = True) -> Network:
    """The network of a recipe for this data; see `build_network` and `check_time`."""
    check_time(recipe, data)
    return build_network(recipe, data.step_shape, len(data.classes), warn)


def check_time(recipe: Recipe, data: Samples) -> None:
    """Raise unless the encoder reads what the set holds, still samples or sequences, and those have its T."""
    name, T = recipe.model.encoder, recipe.model.T
    if isinstance(data, SequenceSet) != ENCODERS[name].sequences:
        fitting = [other for other, cls in ENCODERS.items() if cls.sequences != ENCODERS[name].sequences]
        held = "sequences" if isinstance(data, SequenceSet) else "samples without a time axis"
        must = f"encoder must be {' or '.join(map(repr, fitting))}, as {data.name!r} holds {held}"
        todo = "set model.encoder=frames" if isinstance(data, SequenceSet) else "choose one, or set data.time=true"
        raise bad_value("[model]", must, repr(name), todo)
    windows = None if recipe.allocation is None else recipe.allocation.windows
    if not isinstance(data, SequenceSet):
        if windows is not None:
            must = f"windows must be left out, as {data.name!r} holds samples without a time axis"
            raise bad_value(
                "[allocation]", must, windows, "set allocation.refined=true, which gives neurons their own T"
            )
        return
    if windows is not None and windows > data.steps:
        must = f"windows must be at most {data.steps}, the steps of {data.name!r}"
        raise bad_value("[allocation]", must, windows, "steps that hold a sample's are of no use")
    if windows is not None and data.lengths is not None:
        must = f"windows must be left out, as the sequences of {data.name!r} end at different steps"
        raise bad_value("[allocation]", must, windows, "remove it")
    if windows is not None and recipe.model.norm == "per_step":
        must = "norm must not be 'per_step' where windows change the number of steps"
        raise bad_value("[model]", must, "'per_step'", "set model.norm=joint")
    if recipe.allocation is not None and recipe.allocation.refined:
        must = "refined must be false where samples have a time axis: refined neurons hold the mean of their input"
        raise bad_value("[allocation]", must, "true", "set allocation.refined=false")
    ragged = recipe.model.encoder_options.get("ragged", False) is True
    if data.lengths is not None and recipe.allocation is not None and recipe.allocation.budget is not None:
        must = f"budget must be left out, as the sequences of {data.name!r} end at different steps"
        raise bad_value("[allocation]", must, "one", "remove it")
    if data.lengths is not None and not ragged:
        must = f"ragged must be true, as the sequences of {data.name!r} end at different steps"
        raise bad_value("[model.encoder_options]", must, "false", "set model.encoder_options.ragged=true")
    if data.steps != T:
        must = f"T must be {data.steps}, the steps of {data.name!r}"
        todo = f"set model.T={data.steps}, or slice the samples, e.g. x[:, :{T}]"
        if data.steps % T == 0 and T > 1:
            todo += f" or x.reshape(N, {T}, {data.steps // T}, ...).sum(2)"
        raise bad_value("[model]", must, T, todo)


def build_network(recipe: Recipe, shape: tuple[int, ...], classes: int, warn: bool = True) -> Network:
    """The network of a recipe, initialised from the recipe's seed (the global generator is restored).

    Args:
        recipe: what to build. shape: of a sample, e.g. (C, H, W). classes: number of logits.
        warn: warn, once and about the finished network, of factors that are inert.

    Raises:
        ValueError: an unknown model, neuron, quantizer or option, with the nearest name.
    """
    if recipe.convert is not None:
        must = "a converted network must not be trained or built from its recipe alone"
        raise bad_value("[convert]", must, recipe.name, "open its folder with bitspike.training.runs.open_run")
    builder = MODELS[recipe.model.name]
    neuron, T = build_activation(recipe.neuron), recipe.model.T
    refined = recipe.allocation is not None and recipe.allocation.refined
    if not isinstance(neuron, Neuron) and (T != 1 or refined):
        must = f"a network of {recipe.neuron.name!r} must have T = 1 and no refined neurons"
        raise bad_value("[model]", must, f"T = {T}", "set model.T=1; time begins where it is converted")
    rules = recipe.policy
    named = {"first": rules.first, "last": rules.last, "downsample": rules.downsample}
    policy = Policy(**{role: None if name == "same" else QUANTIZERS[name]() for role, name in named.items()})
    arguments = {
        "neuron": neuron,
        "weight": build_quantizer(recipe.weight),
        "T": 1 if refined else T,
        "shape": shape,
        "classes": classes,
        "norm": recipe.model.norm,
        "encoder": build_encoder(recipe.model, 1 if refined else T),
        "readout": recipe.model.readout,
        "policy": policy,
    }
    if refined and recipe.allocation and isinstance(neuron, Neuron):
        arguments["neuron"] = Refined(neuron, T, recipe.allocation.learn_steps)
    free = [name for name in inspect.signature(builder).parameters if name not in arguments]
    unknown = sorted(set(recipe.model.options) - set(free))
    if unknown:
        raise bad_value("[model.options]", f"the keys must be among {free}", unknown, "remove or respell them")
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", INERT)  # of the builder: [[layers]] may yet change what is inert
        torch.manual_seed(recipe.seed)
        model = builder(**arguments, **recipe.model.options)
    if recipe.allocation is not None and recipe.allocation.windows is not None:
        put_windows(model, recipe.allocation.windows, T, recipe.allocation.learn_steps)
    if recipe.train.stochastic_depth:
        stochastic_depth(model, recipe.train.stochastic_depth)
    for layer in recipe.layers or ():
        other = build_neuron(layer.neuron) if layer.neuron else None
        weight = build_quantizer(layer.weight) if layer.weight else None
        assign(model, layer.match, other, weight, layer.T)
    if warn:
        warn_inert(model, stacklevel=3)
    return model


def put_windows(model: Network, windows: int, T: int, learn: bool) -> None:
    """Put `Windows` in front of a network's body, as its module "windows"; the other names stay."""
    body = model.body
    if not isinstance(body, nn.Sequential):
        must = "windows need a network whose body is a row of layers"
        raise bad_value("[allocation]", must, type(body).__name__, "choose another model, or put Windows in yourself")
    layer = Windows(windows, frames=T, learn_T=learn, bound=T)
    model.body = type(body)(OrderedDict([("windows", layer), *body.named_children()]))


def _make(where: str, cls: Callable[..., Any], options: Mapping[str, object]) -> Any:
    try:
        return cls(**options)
    except TypeError as error:
        raise bad_value(where, "the options must have the right types", error, "see the class's docstring") from error

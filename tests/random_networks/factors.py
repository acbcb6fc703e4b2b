"""What a random network is drawn from: factors with their options, the simplest first, and which do not go together.

Factors of a block (edge in time – synapse – norm – sum with a way around – neuron – pool) and of the network. Neurons
and quantizers come from their registries: one that is registered and named nowhere here is drawn with its defaults.
Rules are about two factors, so a pair that no rule forbids can be drawn: that is what "no empty cell" counts.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from bitspike.layers import ENCODERS
from bitspike.neurons import NEURONS
from bitspike.quantizers import QUANTIZERS, Quantizer, Uniform
from networks import WEIGHTS as SHARED
from networks import make_neuron

Options = dict[str, Any]

_SPIKES: dict[str, tuple[str, Options]] = {
    "lif": ("lif", {}),
    "ternary": ("ternary", {}),
    "multibit 1.1": ("multibit", {"m": 1, "n": 1}),
    "multibit 3.0": ("multibit", {"m": 3, "n": 0}),
    "integer 3": ("integer", {"D": 3}),
    "integer 4": ("integer", {"D": 4}),
    "adaptive 1": ("adaptive", {"bits": 1}),
    "adaptive 2": ("adaptive", {"bits": 2}),
    "adaptive 3 signed": ("adaptive", {"bits": 3, "signed": True}),
    "adaptive by step": ("adaptive", {"bits": 2, "steps": 3}),
    "signed 1": ("signed", {"D": 1}),
    "signed 3 slope": ("signed", {"D": 3, "slope": 0.25}),
    "signed 2 cancels": ("signed", {"D": 2, "cancels_only": True}),
    "real": ("real", {}),
    "refined always": ("lif", {}),
    "refined differs": ("multibit", {"m": 1, "n": 1}),
    "refined windows": ("ternary", {}),
    "refined adaptive": ("adaptive", {"bits": 2}),
}
SPIKES = _SPIKES | {name: (name, {}) for name in NEURONS if name not in {kind for kind, _ in _SPIKES.values()}}
"""Name → (registered neuron, its options); "refined ..." stands in a `Refined`, with that ``squeeze``."""

_KNOWN = {type(make()) for make in SHARED.values()} | {QUANTIZERS["float"]}
WEIGHTS: dict[str, Callable[[], Quantizer | None]] = {
    **SHARED,
    "uniform8-layer": lambda: Uniform(8),
    **{name: kind for name, kind in QUANTIZERS.items() if kind not in _KNOWN},
}

MEMBRANES: dict[str, Options] = {
    "leaky": {"decay": 0.5},
    "leaky hard": {"decay": 0.25, "reset": "hard"},
    "leaky soft": {"decay": 0.25, "reset": "soft"},
    "integrate": {"decay": 1.0},
    "integrate hard": {"decay": 1.0, "reset": "hard"},
    "integrate soft": {"decay": 1.0, "reset": "soft"},
    "forgets": {"decay": 0.0},
    "floor": {"decay": 0.5, "floor": -0.5},
    "initial": {"decay": 0.5, "initial": 0.25},
    "learned decay": {"decay": 0.5, "learn_decay": True},
    "threshold": {"decay": 0.5, "train_threshold": "layer"},
    "thresholds": {"decay": 0.5, "train_threshold": "channel"},
}
AMPLITUDES: dict[str, Options] = {
    "one": {},
    "fixed": {"amplitude": 2.0},
    "layer": {"amplitude": 0.5, "train_amplitude": "layer"},
    "channel": {"train_amplitude": "channel"},
}
IMAGE_POOLS = ("average", "average ceil", "average of 9", "sum", "max", "max ceil", "tally")
"""Pools of our own, for images alone; those of torch below are for rows, too."""
TORCH_POOLS = (
    *("torch average", "torch divisor", "torch max", "torch max ceil", "torch max dilated"),
    *("adaptive average", "adaptive max", "tally padded", "tally adaptive"),
)
SUMS = ("identity", "project", "average", "pad", "sew")
APART = ("concat", "split", "join", "join windows")
ATTENTION = ("attention one", "attention step", "attention first", "attention whole")

BLOCK: dict[str, tuple[Any, ...]] = {
    "spike": tuple(SPIKES),
    "weight": tuple(WEIGHTS),
    "steps": (1, 2, 3, 5),
    "membrane": tuple(MEMBRANES),
    "amplitude": tuple(AMPLITUDES),
    "norm": ("joint", "per_step", "threshold", "bias", "none"),
    "kernel": ("3", "1", "2", "3x1"),
    "stride": ("1", "2", "2x1"),
    "padding": ("half", "none", "same", "more"),
    "groups": ("1", "2", "channels"),
    "dilation": ("1", "2"),
    "pool": ("none", *IMAGE_POOLS, *TORCH_POOLS),
    "pooled": ("spikes", "currents"),
    "around": ("none", *SUMS, *APART, *ATTENTION),
    "edge": ("none", "squeeze", "squeeze differs", "windows"),
    "also": ("none", "relu", "clip floor", "shuffle", "rotate", "zeros", "dropout"),
}
NETWORK: dict[str, tuple[Any, ...]] = {
    "axes": ("image", "row", "features"),
    "given": ("repeat", *(name for name in ENCODERS if name != "repeat"), "currents", "events"),
    "readout": ("mean", "steps", "late"),
    "head": ("flatten", "global"),
    "sends": ("one", "dict", "tuple"),
}
READS = ("reads", tuple(SPIKES))
"""A factor that follows from the others: the spikes that a block is fed with, i.e. those of the block before."""

SPATIAL = ("kernel", "stride", "padding", "groups", "dilation")


@functools.cache
def takes(spike: str, factor: str, option: str) -> bool:
    """Whether a neuron has an option of its membrane or amplitude and accepts it."""
    (name, own), options = SPIKES[spike], {"membrane": MEMBRANES, "amplitude": AMPLITUDES}[factor][option]
    known = inspect.signature(NEURONS[name]).parameters
    if name == "adaptive" and factor == "amplitude":
        return options.get("train_amplitude") != "layer"  # its step is its amplitude, of a layer or of channels
    if not options.keys() <= known.keys():
        return False
    try:
        make_neuron(name, **own, **options)
    except ValueError:
        return False
    return True


def forbidden(pair: Mapping[str, Any]) -> str:
    """Why two options, factor → option, do not go together; empty where they do."""
    spike, around, axes = pair.get("spike"), pair.get("around", "none"), pair.get("axes")
    pool, strided = pair.get("pool"), pair.get("stride", "1") != "1"
    if spike is not None:
        for factor in ("membrane", "amplitude"):
            if factor in pair and not takes(spike, factor, pair[factor]):
                return f"{spike} has no such {factor}"
        if spike.startswith("refined") and around in ("concat", "split", "sew"):
            return "a refined neuron may send another number of steps than came in"
    if pair.get("padding") == "same" and strided:
        return "torch has padding='same' for stride 1 alone"
    if around != "none" and (pair.get("padding") in ("none", "more") or pair.get("kernel") == "2"):
        return "the way around has another size"
    if around in ("identity", "sew", *APART) and strided:
        return "the way around has another size"
    if around in ("pad", "average") and pair.get("stride") == "2x1":
        return "its stride is that of both sides"
    if pair.get("groups", "1") != "1" and str(pair.get("weight")).endswith("-input"):
        return "a grouped convolution has no factors by input channel"
    if axes == "features" and any(pair.get(name, "1") not in ("1", "half") for name in SPATIAL):
        return "a linear map has no places"
    if axes == "features" and (pool not in (None, "none") or pair.get("head") == "global"):
        return "features have no places"
    if axes == "row" and (pool in IMAGE_POOLS or pair.get("head") == "global" or around.startswith("attention")):
        return "it is a layer of images"
    if axes == "row" and (pair.get("kernel") == "3x1" or pair.get("stride") == "2x1"):
        return "a row has one side"
    if axes in ("row", "features") and around in ("pad", "average"):
        return "it is a layer of images"
    if axes == "features" and pair.get("also") == "shuffle":
        return "torch shuffles channels of images and rows"
    if pair.get("pooled") == "currents" and (axes == "features" or pool == "none"):
        return "there is no pool"
    if pair.get("pooled") == "currents" and pool is not None and pool.startswith("tally"):
        return "what was sent so far is made of spikes"
    if pair.get("pooled") == "currents" and around in ("sew", *APART):
        return "the way around has another size"
    return ""

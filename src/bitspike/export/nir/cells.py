"""Neurons as NIR says them, and back.

NIR's LIF is ``τ·dv/dt = (v_leak − v) + r·I``, which fires at ``v > v_threshold`` and starts again at v_reset. A step of
Euler's method is ``u = (1 − dt/τ)·v + (dt/τ)·(v_leak + r·I)``, so ``τ = dt/(1 − decay)`` and ``r = τ/dt`` are
``u = decay·v + I``. A float u is above the float just below the threshold exactly where it is at or above the
threshold.

Source: NIR (Nature Communications, 2024), its primitives; docstrings of the package nir. An IF counts a current as it
is, whatever dt: so do all its readers.
"""

from __future__ import annotations

import copy
import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bitspike.export.nir.package import Convention
from bitspike.formats import formats_over_time
from bitspike.lower.rules.trial import check_row
from bitspike.lower.wire import Refused
from bitspike.neurons import LIF, Neuron
from bitspike.neurons.emission import Emission
from bitspike.neurons.membrane import Membrane

Array = NDArray[Any]
_MOST_STEPS = 64
_NEVER = 2.0**60
"""Time constant, in steps, that no floating type tells from an endless one: 1 − 2^-60 is 1."""


class Numbers(NamedTuple):
    """What a neuron of NIR is told, each [] or [C] in the network's type."""

    decay: Array
    threshold: Array


def numbers_of(module: Neuron, dtype: Any) -> Numbers:
    """Decays and thresholds of a neuron that NIR can say.

    Raises:
        Refused: it sends, keeps or resets otherwise.
    """
    name, membrane = type(module).__name__, module.membrane
    for record in formats_over_time(getattr(module, "formats", module.format), _MOST_STEPS):
        if not record.real and (record.low, record.high) == (0, 1) and not record.fraction_bits:
            continue
        todo = "train LIF, which sends {0, 1}"
        if record.unary:
            todo += "; expand_unary makes sub-steps for the synapses, but the neuron still counts"
        raise Refused(f"{name} sends {record.label()}, and a spike of NIR is 0 or 1; {todo}")
    if membrane.reset_kind != "hard":
        raise Refused(f"{name} subtracts what it sends, and NIR only knows a reset to a value; train reset='hard'")
    _check_state(module)
    probe = torch.zeros(_MOST_STEPS, 1, max(module.channels(), 1), dtype=dtype)
    decay, first = membrane.decay(), torch.full((), module.stairs.first, dtype=dtype)
    factor = membrane.threshold_factor()
    threshold = first if factor is None else first * factor.detach().to(dtype)
    if factor is None and bool((module.threshold_scale(probe) != 1).any()):
        raise Refused(f"{name} has thresholds that are no constants; use LIF")
    own = torch.as_tensor(decay).detach().to(dtype)
    if len(set(np.ravel(own.numpy()).tolist())) == 1:
        check_row(copy.deepcopy(module).double(), [1], 0.0, max(module.channels(), 1))
    return Numbers(own.numpy(), threshold.numpy())


def _check_state(module: Neuron) -> None:
    name, membrane = type(module).__name__, module.membrane
    if type(membrane) is not Membrane or type(module.emission) is not Emission:
        raise Refused(f"{name} has a membrane or emission of its own; use LIF")
    if membrane.initial:
        raise Refused(f"its membrane starts at {membrane.initial:g}, and one of NIR at 0; train initial=0")
    if membrane.floor is not None:
        raise Refused(f"its membrane has the floor {membrane.floor:g}, and one of NIR has none; train floor=None")
    if module.feeds_back or module.holds_back or type(module).threshold_scale_at is not Neuron.threshold_scale_at:
        raise Refused(f"{name} fires by more than its membrane and its current; use LIF")
    if not bool((module.emission.scale() == 1).all()):
        raise Refused("its spikes have an amplitude; fold the network first")


def below(threshold: Array) -> Array:
    """The next float below: u > below(θ) is u ≥ θ.

    >>> float(below(np.float32(1.0))), float(above(below(np.float32(1.0))))
    (0.9999999403953552, 1.0)
    """
    return np.nextafter(threshold, np.asarray(-np.inf, threshold.dtype))


def above(threshold: Array) -> Array:
    """The inverse of `below`."""
    return np.nextafter(threshold, np.asarray(np.inf, threshold.dtype))


def time_constant(decay: Array, dt: float) -> Array:
    """τ for which ``1 − dt/τ``, computed in the type of the decay, is that decay, or as near as τ comes.

    >>> tau = time_constant(np.float32(0.7), 1e-4)
    >>> (1 - 1e-4 / tau == np.float32(0.7)).item(), time_constant(np.float32(1.0), 0.5).item() == 2.0**59
    (True, True)
    """
    kind = decay.dtype
    leak = 1 - decay.astype(np.float64)
    tau = np.where(leak == 0, dt * _NEVER, dt / np.where(leak == 0, 1, leak)).astype(kind)
    best, off = tau, np.abs(factor_of(tau, dt) - decay)
    for toward in (np.inf, -np.inf):
        moved = tau
        for _ in range(4):
            moved = np.nextafter(moved, np.asarray(toward, kind))
            error = np.abs(factor_of(moved, dt) - decay)
            best, off = np.where(error < off, moved, best), np.minimum(error, off)
    return best


def factor_of(tau: Array, dt: float) -> Array:
    """``1 − dt/τ`` in the type of τ, as readers compute it."""
    return 1 - np.asarray(dt, tau.dtype) / tau


def written(nir: Any, numbers: Numbers, shape: tuple[int, ...], convention: Convention) -> Any:
    """The node of NIR for neurons of this shape [C, ...]."""
    kind = numbers.threshold.dtype

    def spread(value: Array) -> Array:
        rows = (
            np.asarray(value, kind).reshape(-1, *[1] * (len(shape) - 1)) if np.ndim(value) else np.asarray(value, kind)
        )
        return np.ascontiguousarray(np.broadcast_to(rows, shape))

    decay, threshold, zeros = numbers.decay, numbers.threshold, np.zeros(shape, kind)
    if bool((decay == 1).all()) and (not convention.nodes or "IF" in convention.nodes):
        return nir.IF(r=np.ones(shape, kind), v_threshold=spread(below(threshold)), v_reset=zeros)
    tau = time_constant(decay, convention.dt)
    steps = tau / np.asarray(convention.dt, kind)
    if convention.unit:
        if bool((decay == 1).any()):
            raise Refused("some of its channels leak and others do not, which this reader has two nodes for; split it")
        threshold, steps = (threshold * (1 - decay)).astype(kind), np.ones((), kind)
    return nir.LIF(
        tau=spread(tau), r=spread(steps), v_leak=zeros, v_threshold=spread(below(threshold)), v_reset=zeros.copy()
    )


class Cell(NamedTuple):
    """A neuron read from NIR: its current is ``gain·x + shift`` per channel, [] or [C]."""

    neuron: Neuron
    gain: Array
    shift: Array


def one_or_channels(name: str, value: Any, kind: Any) -> Array:
    """A number of a node for all neurons [], or per channel [C], from an array of its shape."""
    array = np.asarray(value)
    if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
        raise Refused(f"{name} must be finite numbers")
    array = array.astype(kind)
    if not array.size:
        raise Refused(f"{name} is empty")
    if (array == array.flat[0]).all():
        return array.flat[0].reshape(())
    rows = array.reshape(len(array), -1)
    if (rows != rows[:, :1]).any():
        raise Refused(f"{name} differs within a channel, and neurons here have numbers of a channel at most")
    return rows[:, 0].copy()


def read(node: Any, kind: str, convention: Convention, dt: float | None, dtype: Any) -> Cell:
    """The neuron that a node IF, LIF or Threshold is.

    Raises:
        Refused: there is none.
    """

    def number(name: str, absent: float = 0.0) -> Array:
        value = getattr(node, name, None)
        return np.asarray(absent, dtype) if value is None else one_or_channels(name, value, dtype)

    threshold = number("threshold" if kind == "Threshold" else "v_threshold")
    if kind == "Threshold":
        return Cell(_lif(above(threshold), np.asarray(0.0, dtype), 0.0), np.asarray(1.0), np.asarray(0.0))
    r, reset = number("r"), number("v_reset")
    if reset.ndim:
        raise Refused("v_reset differs between channels, and a membrane here starts at one value")
    decay, current, leak = np.asarray(1.0, dtype), np.asarray(1.0, dtype), np.asarray(0.0, dtype)
    if kind == "LIF":
        tau, leak = number("tau"), number("v_leak")
        if bool((tau <= 0).any()):
            raise Refused("tau must be > 0")
        if convention.exponential:
            decay = np.exp(-1 / tau.astype(np.float64)).astype(dtype)
        elif dt is None:
            raise Refused("a LIF needs the time step, which the file does not hold; pass dt, e.g. dt=1e-4")
        elif convention.unit:
            decay, current = _norse(tau, dt)
        else:
            decay, current = factor_of(tau, dt), np.asarray(dt, dtype) / tau
        if bool((decay < 0).any()):
            raise Refused(f"dt = {dt:g} is more than its tau {float(tau.min()):g}; pass the dt it was made for")
    if convention.exponential or convention.soft:
        if bool(reset != 0) or bool(np.any(leak != 0)):
            raise Refused("sinabs writes v_leak = 0 and v_reset = 0; read it as maker='nir'")
        return Cell(_counting(threshold, decay), np.asarray(1.0), np.asarray(0.0))
    gain, shift = current * r, current * leak - (1 - decay) * reset if kind == "LIF" else np.asarray(0.0, dtype)
    if kind == "LIF" and bool((r != 0).all()) and np.allclose(current * r, 1, rtol=1e-6, atol=0):
        gain = np.ones_like(gain)  # r is τ/dt, but for the rounding of both
    start = -float(reset)
    if convention.unit and kind == "LIF":  # Norse's membranes start where they leak to
        if leak.ndim:
            raise Refused("v_leak differs between channels, and a membrane here starts at one value")
        start += float(leak)
    if bool((above(threshold) - reset <= 0).any()):
        raise Refused("its threshold must lie above its reset value")
    return Cell(_lif(above(threshold) - reset, decay, start), gain, shift)


def _norse(tau: Array, dt: float) -> tuple[Array, Array]:
    """(decay, what a current counts) of Norse, rounded as it rounds; its release 1.1 writes dt·τ for τ."""
    step = np.asarray(dt, tau.dtype)
    current = step * (1 / tau)
    if bool((current > 1).any()):
        current = step * (step / tau)
    return 1 - current, current


def _lif(threshold: Array, decay: Array, initial: float) -> Neuron:
    if bool((threshold <= 0).any()):
        raise Refused("its threshold must be > 0")
    if threshold.ndim or decay.ndim:
        return _per_channel(threshold, decay, initial)
    return LIF(threshold=float(threshold), decay=float(decay), reset="hard", initial=initial)


def _per_channel(threshold: Array, decay: Array, initial: float) -> Neuron:
    """A LIF whose channels have numbers of their own, where its parameters give exactly these."""
    channels = max(threshold.size, decay.size)
    kinds: dict[str, Any] = {
        "learn_decay": "channel" if decay.ndim else "none",
        "train_threshold": "channel" if threshold.ndim else "none",
    }
    start = 0.5 if decay.ndim else float(decay)
    least = channels
    for base in np.unique([*np.ravel(threshold), *(2.0 ** np.arange(-3.0, 4) if threshold.ndim else ())]):
        neuron: Neuron = LIF(threshold=float(base), decay=start, reset="hard", initial=initial, **kinds)
        neuron = neuron.replicate(channels, channel_dim=1)
        membrane = neuron.membrane
        missed = _set(membrane.raw_threshold, torch.from_numpy(threshold), float(base), "threshold")
        missed += _set(membrane.raw_decay, torch.from_numpy(decay), 1.0, "decay")
        if not missed:
            return neuron
        least = min(least, missed)
    raise Refused(f"numbers of {least} channels cannot be held exactly; give the layer one for all")


def _set(raw: Tensor | None, wanted: Tensor, base: float, what: str) -> int:
    """Set a parameter of channels so that it gives the values wanted; returns how many it misses."""
    if raw is None:
        return 0
    if what == "decay":
        raw.data, missed = _hit(torch.sigmoid, torch.logit(wanted), wanted)
    else:
        scaled = wanted / base
        raw.data, missed = _hit(lambda raw: torch.full_like(raw, base) * raw.exp(), scaled.log(), wanted)
    return missed


def _hit(function: Any, start: Tensor, wanted: Tensor) -> tuple[Tensor, int]:
    """Arguments near a start at which a function has the values wanted, and how many have none."""
    best, missed = start.clone(), function(start) != wanted
    for toward in (math.inf, -math.inf):
        moved, end = start.clone(), torch.full_like(start, toward)
        for _ in range(64):
            moved = torch.nextafter(moved, end)
            found = missed & (function(moved) == wanted)
            best, missed = torch.where(found, moved, best), missed & ~found
    return best, int(missed.sum())


def _counting(threshold: Array, decay: Array) -> Neuron:
    """Sinabs' default: as many spikes as the membrane holds thresholds, all of them subtracted; up to 255 here."""
    if threshold.ndim or decay.ndim:
        raise Refused("channels have numbers of their own; give the layer one threshold and one tau")
    from bitspike.neurons import MultiBit

    return MultiBit(8, 0, threshold=float(threshold), decay=float(decay), reset="soft")


def exact(module: Neuron) -> dict[str, Any]:
    """What a node's metadata hold so that the very neuron comes back."""
    membrane = module.membrane
    noted: dict[str, Any] = {"threshold": float(module.stairs.first), "decay": float(membrane.fixed_decay)}
    for key, raw in (("raw_decay", membrane.raw_decay), ("raw_threshold", membrane.raw_threshold)):
        if raw is not None:
            noted[key] = raw.detach().numpy().copy() if raw.dim() else raw.item()
    return noted


def recalled(noted: dict[str, Any], dtype: Any) -> Neuron:
    """The neuron that `exact` wrote down."""
    names = ("raw_decay", "raw_threshold")
    raws = {key: torch.as_tensor(np.asarray(noted[key]), dtype=dtype) for key in names if key in noted}
    kind = {key: "channel" if raw.dim() else "layer" for key, raw in raws.items()}
    neuron: Neuron = LIF(
        threshold=float(noted["threshold"]),
        decay=float(noted["decay"]),
        learn_decay=kind.get("raw_decay", "none"),
        train_threshold=kind.get("raw_threshold", "none"),
        reset="hard",
    )
    channels = max((raw.numel() for raw in raws.values() if raw.dim()), default=0)
    if channels:
        neuron = neuron.replicate(channels, channel_dim=1)
    for key, raw in raws.items():
        getattr(neuron.membrane, key).data = raw
    return neuron

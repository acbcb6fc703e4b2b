"""SpikingJelly's IF, LIF, parametric, ternary and integer nodes against bitspike's neurons."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
from harness import Case, PeerRun
from spikingjelly.activation_based import neuron as nodes
from spikingjelly.activation_based import surrogate
from torch import Tensor

from bitspike.functional import ATan, FastSigmoid, Rectangle, Sigmoid, Stairs, Surrogate, Triangle, fire
from bitspike.neurons import LIF, Integer, MembraneState, Neuron, Ternary

logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # silences 'no Triton' at every call

VERSION = version("spikingjelly")
NOT_COMPARED = [
    "decay 0: SpikingJelly's nodes need tau > 1",
    "MultiBit, Real: SpikingJelly has no such neurons",
    "Integer with reset='hard', or with a surrogate other than the window: ILIFNode has neither",
    "Ternary and LIF amplitudes: SpikingJelly's nodes emit 0 and ±1 only",
    "decay_input=True (the default): the input is divided by tau too; every node here is built with False",
]

BOTH = ("float64", "float32")
CHARGE = "decay = 1 − 1/tau with decay_input=False; SpikingJelly computes v − v/tau + x, bitspike v·decay + x"
STATE = "v_seq of SpikingJelly is v (after reset); v_reset=0.0 is reset='hard', v_reset=None is reset='soft'"
COUNT_CHARGE = "decay = 1 − 1/tau; ILIFNode computes decay·v + x, as bitspike does"


def tau(decay: float) -> float:
    """Time constant of a decay per step."""
    return 1.0 / (1.0 - decay)


def node_run(build: Callable[[], Any]) -> Callable[[torch.dtype, str], PeerRun]:
    """A runner of a multi-step node that keeps its membranes."""

    def for_dtype(dtype: torch.dtype, _: str) -> PeerRun:
        def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
            node = build().to(dtype)
            s = node(x)
            return s, node.v_seq, getattr(node, "w", None)

        return run

    return for_dtype


class StrictRectangle(Rectangle):
    """bitspike's window without its edges, SpikingJelly's rule, for one boundary."""

    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        """1/width strictly inside."""
        width = self.width or stairs.spacing
        return ((u - stairs.first).abs() < width / 2).to(u.dtype) / width


def gate_by_sum(neuron: Neuron, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Ternary step with SpikingJelly's gate: the reset event is positive + negative, each with its own surrogate."""
    u = neuron.membrane.charge(state.v, x)
    one = Stairs(neuron.stairs.first, neuron.stairs.spacing)
    up, down = fire(u, one, neuron.surrogate), fire(-u, one, neuron.surrogate)
    return up - down, MembraneState(u * (1 - (up + down)))


def half_to_even(neuron: Neuron, x: Tensor, state: Any) -> tuple[Tensor, Any]:
    """Integer step with SpikingJelly's tie rule: clip(u/threshold, 0, D) rounded by torch.round."""
    u = neuron.membrane.charge(state.v, x)
    k = fire(u, neuron.stairs, neuron.surrogate)
    even = torch.round(torch.clamp(u.detach() / neuron.stairs.spacing, 0, neuron.stairs.count))
    k = k + (even - k.detach())
    sent = k * neuron.stairs.spacing
    return k, MembraneState(u - (sent.detach() if neuron.membrane.detach_reset else sent))


SURROGATES: dict[str, tuple[Surrogate, Any, str]] = {
    "atan α=2": (ATan(2.0), surrogate.ATan(2.0), ""),
    "sigmoid α=4": (Sigmoid(4.0), surrogate.Sigmoid(4.0), ""),
    "fast sigmoid slope=1": (FastSigmoid(1.0), surrogate.SuperSpike(1.0), "SuperSpike(1) is FastSigmoid(slope=1)"),
    "fast sigmoid slope=2": (FastSigmoid(2.0), surrogate.SoftSign(2.0), "SoftSign(2) is FastSigmoid(slope=2)"),
    "triangle half-width=1": (
        Triangle(1.0),
        surrogate.PiecewiseQuadratic(1.0),
        "PiecewiseQuadratic(alpha) is Triangle(half_width=1/alpha)",
    ),
    "rectangle width=1": (
        StrictRectangle(1.0),
        surrogate.Rect(1.0),
        "window edges: SpikingJelly's window is open, bitspike's closed; bitspike gets an open one here",
    ),
}


def resets(detach: bool, reset: str) -> dict[str, Any]:
    """SpikingJelly's arguments for bitspike's two."""
    return {"v_reset": 0.0 if reset == "hard" else None, "detach_reset": detach, "step_mode": "m", "store_v_seq": True}


def said(detach: bool, reset: str) -> str:
    """The same, in words."""
    return f"v_reset={'0.0' if reset == 'hard' else None}, detach_reset={detach}"


def binary(
    decay: float, threshold: float, reset: str, detach: bool, grad: str = "atan α=2", learn: bool = False
) -> Case:
    """LIFNode, IFNode (decay 1) or ParametricLIFNode (learn) against LIF."""
    ours, theirs, note = SURROGATES[grad]
    common = {"v_threshold": threshold, "surrogate_function": theirs, **resets(detach, reset)}
    inputs = ("dyadic", "random") if threshold in (1.0, 0.5) else ("random",)
    if decay == 1.0:
        kind, build, exact = "IFNode(", partial(nodes.IFNode, **common), dict.fromkeys(inputs, BOTH)
    else:
        # v − v/tau is exact for decay ½ always, and in float64 wherever v·decay is (the dyadic grid).
        exact = dict.fromkeys(inputs, BOTH) if decay == 0.5 else {"dyadic": ("float64",)}
        if learn:
            kind = f"ParametricLIFNode(init_tau={tau(decay):g}, decay_input=False, "
            build = partial(nodes.ParametricLIFNode, tau(decay), decay_input=False, **common)
            exact = exact if decay == 0.5 else {}
        else:
            kind = f"LIFNode(tau={tau(decay):g}, decay_input=False, "
            build = partial(nodes.LIFNode, tau(decay), decay_input=False, **common)
    name = f"{'learned ' if learn else ''}{reset}, decay {decay:g}, threshold {threshold:g}, detach {detach}, {grad}"
    learned = "parameter: raw_decay = −w, so dL/draw_decay = −dL/dw"
    return Case(
        name=name,
        ours=f"LIF(threshold={threshold:g}, decay={decay:g}{', learn_decay=True' if learn else ''}, reset='{reset}', "
        f"detach_reset={detach}, {grad})",
        peer=f"{kind}v_threshold={threshold:g}, {said(detach, reset)}, {type(theirs).__name__})",
        neuron=partial(LIF, threshold, decay, learn, reset, detach, ours),
        run=node_run(build),
        membrane="v",
        inputs=inputs,
        exact=exact,
        mapping=(STATE,)
        + ((CHARGE,) if decay != 1 else ())
        + ((note,) if note else ())
        + ((learned,) if learn else ()),
        parameter=(lambda _: -1.0) if learn else None,
    )


def ternary(decay: float, reset: str, detach: bool, mapped: bool = True) -> Case:
    """TernaryLIFNode or TernaryIFNode (decay 1) against Ternary; `mapped` puts SpikingJelly's gate into ours."""
    common = {"v_threshold": 0.5, "surrogate_function": surrogate.ATan(2.0), **resets(detach, reset)}
    if decay == 1.0:
        kind, build = "TernaryIFNode(", partial(nodes.TernaryIFNode, **common)
    else:
        kind = f"TernaryLIFNode(tau={tau(decay):g}, decay_input=False, "
        build = partial(nodes.TernaryLIFNode, tau(decay), decay_input=False, **common)
    inputs = ("dyadic signed", "random signed")
    exact = dict.fromkeys(inputs, BOTH) if decay in (0.5, 1.0) else {"dyadic signed": ("float64",)}
    gated = reset == "hard" and not detach
    name = f"ternary {reset}, decay {decay:g}, detach {detach}"
    gate = "hard reset not detached: ours steps with SpikingJelly's gate, positive + negative events, instead of |b|"
    return Case(
        name=name if mapped else f"differs: gate of the {name}",
        ours=f"Ternary(threshold=0.5, decay={decay:g}, reset='{reset}', detach_reset={detach}, atan α=2)",
        peer=f"{kind}v_threshold=0.5, {said(detach, reset)}, ATan)",
        neuron=partial(Ternary, 0.5, decay, False, reset, detach, ATan(2.0)),
        run=node_run(build),
        membrane="v",
        inputs=inputs,
        exact=exact,
        mapping=(STATE,) + ((CHARGE,) if decay != 1 else ()) + ((gate,) if gated and mapped else ()),
        step=gate_by_sum if gated and mapped else None,
        differs=""
        if mapped
        else "bitspike's gate is |b|, whose derivative is sign(b)·db/du (0 where b = 0: Ternary Spike eq. 7-8); "
        "SpikingJelly differentiates the sum of both events, so silent steps get a gradient too",
        differs_in=() if mapped else ("gradient",),
        resolved_by="" if mapped else name,
    )


def counted(D: int, decay: float, threshold: float, detach: bool, ties: bool, mapped: bool = True) -> Case:
    """ILIFNode against Integer; `mapped` puts SpikingJelly's tie rule into ours."""
    function = surrogate.MultiLevelSpikeCount(D)
    build = partial(nodes.ILIFNode, tau(decay), threshold, function, detach, "m", True)
    inputs = ("dyadic graded",) if ties else ("random graded",)
    kind = type(function).__name__
    name = f"integer D={D}, decay {decay:g}, threshold {threshold:g}, detach {detach}{', ties' if ties else ''}"
    rule = "tie rule: SpikingJelly rounds halves to even, bitspike up; ours steps with half-to-even here"
    return Case(
        name=name if mapped else f"differs: ties of the {name.removesuffix(', ties')}",
        ours=f"Integer(D={D}, threshold={threshold:g}, decay={decay:g}, detach_reset={detach})",
        peer=f"ILIFNode(tau={tau(decay):g}, v_threshold={threshold:g}, {kind}({D}), detach_reset={detach})",
        neuron=partial(Integer, D, threshold, decay, detach_reset=detach),
        run=node_run(build),
        membrane="v",
        inputs=inputs,
        exact=dict.fromkeys(inputs, BOTH),
        mapping=(STATE, COUNT_CHARGE) + ((rule,) if ties and mapped else ()),
        step=half_to_even if ties and mapped else None,
        differs="" if mapped else "SpikingJelly rounds halves to even (0.5 → 0, 2.5 → 2), bitspike up (1 and 3)",
        differs_in=() if mapped else ("spikes", "membrane", "gradient"),
        resolved_by="" if mapped else name,
    )


def cases() -> list[Case]:
    """Agreed comparisons first, then what differs without a mapping."""
    found = []
    for reset in ("hard", "soft"):
        for detach in (True, False):
            found += [binary(decay, 1.0, reset, detach) for decay in (0.25, 0.5, 0.75, 1.0)]
            found.append(binary(0.9, 0.7, reset, detach))
            found += [ternary(decay, reset, detach) for decay in (0.25, 0.5, 1.0)]
    found += [binary(0.5, 0.5, "hard", False, grad) for grad in SURROGATES]
    for decay in (0.25, 0.5):
        found += [binary(decay, 1.0, reset, False, learn=True) for reset in ("hard", "soft")]
    for ties in (False, True):
        for detach in (True, False):
            found += [counted(4, 0.25, 1.0, detach, ties), counted(2, 0.5, 0.5, detach, ties)]
    found.append(counted(4, 1.0 - 1.0 / 3.0, 0.7, True, False))
    found += [ternary(decay, "hard", False, mapped=False) for decay in (0.25, 1.0)]
    found.append(counted(4, 0.25, 1.0, True, True, mapped=False))
    edges = Case(
        name="differs: edges of the rectangle",
        ours="LIF(threshold=0.5, decay=0.5, reset='hard', detach_reset=False, rectangle width=1)",
        peer="LIFNode(tau=2, decay_input=False, v_threshold=0.5, v_reset=0.0, detach_reset=False, Rect)",
        neuron=partial(LIF, 0.5, 0.5, False, "hard", False, Rectangle(1.0)),
        run=binary(0.5, 0.5, "hard", False, "rectangle width=1").run,
        membrane="v",
        inputs=("dyadic",),
        exact={"dyadic": BOTH},
        mapping=(STATE, CHARGE),
        differs="bitspike's window contains its edges (|u − threshold| = width/2), SpikingJelly's does not",
        differs_in=("gradient",),
        resolved_by="hard, decay 0.5, threshold 0.5, detach False, rectangle width=1",
    )
    return [*found, edges]

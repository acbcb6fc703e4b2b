"""snnTorch's Leaky against bitspike's LIF. Facts about its conventions are in the mappings below."""

from __future__ import annotations

from functools import partial

import snntorch
import torch
from harness import GRIDS, STEPS, Case, PeerRun
from snntorch import surrogate
from torch import Tensor

from bitspike.functional import ATan, FastSigmoid, Sigmoid, Surrogate
from bitspike.neurons import LIF, Neuron

VERSION = str(snntorch.__version__)
NOT_COMPARED = [
    "Ternary, Integer, MultiBit, Real: snnTorch has no neuron with such spikes",
    "Rectangle, Triangle: snnTorch has no such surrogate (its `triangular` is ±threshold by the side of the threshold)",
    "per-channel or learned amplitude: only the fixed one has a peer (graded_spikes_factor)",
]

BOTH = ("float64", "float32")
SEVEN_TENTHS = 11744051 / 2**24  # 0.7 rounded to float32
TIES = (
    "tie rule: snnTorch fires at mem > threshold, bitspike at u >= threshold; on dyadic inputs snnTorch gets the next "
    "lower floating-point number as its threshold, on random ones (no ties, asserted) the same threshold"
)
DTYPE = "beta and threshold are passed as tensors of the input's dtype; Python floats would be kept in float32"
DELAY = (
    "reset delay: snnTorch applies the reset of step t in the charge of step t+1, so the membrane it returns is "
    "bitspike's u (before firing)"
)
NO_DELAY = "reset_delay=False: the membrane returned is bitspike's v (after reset)"
COMPENSATE = (
    "delayed subtraction: snnTorch takes threshold off after the decay, bitspike before it; its next input is "
    "raised by (1 − beta)·threshold wherever it fired, as a constant"
)
DETACH = "snnTorch's delayed reset is always detached: bitspike's detach_reset=True"
ATTACHED = "with reset_delay=False snnTorch does not detach the reset: bitspike's detach_reset=False"
FLOAT_SPIKES = "snnTorch's spikes are float32 whatever the input, so float64 gradients through them keep 24 bits"
FLOAT_RESET = (
    "snnTorch's subtracted value, spike·threshold, is float32 whatever the input: thresholds that float32 holds exactly"
)
SMALL = (
    "inputs of at most the threshold, so that a soft reset leaves less than the threshold (see the case 'double reset')"
)

SURROGATES: dict[str, tuple[Surrogate, object]] = {
    "atan α=2": (ATan(2.0), surrogate.atan(2.0)),
    "fast sigmoid slope=25": (FastSigmoid(25.0), surrogate.fast_sigmoid(25)),
    "sigmoid α=4": (Sigmoid(4.0), surrogate.sigmoid(4)),
}


def leaky(
    dtype: torch.dtype,
    inputs: str,
    beta: float,
    threshold: float = 1.0,
    grad: str = "atan α=2",
    reset: str = "zero",
    delay: bool = True,
    below: bool = True,
    compensate: bool = False,
    as_float: bool = False,
    graded: float = 1.0,
    learn: bool = False,
) -> PeerRun:
    """A runner of Leaky. below: lower the threshold by one float on dyadic inputs (the tie mapping)."""

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        level = torch.tensor(threshold, dtype=dtype)
        if below and inputs in GRIDS:
            level = torch.nextafter(level, torch.zeros_like(level))
        node = snntorch.Leaky(
            beta=beta if as_float else torch.tensor(beta, dtype=dtype),
            threshold=level,
            spike_grad=SURROGATES[grad][1],
            reset_mechanism=reset,
            reset_delay=delay,
            graded_spikes_factor=graded,
            learn_beta=learn,
        )
        mem, raised = torch.zeros_like(x[0]), torch.zeros_like(x[0])
        spikes, membranes = [], []
        for xt in x:
            spk, mem = node(xt + raised if compensate else xt, mem)
            if compensate:
                raised = spk.detach().to(dtype) * ((1 - beta) * threshold)
            spikes.append(spk)
            membranes.append(mem)
        return torch.stack(spikes), torch.stack(membranes), node.beta if learn else None

    return run


def sigmoid_slope(neuron: Neuron) -> float:
    """d decay / d raw_decay, where decay = sigmoid(raw_decay)."""
    d = float(torch.as_tensor(neuron.membrane.decay()).detach())
    return d * (1 - d)


def hard(beta: float, threshold: float, grad: str, inputs: tuple[str, ...]) -> Case:
    """Delayed reset to zero: the same operations in the same order, so bitwise."""
    return Case(
        name=f"hard, decay {beta:g}, threshold {threshold:g}, {grad}",
        ours=f"LIF(threshold={threshold:g}, decay={beta:g}, reset='hard', detach_reset=True, {grad})",
        peer=f"Leaky(beta={beta:g}, threshold={threshold:g}, reset_mechanism='zero', {grad})",
        neuron=partial(LIF, threshold, beta, reset="hard", detach_reset=True, surrogate=SURROGATES[grad][0]),
        run=partial(leaky, beta=beta, threshold=threshold, grad=grad),
        membrane="u",
        inputs=inputs,
        exact=dict.fromkeys(inputs, BOTH),
        mapping=(TIES, DTYPE, DELAY, DETACH),
    )


def soft(beta: float, threshold: float) -> Case:
    """Delayed subtraction, with the compensation that moves it before the decay."""
    inputs = ("dyadic", "random") if threshold in (1.0, 0.5) else ("random",)
    # A membrane of the last step is a multiple of 2^-(2 + 15·bits of beta); where float64 holds that, order is nothing.
    held = 2 + (STEPS - 1) * (beta.as_integer_ratio()[1].bit_length() - 1) <= 50
    return Case(
        name=f"soft, decay {beta:g}, threshold {threshold:.9g}",
        ours=f"LIF(threshold={threshold:.9g}, decay={beta:g}, reset='soft', detach_reset=True, atan α=2)",
        peer=f"Leaky(beta={beta:g}, threshold={threshold:.9g}, reset_mechanism='subtract', atan α=2)",
        neuron=partial(LIF, threshold, beta, reset="soft", detach_reset=True, surrogate=ATan(2.0)),
        run=partial(leaky, beta=beta, threshold=threshold, reset="subtract", compensate=True),
        membrane="u",
        inputs=inputs,
        exact={"dyadic": ("float64",)} if held else {},
        mapping=(TIES, DTYPE, DELAY, COMPENSATE, FLOAT_RESET, DETACH),
    )


def undelayed(beta: float, reset: str) -> Case:
    """reset_delay=False, the only form of snnTorch whose reset is differentiated."""
    kind = {"zero": "hard", "subtract": "soft"}[reset]
    inputs = ("dyadic", "random") if reset == "zero" else ("dyadic small", "random small")
    return Case(
        name=f"{kind}, no delay, decay {beta:g}",
        ours=f"LIF(threshold=1, decay={beta:g}, reset='{kind}', detach_reset=False, atan α=2)",
        peer=f"Leaky(beta={beta:g}, threshold=1, reset_mechanism='{reset}', reset_delay=False, atan α=2)",
        neuron=partial(LIF, 1.0, beta, reset=kind, detach_reset=False, surrogate=ATan(2.0)),
        run=partial(leaky, beta=beta, reset=reset, delay=False),
        membrane="v",
        inputs=inputs,
        exact=dict.fromkeys(inputs, BOTH) if reset == "zero" else {"random small": BOTH},
        mapping=(TIES, DTYPE, NO_DELAY, ATTACHED, FLOAT_SPIKES) + ((SMALL, FLOAT_RESET) if reset == "subtract" else ()),
        gradient_dtype=torch.float32,
    )


def cases() -> list[Case]:
    """Agreed comparisons first, then what differs without a mapping."""
    found = [hard(beta, 1.0, "atan α=2", ("dyadic", "random")) for beta in (0.0, 0.25, 0.5, 0.75, 0.9375, 1.0)]
    found.append(hard(0.9, 0.7, "atan α=2", ("random",)))
    found += [hard(0.5, 0.5, grad, ("dyadic", "random")) for grad in SURROGATES]
    found += [soft(beta, 1.0) for beta in (0.0, 0.25, 0.5, 0.75, 0.9375, 1.0)]
    found += [soft(0.5, 0.5), soft(0.9, SEVEN_TENTHS)]
    found += [undelayed(beta, reset) for reset in ("zero", "subtract") for beta in (0.25, 0.5, 1.0)]
    base = partial(LIF, 1.0, 0.5, reset="hard", detach_reset=True, surrogate=ATan(2.0))
    found.append(
        Case(
            name="amplitude 1.5",
            ours="LIF(threshold=1, decay=0.5, reset='hard', detach_reset=True, amplitude=1.5, atan α=2)",
            peer="Leaky(beta=0.5, reset_mechanism='zero', graded_spikes_factor=1.5, atan α=2)",
            neuron=partial(base, amplitude=1.5),
            run=partial(leaky, beta=0.5, graded=1.5),
            membrane="u",
            inputs=("dyadic", "random"),
            exact={"dyadic": BOTH, "random": BOTH},
            mapping=(TIES, DTYPE, DELAY, DETACH),
        )
    )
    found.append(
        Case(
            name="learned decay, 0.5",
            ours="LIF(threshold=1, decay=0.5, learn_decay=True, reset='hard', detach_reset=True, atan α=2)",
            peer="Leaky(beta=0.5, learn_beta=True, reset_mechanism='zero', atan α=2)",
            neuron=partial(base, learn_decay=True),
            run=partial(leaky, beta=0.5, learn=True),
            membrane="u",
            inputs=("dyadic", "random"),
            exact={"dyadic": BOTH, "random": BOTH},
            mapping=(
                TIES,
                DTYPE,
                DELAY,
                DETACH,
                "parameter: decay = sigmoid(raw_decay), so dL/draw = d(1 − d)·dL/dbeta",
            ),
            parameter=sigmoid_slope,
        )
    )
    return found + differences()


def differences() -> list[Case]:
    """The same pairs with one mapping left out each."""
    base = partial(LIF, 1.0, 0.5, detach_reset=True, surrogate=ATan(2.0))
    everything = ("spikes", "membrane", "gradient")
    return [
        Case(
            name="differs: tie rule",
            ours="LIF(threshold=1, decay=0.5, reset='hard', detach_reset=True)",
            peer="Leaky(beta=0.5, threshold=1, reset_mechanism='zero')",
            neuron=partial(base, reset="hard"),
            run=partial(leaky, beta=0.5, below=False),
            membrane="u",
            inputs=("dyadic",),
            differs="snnTorch fires at mem > threshold (strict), bitspike at u >= threshold",
            differs_in=everything,
            resolved_by="hard, decay 0.5, threshold 1, atan α=2",
        ),
        Case(
            name="differs: delayed subtraction",
            ours="LIF(threshold=1, decay=0.5, reset='soft', detach_reset=True)",
            peer="Leaky(beta=0.5, threshold=1, reset_mechanism='subtract')",
            neuron=partial(base, reset="soft"),
            run=partial(leaky, beta=0.5, reset="subtract"),
            membrane="u",
            inputs=("dyadic", "random"),
            differs="snnTorch subtracts a step later, after the decay; bitspike before the decay (equal at decay 1)",
            differs_in=everything,
            resolved_by="soft, decay 0.5, threshold 1",
        ),
        Case(
            name="differs: reset detached",
            ours="LIF(threshold=1, decay=0.5, reset='hard', detach_reset=False)",
            peer="Leaky(beta=0.5, threshold=1, reset_mechanism='zero')",
            neuron=partial(base, reset="hard", detach_reset=False),
            run=partial(leaky, beta=0.5),
            membrane="u",
            inputs=("dyadic", "random"),
            exact={"dyadic": BOTH, "random": BOTH},
            mapping=(TIES, DTYPE, DELAY),
            differs="snnTorch's delayed reset is always detached; bitspike's default for LIF differentiates it",
            differs_in=("gradient",),
            resolved_by="hard, decay 0.5, threshold 1, atan α=2",
        ),
        Case(
            name="differs: double reset",
            ours="LIF(threshold=1, decay=1, reset='soft', detach_reset=False)",
            peer="Leaky(beta=1, threshold=1, reset_mechanism='subtract', reset_delay=False)",
            neuron=partial(LIF, 1.0, 1.0, reset="soft", detach_reset=False, surrogate=ATan(2.0)),
            run=partial(leaky, beta=1.0, reset="subtract", delay=False),
            membrane="v",
            inputs=("random large",),
            mapping=(DTYPE, NO_DELAY, ATTACHED),
            gradient_dtype=torch.float32,
            differs="without delay snnTorch resets again in the next charge if the reset left more than the threshold",
            differs_in=everything,
            resolved_by="soft, no delay, decay 1",
        ),
        Case(
            name="differs: beta kept in float32",
            ours="LIF(threshold=0.7, decay=0.9, reset='hard', detach_reset=True), float64",
            peer="Leaky(beta=0.9 as a Python float, threshold=0.7, reset_mechanism='zero'), float64",
            neuron=partial(LIF, 0.7, 0.9, reset="hard", detach_reset=True, surrogate=ATan(2.0)),
            run=partial(leaky, beta=0.9, threshold=0.7, as_float=True),
            membrane="u",
            inputs=("random",),
            mapping=(DELAY, DETACH),
            differs="a Python beta becomes a float32 tensor, so float64 membranes decay by float32(0.9)",
            differs_in=("membrane", "gradient"),
            resolved_by="hard, decay 0.9, threshold 0.7, atan α=2",
            dtypes=("float64",),
        ),
        Case(
            name="differs: subtracted value in float32",
            ours="LIF(threshold=0.7, decay=0.9, reset='soft', detach_reset=True), float64",
            peer="Leaky(beta=0.9, threshold=0.7, reset_mechanism='subtract'), float64",
            neuron=partial(LIF, 0.7, 0.9, reset="soft", detach_reset=True, surrogate=ATan(2.0)),
            run=partial(leaky, beta=0.9, threshold=0.7, reset="subtract", compensate=True),
            membrane="u",
            inputs=("random",),
            mapping=(DTYPE, DELAY, COMPENSATE, DETACH),
            differs="snnTorch's spikes are float32, so a float64 membrane is lowered by float32(0.7)",
            differs_in=("membrane", "gradient"),
            resolved_by=soft(0.9, SEVEN_TENTHS).name,
            dtypes=("float64",),
        ),
    ]

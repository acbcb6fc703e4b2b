"""The neurons that the groups share: bitspike's, and each peer's nearest ones."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from plans.base import Case

Spec = dict[str, Any]

# Classes. M: hard or soft reset detached, window surrogate, fixed scalars. U: reset not detached, ATan.
M = {"detach_reset": True}
U = {"detach_reset": False, "surrogate": "atan"}
LIF = {"threshold": 1.0, "decay": 0.5, "reset": "hard"}
TERNARY = {"threshold": 0.5, "decay": 0.25, "reset": "hard"}
INTEGER = {"D": 4, "threshold": 1.0, "decay": 0.25, "reset": "soft"}
MULTIBIT = {"m": 1, "n": 1, "threshold": 1.0, "decay": 0.5, "reset": "soft"}

# Mean and deviation of the currents: layers fire between 5 and 50 %.
DRIVE = {
    "lif": (0.4, 0.8),
    "ternary": (0.0, 0.45),
    "multibit": (0.1, 0.5),
    "integer": (0.0, 0.7),
    "real": (0.0, 0.6),
}
NEURONS: dict[str, Spec] = {"lif": LIF, "ternary": TERNARY, "multibit": MULTIBIT, "integer": INTEGER, "real": {}}
WORDS = {"atan": "ATan", "rectangle": "window"}
NAMES = {"lif": "LIF", "ternary": "Ternary", "multibit": "MultiBit(1,1)", "integer": "Integer(4)", "real": "Real"}


def ours(name: str, options: Spec, kernel: str, spec: Spec, note: str = "") -> Case:
    """A bitspike neuron with the constants above and the options of a class."""
    label = f"{NAMES[name]}{', ' + note if note else ''}"
    given = {"neuron": name, "options": {**NEURONS[name], **options}, "kernel": kernel}
    return Case("bitspike", label if kernel == "native" else f"{label} ({kernel})", {**drive(name), **spec, **given})


def drive(name: str) -> Spec:
    """The distribution of a neuron's currents."""
    mean, deviation = DRIVE[name]
    return {"mean": mean, "deviation": deviation}


def spikingjelly(name: str, detach: bool, surrogate: str, spec: Spec, **more: Any) -> Case:
    """SpikingJelly's node for bitspike's neuron of that name ("lif", "ternary" or "integer")."""
    node = {"lif": "LIF", "ternary": "TernaryLIF", "integer": "I-LIF"}[name]
    given = {"node": name, **NEURONS[name], "detach_reset": detach, "surrogate": surrogate, "compile": False, **more}
    words = ["detached" if detach else "undetached", WORDS.get(surrogate, surrogate)]
    words += ["bf16"] * bool(spec.get("autocast") or spec.get("dtype") == "bfloat16")
    words += ["torch.compile"] * bool(more.get("compile"))
    label = f"SpikingJelly {node}, {', '.join(words)}"
    return Case("spikingjelly", label, {**drive(name), **spec, **given})


def spikingjelly_any(spec: Spec) -> tuple[Case, ...]:
    """Every eager setting of its LIF that may be the fastest one."""
    found = [
        spikingjelly("lif", detach, surrogate, spec, reset=reset)
        for surrogate in ("atan", "rectangle", "triangle", "sigmoid")
        for detach in (True, False)
        for reset in ("hard", "soft")
    ]
    found += [spikingjelly("lif", detach, "atan", spec, decay_input=True) for detach in (True, False)]
    return called("SpikingJelly LIF, fastest eager", found)


def called(label: str, cases: Iterable[Case]) -> tuple[Case, ...]:
    """Candidates under one label."""
    return tuple(Case(case.worker, label, case.spec) for case in cases)


def with_heap(label: str, cases: Iterable[Case]) -> tuple[Case, ...]:
    """The same candidates in a process whose heap is set as `bitspike.keep_memory` sets bitspike's."""
    return tuple(Case(f"{case.worker}+heap", f"{label}, the same heap", case.spec) for case in cases)


def loops(spec: Spec) -> dict[str, tuple[Case, ...]]:
    """The libraries that step over time in Python, with their candidates."""
    resets = ("hard", "soft")
    lif = {**drive("lif"), **spec, "threshold": LIF["threshold"], "decay": spec.get("decay", LIF["decay"])}
    return {
        "snntorch": tuple(Case("snntorch", "snnTorch Leaky", {**lif, "reset": reset}) for reset in resets),
        "norse": tuple(Case("norse", "Norse LIF", {**lif, "model": model}) for model in ("box", "lif")),
        "sinabs": tuple(Case("sinabs", "sinabs LIF", {**lif, "reset": reset}) for reset in resets),
    }

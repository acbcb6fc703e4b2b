"""Two configurations that others have published, scaled to a small machine."""

from __future__ import annotations

from plans.base import Case, Plan, Row, Settings
from plans.library import M, U, called, drive, loops, ours, spikingjelly, spikingjelly_any

DECAY = 0.8  # tau = 5 in Open Neuromorphic's scripts
LEFT_OUT = (
    "Open Neuromorphic's sizes above 1024 neurons (its figures: up to 16k, on a GPU), and torch.compile over 500 "
    "unrolled steps, which does not compile in two minutes",
    "SpikingJelly's configuration: snnTorch, Norse and sinabs only at T = 4, torch.compile only at T = 4 and 8 (memory "
    "and compile time)",
)


def plan(settings: Settings) -> Plan:
    """Open Neuromorphic: Linear n → n + LIF, T = 500, batch 16. SpikingJelly: LIF on [T, 64, 65536]."""
    rows = []
    for n in (16, 32) if settings.quick else (256, 1024):
        rows += _open_neuromorphic([20 if settings.quick else 500, 16, n], settings)
    for steps in (4, 8) if settings.quick else (4, 8, 16, 32):
        rows += _spikingjelly([steps, *((4, 256) if settings.quick else (64, 65536))], settings)
    return Plan(rows, LEFT_OUT)


def _open_neuromorphic(shape: list[int], settings: Settings) -> list[Row]:
    stage = f"Open Neuromorphic: Linear n → n + LIF, [T, batch, n] = {shape}"
    # The linear map shrinks the currents to about 0.58 of their deviation.
    spec = {"kind": "linear", "shape": shape, "mean": 0.0, "deviation": 1.0, "decay": DECAY}
    case_m = ours("lif", {**M, "decay": DECAY}, settings.kernel, spec)
    case_u = ours("lif", {**U, "decay": DECAY}, settings.kernel, spec, "undetached, ATan")
    eager = tuple(Case(c.worker, c.label, {**c.spec, "decay": DECAY}) for c in spikingjelly_any(spec))
    alike = spikingjelly("lif", False, "atan", spec, decay=DECAY)
    rows = [Row(stage, case_m, eager, "M"), Row(stage, case_u, (alike,), "U")]
    return rows + [Row(stage, case_m, candidates, "M") for candidates in loops(spec).values()]


def _spikingjelly(shape: list[int], settings: Settings) -> list[Row]:
    stage = f"SpikingJelly: LIF, [T, N, features] = {shape}"
    spec = {"kind": "neuron", "shape": shape}
    case_m = ours("lif", M, settings.kernel, spec)
    case_u = ours("lif", U, settings.kernel, spec, "undetached, ATan")
    floor = (Case("bitspike", "two buffered copies", {"kind": "floor", "shape": shape, **drive("lif")}),)
    few = ((True, "atan"), (True, "triangle"), (False, "atan"))
    eager = called(
        "SpikingJelly LIF, fastest eager", (spikingjelly("lif", detach, surrogate, spec) for detach, surrogate in few)
    )
    rows = [
        Row(stage, case_m, floor, "M", slower=True),
        Row(stage, case_m, eager, "M"),
        Row(stage, case_u, (spikingjelly("lif", False, "atan", spec),), "U"),
    ]
    if settings.compiled and shape[0] <= 8:
        rows.append(Row(stage, case_m, (spikingjelly("lif", True, "atan", spec, compile=True),), "M"))
    if shape[0] == 4:
        rows += [Row(stage, case_m, candidates, "M") for candidates in loops(spec).values()]
    return rows

"""Forward and backward of one layer of neurons."""

from __future__ import annotations

from plans.base import Case, Goal, Plan, Row, Settings
from plans.library import M, U, called, drive, loops, ours, spikingjelly, spikingjelly_any, with_heap

SHAPES = {"A": [4, 32, 128, 16, 16], "B": [16, 256, 1000]}
QUICK = {"A": [4, 2, 8, 8, 8], "B": [16, 4, 50]}
# Goals for (A, B)
FASTEST, LOOPS, COMPILED, FLOOR_M = (7.0, 5.0), (10.0, 10.0), (1.8, 1.4), (1.25, 1.8)
EAGER_U, FLOOR_U, TERNARY_U = (6.0, 3.3), (1.5, 2.7), (10.0, 8.0)


def plan(settings: Settings) -> Plan:
    """Both shapes."""
    rows = []
    for index, name in enumerate(SHAPES):
        shape = (QUICK if settings.quick else SHAPES)[name]
        rows += _shape(f"{name} = {shape}", shape, index, settings)
    left_out = (
        "torch.compile with a rectangular surrogate: Inductor's code for it is tens of times slower than for a smooth "
        "one, so the compiled peers keep ATan",
    )
    if not settings.compiled:
        rows = [row for row in rows if not any(case.spec.get("compile") for case in row.others)]
        left_out += ("all cases under torch.compile (--no-compile)",)
    return Plan(rows, left_out)


def _shape(stage: str, shape: list[int], index: int, settings: Settings) -> list[Row]:
    spec = {"kind": "neuron", "shape": shape}
    kernel = settings.kernel
    floor = (Case("bitspike", "two buffered copies", {"kind": "floor", "shape": shape, **drive("lif")}),)
    fastest = spikingjelly_any(spec)
    either = [spikingjelly("lif", detach, "atan", spec, compile=True) for detach in (True, False)]
    compiled_m = called("SpikingJelly LIF, ATan, torch.compile", either)
    compiled_u = (spikingjelly("lif", False, "atan", spec, compile=True),)
    rows: list[Row] = []

    def against(
        case: Case, kind: str, others: tuple[Case, ...], goal: Goal | None = None, slower: bool = False
    ) -> None:
        rows.append(Row(stage, case, others, kind, goal, slower))

    def reference(name: str, options: dict[str, object], case: Case, kind: str, note: str = "") -> None:
        if kernel != "reference":
            against(case, kind, (ours(name, options, "reference", spec, note),))

    for name in ("lif", "ternary", "multibit", "integer", "real"):
        options = {} if name == "real" else M
        case = ours(name, options, kernel, spec)
        against(case, "M", floor, Goal(FLOOR_M[index], slower=True))
        reference(name, options, case, "M")
        against(case, "M", fastest, Goal(FASTEST[index]))
        against(case, "M", compiled_m, Goal(COMPILED[index]))
        if name == "lif":
            for candidates in loops(spec).values():
                goal = None if candidates[0].worker == "sinabs" else Goal(LOOPS[index])
                against(case, "M", candidates, goal)
            against(case, "M", (spikingjelly("lif", True, "rectangle", spec),))
            against(case, "M", with_heap("SpikingJelly LIF, fastest eager", fastest))
        if name in ("ternary", "integer"):
            against(case, "M", (spikingjelly(name, True, "rectangle", spec),))

    for name in ("lif", "ternary", "multibit", "integer"):
        case = ours(name, U, kernel, spec, "undetached, ATan")
        against(case, "U", floor, Goal(FLOOR_U[index], slower=True))
        reference(name, U, case, "U", "undetached, ATan")
        against(case, "U", (spikingjelly("lif", False, "atan", spec),), Goal(EAGER_U[index]))
        against(case, "U", compiled_u)
        if name == "ternary":
            against(case, "U", (spikingjelly("ternary", False, "atan", spec),), Goal(TERNARY_U[index]))
        if name == "integer":
            against(case, "U", (spikingjelly("integer", False, "window", spec),))
    undetached = {"detach_reset": False}
    case = ours("ternary", undetached, kernel, spec, "undetached, window")
    against(case, "U", floor, Goal(FLOOR_U[index], slower=True))
    against(case, "U", (spikingjelly("ternary", False, "rectangle", spec),), Goal(TERNARY_U[index]))

    for sharing in ("layer", "channel"):
        options = {**M, "train_amplitude": sharing}
        case = ours("ternary", options, kernel, spec, f"amplitude per {sharing}")
        against(case, "trained", floor, slower=True)
        reference("ternary", options, case, "trained", f"amplitude per {sharing}")
        against(case, "trained", (spikingjelly("ternary", True, "rectangle", spec),))

    half = {**spec, "dtype": "bfloat16", "autocast": True}
    against(ours("lif", M, kernel, half, "bf16"), "M", (spikingjelly("lif", True, "atan", half),))
    return rows

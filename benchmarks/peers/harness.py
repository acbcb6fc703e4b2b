"""Inputs, traces and the comparison of one bitspike neuron with one neuron of a peer library.

A `Case` names both neurons, the mapping between their conventions, and how equal they must be:

* "exact": spikes equal, membranes bitwise equal.
* "rounding": the two write the same formula in another order of operations. Membranes agree within MEMBRANE_ULPS;
  a spike may differ only where the membrane lies that near the threshold, in float32 only, and is counted.

Gradients come from one loss, Σ w·spike + Σ w'·membrane with dyadic weights, and agree within GRADIENT_ULPS (the
libraries evaluate the same surrogate in other orders). A case with `differs` set compares *without* the mapping: it
must differ in the quantities named, agree in the others, and `resolved_by` names the mapped case that explains it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bitspike.neurons import Neuron

SEED = 20260801
STEPS = 16
COLUMNS = 257
MEMBRANE_ULPS = 32  # times eps times max(1, greatest |membrane|)
GRADIENT_ULPS = 256  # times eps times max(1, greatest |gradient| of the column)
PARAMETER_ULPS = 8  # times eps times max(1, Σ |dL/dx|·max(1, |membrane|)), the size of the terms that are summed
DTYPES = {"float64": torch.float64, "float32": torch.float32}

# name → (low, high) in quarters: a grid on which thresholds of 1 and 1/2 are met exactly
GRIDS = {"dyadic": (-4, 8), "dyadic signed": (-6, 6), "dyadic graded": (-4, 20), "dyadic small": (-4, 4)}
# name → (mean, deviation) of a normal distribution
NORMALS = {
    "random": (0.4, 0.8),
    "random signed": (0.0, 0.7),
    "random graded": (1.6, 1.4),
    "random large": (0.8, 1.5),
}
# name → (low, high) of a uniform distribution
UNIFORMS = {"random small": (-0.5, 1.0)}

Step = Callable[[Neuron, Tensor, Any], tuple[Tensor, Any]]
PeerRun = Callable[[Tensor], tuple[Tensor, Tensor, Tensor | None]]


class Trace(NamedTuple):
    """What one library did: spikes and membranes [T, N], dL/dx [T, N], dL/dparameter [] or None."""

    s: Tensor
    m: Tensor
    gx: Tensor
    gp: Tensor | None


@dataclass(frozen=True)
class Case:
    """One comparison.

    Args:
        name: unique. ours, peer: the two neurons, in words (filled into the results).
        neuron: builds ours. run: (dtype, inputs) → the peer's runner, which builds a fresh neuron for every call.
        membrane: "u" (before firing) or "v" (after reset), whichever the peer shows.
        inputs: names out of GRIDS, NORMALS and UNIFORMS.
        exact: those inputs on which membranes must be bitwise equal, for each dtype by name.
        mapping: what had to be translated, one sentence each.
        step: ours with the peer's convention put in, where the mapping is on our side.
        gradient_dtype: the coarser dtype that the peer's gradient passes through, if any.
        parameter: derivative of the peer's parameter with respect to ours, if one is learned.
        differs: why the unmapped pair differs. differs_in: of "spikes", "membrane", "gradient".
        resolved_by: the mapped case that agrees.
    """

    name: str
    ours: str
    peer: str
    neuron: Callable[[], Neuron]
    run: Callable[[torch.dtype, str], PeerRun]
    membrane: str
    inputs: tuple[str, ...]
    exact: dict[str, tuple[str, ...]] = field(default_factory=dict)
    mapping: tuple[str, ...] = ()
    step: Step | None = None
    gradient_dtype: torch.dtype | None = None
    parameter: Callable[[Neuron], float] | None = None
    differs: str = ""
    differs_in: tuple[str, ...] = ()
    resolved_by: str = ""
    dtypes: tuple[str, ...] = ("float64", "float32")


def inputs(name: str, dtype: torch.dtype) -> Tensor:
    """Currents [STEPS, COLUMNS], the same for every library; drawn in float64 and rounded to the dtype."""
    g = torch.Generator().manual_seed(SEED)
    if name in GRIDS:
        low, high = GRIDS[name]
        return torch.randint(low, high + 1, (STEPS, COLUMNS), generator=g).to(dtype) / 4
    if name in UNIFORMS:
        low, high = UNIFORMS[name]
        return (torch.rand(STEPS, COLUMNS, generator=g, dtype=torch.float64) * (high - low) + low).to(dtype)
    mean, deviation = NORMALS[name]
    return (torch.randn(STEPS, COLUMNS, generator=g, dtype=torch.float64) * deviation + mean).to(dtype)


def loss_weights(dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Weights of spikes and membranes in the loss: multiples of 1/8 in [-1, 1]."""
    g = torch.Generator().manual_seed(SEED + 1)
    draw = torch.randint(-8, 9, (2, STEPS, COLUMNS), generator=g).to(dtype) / 8
    return draw[0], draw[1]


def trace(run: PeerRun, x: Tensor, weights: tuple[Tensor, Tensor]) -> Trace:
    """Forward and backward of one library on x [T, N]."""
    x = x.clone().requires_grad_()
    s, m, parameter = run(x)
    loss = (weights[0][: len(x)] * s).sum() + (weights[1][: len(x)] * m).sum()
    wanted = [x] if parameter is None else [x, parameter]
    grads = torch.autograd.grad(loss, wanted)
    return Trace(s.detach().to(x.dtype), m.detach().to(x.dtype), grads[0], grads[1] if parameter is not None else None)


def our_run(case: Case, neuron: Neuron, seen: dict[str, Tensor]) -> PeerRun:
    """Our neuron stepped by hand, keeping u and v of every step; `seen` receives u."""

    def run(x: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        state = neuron.initial_state(x[0])
        spikes, before, after = [], [], []
        for xt in x:
            before.append(neuron.membrane.charge(state.v, xt))
            s, state = neuron.step(xt, state) if case.step is None else case.step(neuron, xt, state)
            spikes.append(s)
            after.append(state.v)
        u, v = torch.stack(before), torch.stack(after)
        seen["u"] = u.detach()
        if case.step is None:  # what users call must be what was stepped here, whichever kernel is dispatched
            whole, final = neuron.run(x.detach())
            if not (torch.equal(whole, torch.stack(spikes)) and torch.equal(final.v, after[-1])):
                raise SystemExit(f"{case.name}: run() and step() of bitspike disagree")
        return torch.stack(spikes), u if case.membrane == "u" else v, neuron.membrane.raw_decay

    return run


def compare(case: Case, name: str, dtype_name: str) -> dict[str, Any]:
    """All T = 1 .. STEPS of one case on one kind of input → one row of the results."""
    dtype = DTYPES[dtype_name]
    eps = torch.finfo(dtype).eps
    gradient_eps = max(eps, torch.finfo(case.gradient_dtype).eps if case.gradient_dtype else 0.0)
    full, weights, seen = inputs(name, dtype), loss_weights(dtype), {}
    exact = dtype_name in case.exact.get(name, ())
    worst = {"membrane": 0.0, "gradient": 0.0, "parameter": 0.0}
    over = {"spikes": False, "membrane": False, "gradient": False}
    unmet: list[str] = []
    for steps in range(1, STEPS + 1):
        neuron = case.neuron().to(dtype)
        a = trace(our_run(case, neuron, seen), full[:steps], weights)
        b = trace(case.run(dtype, name), full[:steps], weights)
        differ = a.s != b.s
        margin = neuron.stairs.margin(seen["u"])
        scale = max(1.0, float(a.m.abs().max()))
        near = margin <= MEMBRANE_ULPS * eps * scale
        # A column counts up to its first differing spike; that one is excused only as float32 rounding.
        first = differ & (differ.cumsum(0) == 1)
        excused = first & near & (not exact and dtype == torch.float32 and not case.differs)
        flips = int(excused.sum())
        over["spikes"] |= bool((first & ~excused).any())
        alive = (differ.cumsum(0) == 0) | bool(case.differs)
        whole = alive.all(0)
        gap = (a.m - b.m).abs() * alive
        worst["membrane"] = max(worst["membrane"], float(gap.max()))
        over["membrane"] |= bool((gap > (0.0 if exact else MEMBRANE_ULPS * eps * scale)).any())
        column = a.gx.abs().amax(0).clamp(min=1)
        gap = (a.gx - b.gx).abs() * whole
        worst["gradient"] = max(worst["gradient"], float(gap.max()))
        over["gradient"] |= bool((gap > GRADIENT_ULPS * gradient_eps * column).any())
        if not all(bool(torch.isfinite(t).all()) for t in (*a[:3], *b[:3])):
            unmet.append(f"T={steps}: not finite")
        if a.gp is not None and b.gp is not None and case.parameter is not None and not flips:
            gap_p = abs(float(a.gp) - float(b.gp) * case.parameter(neuron))
            terms = float((a.gx.abs() * a.m.abs().clamp(min=1)).sum())
            worst["parameter"] = max(worst["parameter"], gap_p)
            over["gradient"] |= gap_p > PARAMETER_ULPS * gradient_eps * max(1.0, terms)
    ties = int((margin == 0).sum())
    rate = float((a.s != 0).double().mean())
    found = [k for k, v in over.items() if v]
    if sorted(found) != sorted(case.differs_in):
        unmet.append(f"differs in {found or 'nothing'}, expected {list(case.differs_in) or 'nothing'}")
    if not 0.02 <= rate <= 0.98:
        unmet.append(f"firing rate {rate:.3f} outside 2..98 %")
    if name not in GRIDS and ties:
        unmet.append(f"{ties} ties in random inputs")
    if name in GRIDS and not ties:
        unmet.append("no tie was compared")
    differ_steps = differ.any(1).nonzero().flatten()
    row: dict[str, Any] = {
        "inputs": name,
        "dtype": dtype_name,
        "T": f"1..{STEPS}",
        "neurons": COLUMNS,
        "expected": "differs" if case.differs else "exact" if exact else "rounding",
        "ties": ties,
        "firing_rate": round(rate, 4),
        "spikes_compared": a.s.numel(),
        "spikes_differ": int(differ.sum()),
        "spikes_differ_excused_as_rounding": flips,
        "first_step_that_differs": int(differ_steps[0]) + 1 if len(differ_steps) else None,
        "membrane_max_difference": worst["membrane"],
        "gradient_max_difference": worst["gradient"],
    }
    if case.parameter is not None:
        row["parameter_gradient_max_difference"] = worst["parameter"]
    return row | {"as_expected": not unmet, "unmet": unmet}


def report(cases: list[Case]) -> list[dict[str, Any]]:
    """Run every case; a difference is explained only if the case that resolves it agrees."""
    names = [case.name for case in cases]
    if len(set(names)) != len(names):
        raise SystemExit(f"case names must be unique: {sorted(n for n in names if names.count(n) > 1)}")
    results = []
    for case in cases:
        rows = [compare(case, name, dtype) for name in case.inputs for dtype in case.dtypes]
        head: dict[str, Any] = {"name": case.name, "bitspike": case.ours, "peer": case.peer}
        head["membrane"] = {"u": "before firing", "v": "after reset"}[case.membrane]
        head["mapping"] = list(case.mapping)
        if case.gradient_dtype is not None:
            head["gradient_passes_through"] = str(case.gradient_dtype).removeprefix("torch.")
        if case.differs:
            head |= {"differs": case.differs, "differs_in": list(case.differs_in), "resolved_by": case.resolved_by}
        results.append(head | {"ok": all(row["as_expected"] for row in rows), "rows": rows})
    agreed = {r["name"] for r in results if r["ok"] and "differs" not in r}
    for r in results:
        if "differs" in r and r["resolved_by"] not in agreed:
            r["ok"] = False
            r["rows"][0]["unmet"].append(f"the case that explains it does not agree: {r['resolved_by']}")
    return results

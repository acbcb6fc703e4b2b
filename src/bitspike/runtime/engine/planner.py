"""Which form every convolution and linear map takes: what a plan says, else the cheapest by the model of costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..errors import fault
from ..ops import Operation
from .costs import cost
from .events import gathered
from .forms import DEPTHWISE, GATHER, WIDE, Form, bits_form, dense_form, form_of

DENSITY = "density"
"""Entry of a program's info: operation with weights → share of its input that is not 0, on the calibration data."""
_GAIN = 0.9
"""Share of the other form's cost that events must stay below: the model errs by some."""


def candidates(made: Operation, isa: str) -> tuple[Form, ...]:
    """Forms that an instruction set has for an operation, all of which give the same integers; first the one without
    events that is taken where no density is known."""
    first, dense = form_of(made, isa), dense_form(made, isa)
    bits = None if dense.number in (WIDE, DEPTHWISE) else bits_form(made, isa, dense)
    others = [form for form in (dense, bits, gathered(made)) if form is not None and form.number != first.number]
    return (first, *others)


def density_of(info: Mapping[str, Any], name: str) -> float | None:
    """What the info of a program says about an operation; None where it says nothing that can be.

    >>> density_of({"density": {"conv": 0.1}}, "conv"), density_of({"density": {"conv": 7}}, "conv")
    (0.1, None)
    """
    known = info.get(DENSITY)
    value = known.get(name) if isinstance(known, dict) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        return None
    return float(value)


def planned(
    operations: Sequence[Operation],
    isa: str,
    info: Mapping[str, Any],
    plan: Mapping[str, str] | None = None,
    where: str = "plan",
) -> dict[int, Form]:
    """The form of every operation with weights.

    Args:
        operations: of the program. isa: the instruction set. info: of the program, which may name densities.
        plan: operation → name of its form, where somebody has chosen. where: what an error says of the plan.

    Raises:
        ProgramError: the plan names an operation or a form that is not there.
    """
    forms: dict[int, Form] = {}
    left = dict(plan or {})
    for index, made in enumerate(operations):
        if "weight" not in made.constants:
            continue
        known = candidates(made, isa)
        name = left.pop(made.op.name, None)
        if name is None:
            forms[index] = _cheapest(made, known, isa, density_of(info, made.op.name))
            continue
        form = next((form for form in known if form.name == name), None)
        if form is None:
            names = ", ".join(form.name for form in known)
            raise fault(where, f"{made.op.name} must take one of {names}", repr(name)[:100], "make the plan again")
        forms[index] = replace(form, why=f"{form.why}; the plan says so")
    if left:
        must = "it must name operations with weights alone"
        raise fault(where, must, ", ".join(map(repr, left))[:200], "make the plan again")
    return forms


def _cheapest(made: Operation, known: Sequence[Form], isa: str, density: float | None) -> Form:
    first = known[0]
    events = next((form for form in known if form.number == GATHER), None)
    if events is None:
        return first
    if density is None:
        return replace(first, why=f"{first.why}; no events, since the density is unknown")
    costs = {form.name: cost(made, form, isa, density) for form in (first, events)}
    limit, found = costs[first.name], costs[events.name]
    if limit is None or found is None:
        return replace(first, why=f"{first.why}; no events, since no cost of them is known")
    taken = events if found < _GAIN * limit else first
    said = ", ".join(f"{name} {ns / 1000:.3g} µs" for name, ns in costs.items() if ns is not None)
    return replace(taken, why=f"{taken.why}; {density:.1%} are not 0: {said} a step, says the model")

"""Every form of a kernel gives the interpreter's integers, and the planner takes one for a reason that it tells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from bitspike.runtime import INPUT, Builder, Input, Program, ProgramError, Value
from bitspike.runtime.density import densities
from bitspike.runtime.engine import available_isas
from bitspike.runtime.engine.costs import cost
from bitspike.runtime.engine.events import gathered
from bitspike.runtime.engine.forms import DEPTHWISE, GATHER, NAMES, WIDE
from bitspike.runtime.engine.library import ISAS as ALL_ISAS
from bitspike.runtime.engine.planner import candidates, planned
from programs.drawn import drawn, input_of
from programs.edges import FAMILIES, events, products, sums
from programs.machines import one

ISAS = available_isas()
pytestmark = pytest.mark.skipif(not ISAS, reason="no native engine")


@pytest.fixture(scope="module", autouse=True)
def engine() -> str:
    """These tests choose their engines, so once is enough."""
    return "native"


def others(program: Program, isa: str, last: int) -> dict[str, str]:
    """For every operation that has several forms one that the planner does not take by default."""
    known = {made.op.name: candidates(made, isa) for made in program.operations if "weight" in made.constants}
    return {name: forms[1 + last % (len(forms) - 1)].name for name, forms in known.items() if len(forms) > 1}


def equal(a: Any, b: Any) -> None:
    assert np.array_equal(a.levels, b.levels) and a.levels.dtype == b.levels.dtype
    assert (a.steps, dict(a.clamped)) == (b.steps, dict(b.clamped))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("family", [sums, products, events], ids=lambda family: family.__name__)
def test_ends_of_widths(family: Callable[..., Any], isa: str) -> None:
    forced = 0
    for i, case in enumerate(FAMILIES[family]):
        for program, x in family(*case):
            forms = others(program, isa, i)
            if forms:
                forced += 1
                expected = Program(program.spec, "interpreter")(x)
                equal(expected, Program(program.spec, "native", 1 + i % 2, isa, forms)(x))
    assert forced > 50


@pytest.mark.parametrize("isa", ISAS)
def test_random_programs_and_streams(isa: str) -> None:
    found = Counter[str]()
    for seed in range(60):
        program = drawn(seed)
        forms = others(program, isa, seed)
        if not forms:
            continue
        found.update(forms.values())
        x = input_of(program, seed, batch=2, windows=2)
        slow, fast = Program(program.spec, "interpreter"), Program(program.spec, "native", 1 + seed % 3, isa, forms)
        states: list[Any] = [None, None]
        for chunk in np.split(x, [1 + seed % 2]):
            if not len(chunk):
                continue
            parts = []
            for i, each in enumerate((slow, fast)):
                part, states[i] = each.stream(chunk, states[i])
                parts.append(part)
            equal(*parts)
    assert found[NAMES[GATHER]] > 20


def layer(inputs: int = 64, outputs: int = 64, side: int = 16, density: object = None) -> Program:
    b = Builder(Input(Value((inputs, side, side), 0, 1, 0, 2)))
    weight = b.constant(np.random.default_rng(0).integers(-127, 128, (outputs, inputs, 3, 3)))
    place = {"stride": [1, 1], "before": [1, 1], "after": [1, 1], "dilation": [1, 1]}
    x = b.add("convolution", [INPUT], place, {"weight": weight})
    info = {} if density is None else {"density": {"convolution0": density}}
    return Program(replace(b.finish(x).spec, info=info), "interpreter")


@pytest.mark.parametrize("isa", ["avx2", "avx512vnni", "neon", "neondot"])
def test_few_spikes_are_gathered_and_many_are_not(isa: str) -> None:
    for density, number in ((0.02, GATHER), (0.05, GATHER), (0.9, None)):
        program = layer(density=density)
        (form,) = planned(program.operations, isa, program.spec.info).values()
        assert (form.number == GATHER) == (number == GATHER) or (isa, density) == ("neon", 0.9)  # no dot products there
        assert f"{density:.1%} are not 0" in form.why and NAMES[GATHER] in form.why


def test_tiles_of_a_matrix_unit_beat_events_in_a_small_layer_and_a_linear_map_is_gathered() -> None:
    program = layer(density=0.05)
    assert planned(program.operations, "amx", program.spec.info)[0].number != GATHER
    program = one("linear", Value((4096,), 0, 1, 0, 1), weight=np.ones((1024, 4096), np.int64))
    name = program.operations[0].op.name
    assert planned(program.operations, "amx", {"density": {name: 0.05}})[0].number == GATHER


@pytest.mark.parametrize("density", [None, "0.1", True, -0.1, 1.5, float("nan"), [0.1]])
def test_a_density_that_is_none_is_not_believed(density: object) -> None:
    program = layer(density=density)
    (form,) = planned(program.operations, ISAS[-1], program.spec.info).values()
    assert form.number != GATHER and form.why.endswith("no events, since the density is unknown")
    assert planned(program.operations, ISAS[-1], {"density": 3})[0].number != GATHER


def test_every_instruction_set_has_costs() -> None:
    """Else its forms would be chosen by none; a kernel that is chosen nowhere is deleted."""
    for isa in ALL_ISAS:
        program = layer()
        made = program.operations[0]
        assert all(cost(made, form, isa, 0.1) for form in candidates(made, isa)), isa
        info = [{"density": {"convolution0": share}} for share in (0.0, 0.01, 0.05)]
        taken = {planned(program.operations, isa, each)[0].number for each in info}
        assert GATHER in taken or isa == "amx", isa


def test_more_events_cost_more() -> None:
    made = layer().operations[0]
    form = gathered(made)
    assert form is not None
    for isa in ALL_ISAS:
        costs = [cost(made, form, isa, d) or 0 for d in (0.0, 0.1, 0.5, 1.0)]
        assert costs == sorted(costs) and costs[0] > 0


def test_forms_that_cannot_be_had_are_refused() -> None:
    spec = layer().spec
    for forms, got in (
        ({"convolution0": "depthwise"}, "must take one of"),
        ({"conv": NAMES[GATHER]}, "it must name operations with weights alone, got 'conv'"),
    ):
        with pytest.raises(ProgramError, match=got):
            Program(spec, "native", forms=forms)


def test_what_a_list_cannot_name_is_not_gathered() -> None:
    def number(value: Value, weight: Any, **attributes: Any) -> set[int]:
        made = one("linear" if weight.ndim == 2 else "convolution", value, attributes, weight=weight).operations[0]
        return {form.number for form in candidates(made, ISAS[-1])}

    assert GATHER in number(Value((65535,), 0, 1), np.ones((1, 65535), int))
    assert GATHER not in number(Value((65536,), 0, 1), np.ones((1, 65536), int))
    assert GATHER not in number(Value((3,), 0, 256), np.ones((1, 3), int))
    assert GATHER not in number(Value((3,), -1, 128), np.ones((1, 3), int))
    assert GATHER not in number(Value((3,), 0, 1), np.full((1, 3), 128))
    assert number(Value((3,), -(2**31), 2**31 - 1), np.full((1, 3), 2)) == {WIDE}
    place = {"stride": [1, 1], "before": [0, 0], "after": [0, 0], "dilation": [1, 1], "groups": 2}
    assert number(Value((2, 3, 3), 0, 1), np.ones((2, 1, 1, 1), int), **place) == {DEPTHWISE}


def test_densities_are_counted_where_weights_read() -> None:
    b = Builder(Input(Value((4,), 0, 3, 0, 2)))
    first = b.add("linear", [INPUT], {}, {"weight": b.constant(np.eye(4, dtype=np.int64))})
    constants = {"first": b.constant(np.array([3])), "charge": b.constant(np.array([3]))}
    spikes = b.add("fire", [first], {"count": [1], "reset": "soft"}, constants)
    program = b.finish(b.add("linear", [spikes], {}, {"weight": b.constant(np.ones((2, 4), np.int64))}))
    x = np.array([[[3, 0, 1, 0]], [[0, 0, 2, 0]]])
    assert list(densities(program, x).values()) == [3 / 8, 2 / 8]

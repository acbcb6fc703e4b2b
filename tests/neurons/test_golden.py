"""The neurons reproduce the traces that were worked out by hand, number for number."""

from __future__ import annotations

import inspect
from fractions import Fraction

import pytest
import torch

from bitspike.neurons import NEURONS
from golden.traces import Trace, traces

ALL = traces()


def test_every_neuron_has_a_trace_of_every_reset() -> None:
    resets = {(trace.neuron, trace.options.get("reset")) for trace in ALL}
    for name in NEURONS:
        wanted = {"hard", "soft"} if "reset" in inspect.signature(NEURONS[name]).parameters else {None}
        assert wanted <= {reset for neuron, reset in resets if neuron == name}, f"tests/golden lacks traces of {name}"


@pytest.mark.parametrize("trace", ALL, ids=lambda t: t.name)
def test_the_file_is_consistent(trace: Trace) -> None:
    """Charge by the rule of every neuron in exact fractions; ties occur; each neuron's arithmetic is written down."""
    floor = trace.options.get("floor")
    decay, previous = Fraction(trace.options["decay"]), [Fraction(0)] * len(trace.x[0])
    for x, u, v in zip(trace.x, trace.u, trace.v, strict=True):
        charged = [decay * p + Fraction(a) for p, a in zip(previous, x, strict=True)]
        assert [c if floor is None else max(c, Fraction(floor)) for c in charged] == [Fraction(b) for b in u]
        previous = [Fraction(b) for b in v]
    assert len(trace.how) == 1 + len(trace.x[0])
    stairs = NEURONS[trace.neuron](**trace.options).stairs
    assert any(float(stairs.margin(torch.tensor(u))) == 0 for row in trace.u for u in row), "no tie"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("trace", ALL, ids=lambda t: t.name)
def test_a_neuron_reproduces_its_trace(trace: Trace, dtype: torch.dtype) -> None:
    neuron = NEURONS[trace.neuron](**trace.options)
    x = torch.tensor(trace.x, dtype=dtype)
    state = neuron.initial_state(x[0])
    for t, row in enumerate(x):
        u = neuron.membrane.charge(state.v, row)
        s, state = neuron.step(row, state)
        assert (u.tolist(), s.tolist(), state.v.tolist()) == (trace.u[t], trace.s[t], trace.v[t]), f"step {t}"
    s_seq, last = neuron.run(x)
    assert s_seq.tolist() == trace.s and last.v.tolist() == trace.v[-1]

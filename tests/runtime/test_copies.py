"""Programs that are copied, and states that belong to somebody else."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

from bitspike.runtime import INPUT, Builder, Input, Program, ProgramError, Value
from bitspike.runtime.engine import why_missing

ENGINES = ["interpreter"] + ["auto", "native"] * (why_missing() is None)
X = np.array([[[60, -10]], [[60, 127]], [[60, 127]]])


def made(engine: str) -> Program:
    """A neuron that remembers."""
    b = Builder(Input(Value((2,), -127, 127, steps=3)))
    stairs = {"first": b.constant(np.array([100])), "charge": b.constant(np.array([100]))}
    return Program(b.finish(b.add("fire", [INPUT], {"count": [1], "reset": "soft"}, stairs)).spec, engine, threads=1)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_runs_as_its_original_even_after_a_call(engine: str, copied: Any) -> None:
    program = made(engine)
    expected = program(X).levels
    twin = copied(program)
    assert np.array_equal(twin(X).levels, expected) and twin.engine.line == program.engine.line
    _, state = program.stream(X[:1])
    with pytest.raises(ProgramError, match="state must come from this program and engine"):
        twin.stream(X[1:], state)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_of_another_program_or_of_nobody_is_refused(engine: str) -> None:
    program, other = made(engine), made(engine)
    _, state = program.stream(X[:1])
    for wrong, runs in ((state, other), ("state", program), (3, program)):
        with pytest.raises(ProgramError, match="state must come from this program and engine"):
            runs.stream(X[1:], wrong)
    for twin in (copy.copy(state), copy.deepcopy(state)):
        assert np.array_equal(program.stream(X[1:], twin)[0].levels, program.stream(X[1:], state)[0].levels)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_is_not_pickled(engine: str) -> None:
    _, state = made(engine).stream(X[:1])
    with pytest.raises(ProgramError, match="a state must stay in its process"):
        pickle.dumps(state)

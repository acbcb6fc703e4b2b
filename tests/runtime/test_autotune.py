"""Plans that were measured: stored beside a program, taken where they hold, and never a wrong number."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.runtime import INPUT, Builder, Input, Program, ProgramError, Value, autotune, load, save
from bitspike.runtime.__main__ import main
from bitspike.runtime.engine import available_isas
from bitspike.runtime.engine.forms import GATHER, NAMES
from bitspike.runtime.engine.library import ABI
from bitspike.runtime.engine.tuned import plan_path, read_plan, write_plan
from bitspike.runtime.file import digest_of

ISAS = available_isas()
pytestmark = pytest.mark.skipif(not ISAS, reason="no native engine")
EVENTS = NAMES[GATHER]


@pytest.fixture(scope="module", autouse=True)
def engine() -> str:
    """These tests choose their engines, so once is enough."""
    return "native"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A linear map of 512 numbers, mostly 0, and what it reads."""
    random = np.random.default_rng(0)
    b = Builder(Input(Value((512,), 0, 1, 0, 4)))
    last = b.add("linear", [INPUT], {}, {"weight": b.constant(random.integers(-127, 128, (256, 512)))})
    save(b.finish(b.add("mean", [last])), tmp_path / "model.bitspike")
    np.save(tmp_path / "x.npy", (random.random((4, 3, 512)) < 0.02).astype(np.uint8))
    return tmp_path / "model.bitspike"


def samples(model: Path) -> Any:
    return np.load(model.with_name("x.npy"))


def plan_of(model: Path, **changes: Any) -> dict[str, Any]:
    """A plan that takes events, in a file, with these changes."""
    program = load(model, "native", 1, plan=False)
    name = program.operations[0].op.name
    document = {
        **{"format": "bitspike.plan", "version": 1, "program": digest_of(program.spec), "isa": ISAS[-1]},
        **{"threads": 1, "abi": ABI, "forms": {name: EVENTS}, "us": {name: {EVENTS: 1.5}}},
        **changes,
    }
    plan_path(model).write_text(json.dumps(document))
    return document


def test_what_was_fastest_is_stored_and_taken(model: Path) -> None:
    x = samples(model)
    program = load(model, "native", 1)
    tuned = autotune(program, x, 0.2)
    (name,) = tuned.forms
    times = tuned.us[name]
    assert set(times) > {EVENTS} and tuned.forms[name] in times and all(time > 0 for time in times.values())
    assert times[tuned.forms[name]] <= 1.04 * min(times.values())
    assert (tuned.isa, tuned.threads, tuned.abi, tuned.program) == (ISAS[-1], 1, ABI, digest_of(program.spec))
    write_plan(tuned, plan_path(model))
    assert read_plan(plan_path(model), tuned.program) == replace(tuned, file="model.bitspike.plan.json")
    again = load(model, "native", 1)
    assert again.engine.line.endswith("at most; plan model.bitspike.plan.json")
    assert again.engine.facts["plan"] == {"file": "model.bitspike.plan.json", "ignored": None}
    assert again.engine.rows[0].form == tuned.forms[name] and again.engine.rows[0].why.endswith("the plan says so")
    assert np.array_equal(again(x).levels, load(model, "interpreter")(x).levels)


def test_a_plan_decides(model: Path) -> None:
    plan_of(model)
    program = load(model, "auto", 1)
    assert program.engine.rows[0].form == EVENTS
    assert load(model, "auto", 1, plan=False).engine.rows[0].form != EVENTS
    assert np.array_equal(program(samples(model)).levels, load(model, "interpreter")(samples(model)).levels)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"threads": 2}, "its limit of threads is 2, and here it is 1"),
        ({"isa": "riscv"}, "its instruction set is riscv, and here it is "),
        ({"abi": ABI - 1}, f"its ABI is {ABI - 1}, and here it is {ABI}"),
        ({"program": "0" * 64}, "it is for another program"),
        ({"version": 2, "more": 1}, "it is of version 2, and here it is 1"),
    ],
)
def test_what_does_not_fit_is_ignored_and_the_line_says_why(model: Path, changes: dict[str, Any], why: str) -> None:
    plan_of(model, **changes)
    program = load(model, "native", 1)
    assert f"plan model.bitspike.plan.json ignored: {why}" in program.engine.line
    assert program.engine.facts["plan"]["ignored"].startswith(why)
    assert program.engine.rows[0].form != EVENTS
    assert "plan" not in load(model, "interpreter").engine.line


@pytest.mark.parametrize(
    "changes",
    [
        {"forms": {"linear0": "depthwise"}},
        {"forms": {"other": EVENTS}},
        {"forms": {"linear0": 3}},
        {"forms": []},
        {"us": {"linear0": {EVENTS: "fast"}}},
        {"us": {"linear0": {EVENTS: -1}}},
        {"us": {"linear0": 2}},
        {"threads": True},
        {"threads": 1.0},
        {"isa": None},
        {"more": 1},
        {"format": "bitspike.program"},
        {"version": "1"},
    ],
)
def test_a_hostile_plan_gives_one_clear_error(
    model: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    plan_of(model, **changes)
    with pytest.raises(ProgramError, match=r"model\.bitspike\.plan\.json"):
        load(model, "native", 1)
    assert main(["inspect", str(model), "--threads", "1"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "model.bitspike.plan.json" in line and "Traceback" not in line
    load(model, "native", 1, plan=False)


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[1]", b'{"format": NaN}', b"\xff\xfe", b'{"a": 1, "a": 2}', b"[" * 99, b"9" * 99, b" " * 2**23],
)
def test_what_is_no_plan_gives_one_clear_error(model: Path, text: bytes) -> None:
    plan_path(model).write_bytes(text)
    with pytest.raises(ProgramError, match=r"model\.bitspike\.plan\.json"):
        load(model, "native", 1)


def test_commands_tune_over_whatever_lies_there(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan_path(model).write_bytes(b"{")
    options = ["--autotune", "--calls", "3", "--threads", "1"]
    assert main(["bench", str(model), "--input", str(model.with_name("x.npy")), *options]) == 0
    assert "plan model.bitspike.plan.json" in capsys.readouterr().out.splitlines()[0]
    assert json.loads(plan_path(model).read_text())["program"] == digest_of(load(model).spec)
    assert not [path for path in model.parent.iterdir() if path.name.startswith(".")]
    command = [sys.executable, "-m", "bitspike", "bench", str(model), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and "plan model.bitspike.plan.json" in done.stdout, done.stderr


def test_the_interpreter_has_nothing_to_tune(model: Path) -> None:
    with pytest.raises(ProgramError, match="the native engine must run the program"):
        autotune(load(model, "interpreter"))


def test_a_program_without_weights_has_an_empty_plan() -> None:
    b = Builder(Input(Value((3,), -9, 9, 0, 1)))
    first = {"first": b.constant(np.array([4])), "charge": b.constant(np.array([4]))}
    program = b.finish(b.add("fire", [INPUT], {"count": [1], "reset": "soft"}, first))
    assert autotune(Program(program.spec, "native", 1), None, 0.0).forms == {}

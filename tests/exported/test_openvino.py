"""Exported programs in OpenVINO, which computes integers of a graph in float32: the integers of the interpreter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.export import export
from bitspike.runtime import Program
from exchange import ran
from programs.drawn import drawn, input_of
from programs.edges import FAMILIES
from programs.golden import golden, images
from programs.residual import resnet

pytest.importorskip("onnx", reason="not run: onnx is not installed")
pytestmark = pytest.mark.slow
FORMS = ("unrolled", "scan", "step")


def write(folder: Path, name: str, program: Program, x: Any, form: str) -> None:
    """A program with inputs, call by call, and what should come out."""
    rates, final = any(m.rates for m in program.operations), any(m.final for m in program.operations)
    if form == "scan" and rates:
        return
    export(program, "onnx", folder / f"{name}.onnx", form=form)
    levels, repeat = program.sequence(x), program.spec.input.repeat
    if form != "step":
        calls, answers = [np.ascontiguousarray(levels[0] if repeat else levels)], [program(x).levels]
    else:
        size = program.spec.input.value.steps if rates else 1
        calls, answers, state = [], [], None
        for start in range(0, len(levels), size):
            chunk = np.ascontiguousarray(levels[start : start + size])
            found, state = program.stream(chunk, state)
            calls.append(chunk if rates else chunk[0])
            answers.append(found.levels if rates or final else found.levels[0])
    np.savez(folder / f"{name}.npz", x=np.stack(calls), y=np.stack(answers), batch=levels.shape[1])


def test_openvino_gives_the_integers_of_the_interpreter(tmp_path: Path) -> None:
    for seed in range(45):
        program = drawn(seed, echoes=False)
        write(tmp_path, f"drawn{seed}", program, input_of(program, seed, batch=1 + seed % 3), FORMS[seed % 3])
    for family, cases in FAMILIES.items():
        pairs = [pair for case in cases for pair in family(*case)]
        for i, (program, x) in enumerate(pairs[:: max(1, len(pairs) // 12)]):
            write(tmp_path, f"{family.__name__}{i}", program, x, FORMS[i % 3])
    for form in FORMS:
        write(tmp_path, f"golden-{form}", golden(), images(), form)
        x = np.random.default_rng(0).normal(size=(2, 3, 16, 16)).astype(np.float32)
        write(tmp_path, f"resnet-{form}", resnet((8, 16), 1, steps=4, side=16), x, form)
    found = ran("openvino_run.py", str(tmp_path))
    assert len(found) == len(list(tmp_path.glob("*.onnx"))) > 80
    assert not {name: row for name, row in found.items() if row[0]}

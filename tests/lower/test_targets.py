"""Programs of regressions and of sets of labels: compiled, verified and run in their own terms, not by a class."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import bitspike
from bitspike.cli import main
from bitspike.export.page.target import Page
from bitspike.export.target import Source
from bitspike.files import read_json
from bitspike.layers import Linear, MeanReadout, Repeat
from bitspike.lower import CompileReport, compare, outputs
from bitspike.lower.targets import Tally, targets_of
from bitspike.runtime import INPUT, Program, load, save
from bitspike.runtime.ops import OPERATIONS
from small_recipes import own


@pytest.fixture(scope="module", params=["labels", "numbers"])
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of that kind, a program of it, and three samples."""
    folder = tmp_path_factory.mktemp(request.param)
    x = np.random.default_rng(0).normal(size=(240, 6)).astype(np.float32)
    y = np.stack([x[:, 0] - x[:, 1], x[:, 2]], 1)
    np.savez(folder / "own.npz", x=x, y=y > 0 if request.param == "labels" else y)
    np.save(folder / "x.npy", x[:3])
    run, loss = folder / request.param, "bce" if request.param == "labels" else "mse"
    (folder / "recipe.toml").write_text(own("own", loss, 16, 6))
    main(["train", str(folder / "recipe.toml"), "--out", str(run), "--quiet", "--set", f"data.root={folder}"])
    main(["compile", str(run), "-o", str(run / "m.bitspike"), "--samples", "64"])
    return run


def test_a_program_says_what_its_outputs_are(run: Path) -> None:
    program = load(run / "m.bitspike")
    assert targets_of(program) == run.name and program.spec.classes == ("y0", "y1")
    report = CompileReport.of(program)
    if run.name == "numbers":
        assert report.agreement is None and "outputs are numbers" in str(report) and "agreement" not in str(report)
    else:
        assert report.agreement is not None and report.agreement > 0.9


def test_verify_bounds_what_the_task_is_about(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = str(run / "m.bitspike")
    main(["verify", str(run), model, "--drop", "0.1", "--agreement", "0.9"])
    shown, found = capsys.readouterr().out, read_json(run / "verify.json")
    assert isinstance(found, dict) and found["kept"]
    summary = read_json(run / "summary.json")
    assert isinstance(summary, dict)
    if run.name == "numbers":
        assert found["agreement"] is None and found["accuracy"] is None and "agreement" not in shown
        assert found["folded_error"] == pytest.approx(summary["folded_test_error"], rel=1e-5)
        assert found["error"] == pytest.approx(found["folded_error"], rel=0.1)
    else:
        assert found["folded_accuracy"] == summary["metrics"]["folded_test"]["subset_accuracy"]
        assert found["agreement"] >= 0.9 and found["error"] is None


def test_verify_fails_where_outputs_are_wrong(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program of the negated network: whatever it is about, it is about the opposite."""
    spec, wrong = load(run / "m.bitspike").spec, run / "wrong.bitspike"
    last = next(op for op in reversed(spec.operations) if op.kind == "linear")
    weight = spec.constants[last.tensors["weight"]].array
    weight[:] = -weight
    known = {INPUT: spec.input.value}
    for op in spec.operations:
        arrays = {role: spec.constants[name].array for role, name in op.tensors.items()}
        made = OPERATIONS[op.kind](op, tuple(known[name] for name in op.inputs), arrays)
        known |= dict(zip(op.outputs, made.written, strict=True))
    save(Program(replace(spec, values={name: known[name] for name in spec.values})), wrong)
    with pytest.raises(SystemExit) as caught:
        main(["verify", str(run), str(wrong), "--layers", "8"])
    shown = capsys.readouterr().out
    assert caught.value.code == 1 and "beyond the bound: " in shown
    assert ("times" in shown) == (run.name == "numbers") and ("agreement" in shown) == (run.name == "labels")


def test_run_shows_values_or_labels(run: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    main(["run", str(run / "m.bitspike"), "--input", str(run.parent / "x.npy"), "--json", str(tmp_path / "p.json")])
    shown, found = capsys.readouterr().out.splitlines(), read_json(tmp_path / "p.json")
    assert isinstance(found, dict)
    values = load(run / "m.bitspike")(np.load(run.parent / "x.npy")).values
    rows = found["predictions"]
    if run.name == "numbers":
        assert shown[0].split() == ["input", "y0", "y1"]
        assert [list(row["values"].values()) for row in rows] == values.tolist()
    else:
        assert shown[0].split() == ["input", "labels"]
        wanted = [[f"y{k}" for k in range(2) if row[k] > 0] for row in values]
        assert [[label["label"] for label in row["labels"]] for row in rows] == wanted


def test_folding_agrees_in_terms_of_the_task(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["fold", str(run)])
    shown, report = capsys.readouterr().out, read_json(run / "fold.json")
    assert isinstance(report, dict) and (report["agreement"] is None) == (run.name == "numbers")
    assert ("agreement" in shown) == (run.name == "labels")


def compiled(targets: str | None) -> Program:
    net = nn.Sequential(Repeat(2), Linear(2, 3), bitspike.neurons.LIF(), Linear(3, 2), MeanReadout())
    x = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    return bitspike.compile(bitspike.fold(net, x), x, info=None if targets is None else {"targets": targets})


def test_a_page_shows_classes_only() -> None:
    for targets, refused in ((None, False), ("labels", True), ("numbers", True)):
        losses = Page().losses(Source("net", program=compiled(targets)), {})
        assert any("the page shows a class" in loss for loss in losses) == refused
    with pytest.raises(ValueError, match="targets in its info must be one of 'classes', 'labels', 'numbers'"):
        compiled("tags")


def test_agreement_over_steps_and_batches() -> None:
    """Outputs of every step [T, B, K] count by their mean; batches by their samples."""
    truth = np.array([[True, False], [True, True]])
    wanted = np.where(truth, 1.0, -1.0)
    steps = np.stack([3 * wanted, -wanted])
    tally = Tally("labels", steps=True)
    tally.add(steps, wanted[None], truth)
    tally.add(-wanted[None, :1], wanted[None, :1], truth[:1])
    figures = tally.figures()
    assert figures["agreement"] == figures["accuracy"] == 2 / 3 and figures["folded_accuracy"] == 1
    numbers = Tally("numbers", steps=True)
    numbers.add(steps, wanted[None], wanted + 1)
    assert numbers.figures() == {
        "agreement": None,
        "accuracy": None,
        "folded_accuracy": None,
        "error": 1,
        "folded_error": 1,
    }


@pytest.mark.parametrize("steps", [False, True])
def test_agreement_of_maps_is_that_of_their_places(steps: bool) -> None:
    """Outputs [B, K, H, W], 2 samples of 2·2 places: one of 8 has not the network's class, two have not the truth."""
    wanted = np.zeros((2, 3, 2, 2))
    wanted[:, 1] = 1.0
    got = wanted.copy()
    got[0, 2, 0, 1] = 5.0
    truth = np.ones((2, 2, 2), dtype=np.int64)
    truth[1, 0, 0] = 0
    tally = Tally("classes", steps)
    tally.add(got[None] if steps else got, wanted[None] if steps else wanted, truth)
    figures = tally.figures()
    assert (tally.samples, figures["agreement"]) == (2, 7 / 8)
    assert (figures["accuracy"], figures["folded_accuracy"]) == (6 / 8, 7 / 8)
    labels = Tally("labels", steps)
    labels.add(got[None] if steps else got, wanted[None] if steps else wanted, wanted > 0)
    assert labels.figures()["agreement"] == labels.figures()["accuracy"] == 7 / 8
    numbers = Tally("numbers", steps)
    numbers.add(got[None] if steps else got, wanted[None] if steps else wanted, wanted)
    assert numbers.figures()["error"] == (25 / 24) ** 0.5 and numbers.figures()["folded_error"] == 0


def test_one_batch_may_stand_alone() -> None:
    net = nn.Sequential(Repeat(2), Linear(2, 3), bitspike.neurons.LIF(), Linear(3, 2), MeanReadout())
    x = torch.randn(16, 2, generator=torch.Generator().manual_seed(0))
    folded = bitspike.fold(net, x)
    program = bitspike.compile(folded, x)
    assert compare(program, folded, x) == compare(program, folded, [x])
    assert outputs(program, folded, x) == outputs(program, folded, [x]) and outputs(program, folded, x).samples == 16

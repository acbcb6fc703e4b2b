"""compile, verify, run and inspect on a small run of digits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bitspike.cli import main
from bitspike.data import load
from bitspike.files import read_json
from bitspike.lower import CompileReport
from bitspike.runtime import load as load_program

SETS = ["model.options.width=8", "train.epochs=6", "train.threads=1", "data.test=false"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run and two programs of it."""
    folder = tmp_path_factory.mktemp("run") / "run"
    main(["train", "digits", "--out", str(folder), "--set", *SETS])
    main(
        ["compile", str(folder), "-o", str(folder / "m.bitspike"), "--samples", "64", "--json", str(folder / "c.json")]
    )
    main(["compile", str(folder), "-o", str(folder / "p.bitspike"), "--samples", "64", "--pixels"])
    return folder


def test_compile_leaves_a_program_with_its_report(run: Path) -> None:
    program = load_program(run / "m.bitspike")
    report = CompileReport.of(program)
    document = read_json(run / "c.json")
    assert document.pop("size_bytes") == (run / "m.bitspike").stat().st_size
    assert document == report.as_dict() and report.samples == 64
    assert program.spec.classes == tuple(str(k) for k in range(10))
    assert program.spec.info["top"] == 16 and program.spec.info["encoder"] == "repeat"


@pytest.mark.parametrize("name", ["m.bitspike", "p.bitspike"])
def test_verify_holds_it_against_the_folded_network(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["verify", str(run), str(run / name), "--samples", "100", "--drop", "0.03", "--json", str(run / "v.json")])
    assert "100 samples, agreement" in capsys.readouterr().out
    found = read_json(run / "verify.json")
    assert found == read_json(run / "v.json") and found["kept"] and found["agreement"] >= 0.95
    assert found["samples"] == 100 and abs(found["accuracy"] - found["folded_accuracy"]) <= 0.05


def test_verify_fails_beyond_a_bound(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = run / "wrong.bitspike"
    spec = load_program(run / "m.bitspike").spec
    last = next(op for op in reversed(spec.operations) if op.kind == "linear")
    constant = spec.constants[last.tensors["weight"]]
    constant.array[:] = constant.array[::-1].copy()  # classes in the wrong order
    from bitspike.runtime import Program, save

    save(Program(spec), other)
    with pytest.raises(SystemExit) as end:
        main(["verify", str(run), str(other), "--samples", "60"])
    assert end.value.code == 1 and "beyond the bound" in capsys.readouterr().out


def test_run_takes_arrays_raw_or_normalised(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = load("digits").test
    raw = data.images[:5]
    np.save(tmp_path / "raw.npy", raw.numpy())
    np.save(tmp_path / "real.npy", data.normalise(raw).numpy())
    found = []
    for model, given in (("m", "raw"), ("m", "real"), ("p", "raw")):
        out = tmp_path / f"{model}-{given}.json"
        main(["run", str(run / f"{model}.bitspike"), "--input", str(tmp_path / f"{given}.npy"), "--json", str(out)])
        found.append([row["classes"][0]["class"] for row in read_json(out)["predictions"]])
    assert found[0] == found[1] == found[2] and len(found[0]) == 5
    assert "raw.npy[4]" in capsys.readouterr().out


def test_run_takes_pictures(run: Path, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    raw = load("digits").test.images[:2]
    for i in range(2):
        image.fromarray(np.minimum(raw[i, 0].numpy().astype(int) * 16, 255).astype(np.uint8)).save(
            tmp_path / f"{i}.png"
        )
    main(["run", str(run / "m.bitspike"), "--input", str(tmp_path), "--json", str(tmp_path / "o.json")])
    assert [row["input"] for row in read_json(tmp_path / "o.json")["predictions"]] == ["0.png", "1.png"]


def test_inspect_shows_operations_and_memory(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", str(run / "m.bitspike"), "--json", str(tmp_path / "i.json")])
    out, found = capsys.readouterr().out, read_json(tmp_path / "i.json")
    assert "convolution" in out and "16 bit" in out
    assert [row["kind"] for row in found["operations"]][-1] == "mean" and found["peak_bytes"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["inspect", "{run}/recipe.toml"], "bitspike: "),
        (["run", "{run}/m.bitspike", "--input", "nowhere.npy"], "it must be a file or a folder"),
        (["run", "{run}/m.bitspike", "--input", "{run}/wrong.npy"], "its array must be [B, 1, 8, 8]"),
        (["compile", "{run}", "-o", "{run}/x", "--samples", "0"], "--samples: it must lie in"),
        (["verify", "{run}", "{run}/m.bitspike", "--drop", "2"], "--drop: it must lie in"),
    ],
)
def test_bad_input_is_one_line(run: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(run / "wrong.npy", np.zeros((3, 1, 9, 9), np.float32))
    with pytest.raises(SystemExit) as end:
        main([a.format(run=run) for a in arguments])
    error = capsys.readouterr().err
    assert end.value.code == 2 and words in error and len(error.strip().splitlines()) == 1

"""compile, verify, run and inspect on a small run of digits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bitspike.cli import main
from bitspike.data import load
from bitspike.files import read_json
from bitspike.lower import CompileReport
from bitspike.runtime import load as load_program
from bitspike.runtime.engine import Native, why_missing

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
    assert document.pop("engine") == program.engine.facts
    assert document == report.as_dict() and report.samples == 64
    assert program.spec.classes == tuple(str(k) for k in range(10))
    assert program.spec.info["top"] == 16 and program.spec.info["encoder"] == "repeat"


@pytest.mark.parametrize("name", ["m.bitspike", "p.bitspike"])
def test_verify_holds_it_against_the_folded_network(run: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    bounds = ["--samples", "100", "--drop", "0.03", "--layers", "70"]
    main(["verify", str(run), str(run / name), *bounds, "--json", str(run / "v.json")])
    out = capsys.readouterr().out
    assert "100 samples, agreement" in out and "the first 70 samples; outputs: engine: " in out
    found = read_json(run / "verify.json")
    assert found == read_json(run / "v.json") and found["kept"] and found["agreement"] >= 0.95
    assert found["layer_samples"] == 70 and {layer["spikes"] % 70 for layer in found["layers"].values()} == {0}
    native = load_program(run / name).engine.name == "native"
    assert found["interpreted"] == 70 * native and (found["different"], found["first_different"]) == (0, None)
    assert ("70 samples, equal bit for bit" in out) == native
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


@pytest.mark.skipif(why_missing() is not None, reason="no native engine")
def test_verify_fails_where_the_engine_errs(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One unit of one logit of one sample is found, and so is a number that was clamped uncounted."""
    verify = ["verify", str(run), str(run / "m.bitspike"), "--samples", "100", "--drop", "0.03", "--layers", "70"]
    call = Native.call
    monkeypatch.setattr(Native, "call_real", lambda engine, x: None)  # so all goes through `call`

    def wrong(engine: Native, x: Any) -> Any:
        out, *rest = call(engine, x)
        if x.shape[1] == 6:  # samples 64 to 69
            out[0][0, 3, 1] += 1
        return out, *rest

    def uncounted(engine: Native, x: Any) -> Any:
        return *call(engine, x)[:2], {"relu": 1}

    for broken, words in ((wrong, "1 differ, sample 67 first"), (uncounted, "70 differ, sample 0 first")):
        monkeypatch.setattr(Native, "call", broken)
        with pytest.raises(SystemExit) as end:
            main(verify)
        assert end.value.code == 1 and words in capsys.readouterr().out
        assert read_json(run / "verify.json")["different"] > 0


@pytest.mark.parametrize("engine", ["auto", "interpreter", "native"])
def test_an_engine_is_chosen_and_named(
    run: Path, tmp_path: Path, engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = why_missing()
    if engine == "native" and missing is not None:
        pytest.skip(f"not run: {missing}")
    np.save(tmp_path / "x.npy", load("digits").test.images[:3].numpy())
    out = tmp_path / "o.json"
    model, options = str(run / "m.bitspike"), ["--engine", engine, "--threads", "1", "--json", str(out)]
    expected = "interpreter" if engine == "interpreter" or missing is not None else "native"
    main(["run", model, "--input", str(tmp_path / "x.npy"), *options])
    assert f"engine: {expected}" in capsys.readouterr().err
    facts = read_json(out)["engine"]
    assert facts["name"] == expected and facts["threads"] == 1 and (facts["why"] is None) == (expected == "native")
    main(["inspect", model, *options])
    assert f"engine: {expected}" in capsys.readouterr().out
    groups = read_json(out)["engine"]["groups"]
    assert (sum(row["macs"] for row in groups) > 0) == (expected == "native")
    main(["bench", model, "--calls", "3", "--warmup", "1", "--batch", "2", *options])
    assert f"engine: {expected}" in capsys.readouterr().out
    found = read_json(out)
    assert [row["batch"] for row in found["latency"]] == [1, 2] and found["input"] == "random"
    assert [row["layer"] for row in found["groups"]] == [row["layer"] for row in groups]


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
        (["run", "{run}/m.bitspike", "--input", "{run}/int.npy"], "must be float, the numbers that the network takes"),
        (["bench", "{run}/m.bitspike", "--input", "{run}/int.npy"], "must be float, the numbers that the network"),
        (["run", "{run}/m.bitspike", "--input", "{run}/bright.npy"], "pixels must lie in 0..16"),
        (["run", "{run}/m.bitspike", "--input", "{run}/empty.npy"], "it must be an .npy file of numbers"),
        (["run", "{run}/m.bitspike", "--input", "{run}/recipe.toml"], "it must be X.npy, a picture, or a folder"),
        (["compile", "{run}", "-o", "{run}/x", "--samples", "0"], "--samples: it must lie in"),
        (["verify", "{run}", "{run}/m.bitspike", "--drop", "2"], "--drop: it must lie in"),
        (["inspect", "{run}/m.bitspike", "--threads", "0"], "--threads: it must lie in"),
        (["bench", "{run}/m.bitspike", "--batch", "0"], "--batch: it must lie in"),
    ],
)
def test_bad_input_is_one_line(run: Path, arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(run / "wrong.npy", np.zeros((3, 1, 9, 9), np.float32))
    np.save(run / "int.npy", load("digits").test.images[:3].long().numpy())
    np.save(run / "bright.npy", load("digits").test.images[:3].numpy() * 15)
    (run / "empty.npy").touch()
    with pytest.raises(SystemExit) as end:
        main([a.format(run=run) for a in arguments])
    error = capsys.readouterr().err
    assert end.value.code == 2 and words in error and len(error.strip().splitlines()) == 1

"""Numbers out of their range, usage errors, deep files, a reader that leaves: one line and no trace, every command."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args, get_type_hints

import pytest
import torch

from bitspike import cli
from bitspike.cli import COMMANDS, main
from bitspike.schema import to_mapping
from bitspike.training.recipe import Recipe, read_recipe

RECIPE = """
name = "tiny"
[data]
name = "digits"
batch_size = 256
test = false
[model]
name = "mlp"
T = 1
[model.options]
hidden = [8]
[neuron]
name = "relu"
[weight]
name = "float"
[train]
epochs = 1
threads = 1
"""
HUGE = "9" * 30
BAD: dict[tuple[str, str], tuple[str, ...]] = {
    ("train", "checkpoint_steps"): ("0", "-5", "nan", "2147483648", HUGE),
    ("train", "budget"): ("size=0", "size=-1", "size=nan", "size=1e999", "size"),
    ("train", "set"): ("train.epochs=0", "train.lr=-1", "train.lr=nan", "train.lr=1e300", "model.T=10001", "seed=-1"),
    ("fold", "samples"): ("0", "-1", "nan", "1.5", HUGE),
    ("cost", "samples"): ("0", "-1", "nan", "1.5", HUGE),
    ("cost", "input_bits"): ("0", "-1", "nan", "65", HUGE),
    ("cost", "activation_bits"): ("0", "-1", "nan", "33", HUGE),
    ("cost", "buffer_bytes"): ("-1", "nan", HUGE),
    ("cost", "membrane_bits"): ("0", "-1", "nan", "65", HUGE),
    ("compile", "samples"): ("0", "-1", "nan", "1.5", HUGE),
    ("verify", "samples"): ("-1", "nan", "1.5", HUGE),
    ("verify", "drop"): ("-0.1", "1.1", "nan", HUGE),
    ("verify", "agreement"): ("-0.1", "1.1", "nan", HUGE),
    ("run", "top"): ("0", "-1", "nan", "1.5", HUGE),
    ("verify", "layers"): ("-1", "nan", HUGE),
    ("verify", "threads"): ("0", "-1", "65", "1.5", HUGE),
    ("run", "threads"): ("0", "-1", "65", "nan", HUGE),
    ("inspect", "threads"): ("0", "-1", "65", "nan", HUGE),
    ("bench", "threads"): ("0", "-1", "65", "nan", HUGE),
    ("bench", "batch"): ("0", "-1", "nan", "1048577", HUGE),
    ("bench", "calls"): ("0", "-1", "nan", "1000001", HUGE),
    ("bench", "warmup"): ("-1", "nan", "1000001", HUGE),
    ("convert", "T"): ("0", "-1", "nan", "10001", HUGE),
    ("convert", "set"): ("convert.images=0", "convert.images=-1", "convert.percentile=nan", "convert.percentile=101"),
    ("view", "T"): ("0", "-1", "nan", "1001", HUGE),
    ("view", "step_us"): ("0", "-1", "nan", "1000000001", HUGE),
    ("view", "start_us"): ("-1", "nan", "1.5", HUGE),
    ("view", "end_us"): ("0", "-1", "nan", HUGE),
    ("view", "index"): ("-1", "nan", "1.5", HUGE),
    ("view", "samples"): ("0", "-1", "nan", "9", HUGE),
    ("report", "samples"): ("-1", "nan", "9", "1.5", HUGE),
    ("zoo", "top"): ("0", "-1", "nan", "1.5", HUGE),
    ("zoo", "threads"): ("0", "-1", "65", "nan", HUGE),
    ("reproduce", "seed"): ("-1", "nan", "1.5", HUGE),
    ("reproduce", "set"): ("train.epochs=0", "train.lr=nan", "data.batch_size=-3"),
    ("study", "shard"): ("0/0", "1/1", "-1/2", "nan", f"{HUGE}/2", "²/³", "1"),
    ("study", "ray_gpus"): ("-1", "nan", "65", "1", HUGE),
    ("study", "set"): ("train.epochs=0", "train.lr=nan", "data.batch_size=-3"),
}
"""Command and option → values out of range. Every option that is a number must be here (a test below)."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recipe, a queue and a run."""
    folder = tmp_path_factory.mktemp("options")
    (folder / "recipe.toml").write_text(RECIPE)
    arms = 'name = "q"\nout = "out"\nbase = "recipe.toml"\nseeds = [0]\n[[arms]]\nname = "one"\n'
    (folder / "queue.toml").write_text(arms)
    main(["train", str(folder / "recipe.toml"), "--out", str(folder / "run"), "--quiet"])
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on the error stream of a command that ends with exit code 2."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert caught.value.code == 2 and shown.out == "" and len(lines) == 1, shown
    assert lines[0].startswith("bitspike: "), lines
    return lines[0]


def usual(command: str, folder: Path, out: Path) -> list[str]:
    """A command that would work."""
    return {
        "train": [str(folder / "recipe.toml"), "--out", str(out), "--quiet"],
        "fold": [str(folder / "run")],
        "cost": [str(folder / "run")],
        "compile": [str(folder / "run"), "--out", str(out)],
        "verify": [str(folder / "run"), str(folder / "none.bitspike")],
        "run": [str(folder / "none.bitspike"), "--input", str(folder / "none.npy")],
        "inspect": [str(folder / "none.bitspike")],
        "bench": [str(folder / "none.bitspike")],
        "convert": [str(folder / "run"), "--out", str(out)],
        "view": [str(folder / "none.bin"), "--out", str(out.with_suffix(".png"))],
        "report": [str(folder / "run"), "--out", str(out.with_suffix(".html"))],
        "zoo": ["run", "digits/binary"],
        "reproduce": ["digits/binary", "--out", str(out), "--quiet"],
        "study": [str(folder / "queue.toml"), "--out", str(out), "--quiet"],
    }[command]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_option_that_is_a_number_is_in_the_table() -> None:
    texts = {"set", "budget", "shard"}
    found = {
        (name, option)
        for name, function in COMMANDS.items()
        for option, hint in get_type_hints(function).items()
        if option in texts or {int, float} & {hint, *get_args(hint)}
    }
    assert found == set(BAD)
    assert all(inspect.signature(COMMANDS[name]).parameters[option] for name, option in BAD)


@pytest.mark.parametrize(("command", "option", "value"), [(*pair, value) for pair, row in BAD.items() for value in row])
def test_a_number_out_of_range_is_one_line_and_leaves_nothing(
    command: str, option: str, value: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = files(place)
    line = refused(capsys, command, *usual(command, place, tmp_path / "out"), f"--{option.replace('_', '-')}={value}")
    named = value.split("=")[0].split(".")[-1] if "=" in value else option
    assert re.search(named.replace("_", "[_-]"), line), line
    assert not files(tmp_path) and files(place) == before


@pytest.mark.parametrize("command", ["train", "convert", "study"])
def test_the_corrected_command_runs_where_the_wrong_one_was(
    command: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for (name, option), values in BAD.items():
        if name == command:
            flag = f"--{option.replace('_', '-')}={values[0]}"
            refused(capsys, command, *usual(command, place, tmp_path / "out"), flag)
    main([command, *usual(command, place, tmp_path / "out")])
    assert files(tmp_path / "out")


def numbers(cls: type, before: str = "") -> Iterator[tuple[str, type]]:
    """Keys of a recipe that take numbers."""
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        kinds = [kind for kind in get_args(hints[field.name]) if kind is not type(None)] or [hints[field.name]]
        for kind in kinds:
            if isinstance(kind, type) and dataclasses.is_dataclass(kind):
                yield from numbers(kind, f"{before}{field.name}.")
            elif kind in (int, float):
                yield before + field.name, kind


@pytest.mark.parametrize(("key", "kind"), [pair for pair in numbers(Recipe) if "layers" not in pair[0]])
def test_no_number_of_a_recipe_is_taken_out_of_range(key: str, kind: type) -> None:
    """All are >= 0 and fit into 64 or 32 bits; what is not in range is refused by name, in one line."""
    for value in ("-1", "nan", "inf", "1e300", "-1e300", "true", *([HUGE, "1.5"] if kind is int else [])):
        with pytest.raises((ValueError, TypeError), match=key.split(".")[-1]) as caught:
            read_recipe(
                "digits_adaptive", (f"{key}={value}", "convert.std=[1]") if "mean" in key else (f"{key}={value}",)
            )
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["the command", "train", "bitspike --help"]),
        (["tran", "digits"], ["'tran'", "did you mean 'train'"]),
        (["train", "digits"], ["train: Missing", "--out PATH", "bitspike train --help"]),
        (["train", "digits", "--out"], ["--out"]),
        (["train", "digits", "--out", "x", "--frob", "3"], ["train: Unrecognized", "--frob"]),
        (["train", "digits", "--out", "x", "--checkpoint-steps", "abc"], ["--checkpoint-steps", "'abc'"]),
        (["train", "digits", "--out", "x", "--quiet=yes"], ["train: Unrecognized"]),
        (["cost", "x", "--order", "foo"], ["'foo'", "'layer', 'step'", "bitspike cost --help"]),
        (["cost", "x", "--samples"], ["--samples"]),
        (["eval"], ["eval: Missing", "RUN"]),
        (["eval", "x", "y"], ["Unrecognized", "y"]),
        (["study"], ["study: Missing", "QUEUE"]),
        (["--wrong"], ["--wrong", "bitspike --help"]),
    ],
)
def test_usage_errors_are_one_line(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    line = refused(capsys, *arguments)
    assert all(word in line for word in words), line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "x = " + "[" * 5000 + "]" * 5000,
        "x = " + "[" * 200 + "]" * 200,
        "x = " + "{a = " * 5000 + "1" + "}" * 5000,
        ".".join("a" * 3000) + " = 1",
        "[" + ".".join("a" * 3000) + "]\nx = 1",
    ],
)
def test_deeply_nested_toml_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "deep.toml").write_text(text)
    for command in ("train", "study"):
        line = refused(capsys, command, str(tmp_path / "deep.toml"), "--out", str(tmp_path / "out"))
        assert "deep.toml: tables and lists must be nested at most 64 deep" in line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("text", ["a." * 5000 + "a=1", "model.options.a=" + "[" * 5000 + "]" * 5000])
def test_deeply_nested_settings_are_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "64 deep" in refused(capsys, "train", "digits", "--out", str(tmp_path / "out"), "--set", text)


def test_a_deeply_nested_json_is_one_line(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / "summary.json").write_text("[" * 10**5 + "]" * 10**5)
    assert "64 deep" in refused(capsys, "compare", str(tmp_path / "run"))


@pytest.mark.parametrize("command", ["eval", "fold", "cost", "compare", "train"])
def test_a_reader_that_leaves_ends_a_command_quietly(command: str, place: Path, tmp_path: Path) -> None:
    """What the command works for is written all the same."""
    pytest.importorskip("matplotlib")
    run, result = tmp_path / "run", tmp_path / "result.json"
    given = [str(run)]
    if command == "train":
        given = [str(place / "recipe.toml"), "--out", str(run), "--quiet"]
    else:
        shutil.copytree(place / "run", run)
    if command == "compare":
        given += ["--out", str(tmp_path)]
    call = [sys.executable, "-m", "bitspike", command, *given, "--json", str(result)]
    with subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (141, b"")
    assert isinstance(json.loads(result.read_text()), dict)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory.\nTried"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_too_little_memory_is_one_line(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "parse", lambda *_: full)
    assert "lower data.batch_size" in refused(capsys, "train", "digits", "--out", "x")


def test_other_runtime_errors_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fault() -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(cli, "parse", lambda *_: fault)
    with pytest.raises(RuntimeError, match="of ours"):
        main(["demo"])


def test_widths_of_a_perceptron_are_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = ["train", "digits", "--quiet", "--out", str(tmp_path / "out"), "--set"]
    for hidden in ("8", "[0]", "[-1]", "[2.5]", f"[{HUGE}]", "[]"):
        options = f"model.options={{hidden = {hidden}}}"
        line = refused(capsys, *train, "model.name=mlp", options)
        assert "mlp: " in line and "hidden" in line
    for patterns in ("0", "[0]", "1.5"):
        assert "patterns" in refused(capsys, *train, f"model.options.stimulated={patterns}")
    assert not (tmp_path / "out").exists()


def test_a_recipe_reads_back(place: Path) -> None:
    """Guards the helper above: the keys it finds are those of a resolved recipe."""
    whole = to_mapping(read_recipe(place / "recipe.toml"))
    assert SimpleNamespace(**whole["train"]).epochs == 1 and "train.lr" in dict(numbers(Recipe))

"""The command line: queues in a folder, JSON, shards, exit codes, one line on bad input."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bitspike.cli import COMMANDS, main
from bitspike.files import read_json
from bitspike.training.recipe import Recipe

BASE = """
name = "tiny"
[data]
name = "digits"
batch_size = 16
[model.options]
width = 4
stem_stride = 1
[neuron]
name = "lif"
[weight]
name = "float"
[train]
epochs = 1
threads = 1
"""
QUEUE = """
name = "tiny-queue"
out = "out"
base = "base.toml"
seeds = [0, 1]
[[arms]]
name = "binary"
[[arms]]
name = "ternary"
[arms.replace.neuron]
name = "ternary"
"""


@pytest.fixture
def queue(tmp_path: Path) -> Path:
    (tmp_path / "base.toml").write_text(BASE)
    (tmp_path / "queue.toml").write_text(QUEUE)
    return tmp_path / "queue.toml"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """`run_job` replaced by one that only says what it was given."""
    calls: list[tuple[str, int]] = []

    def run(recipe: Recipe, *_: Any) -> SimpleNamespace:
        calls.append((recipe.neuron.name, recipe.seed))
        figures = {"test_accuracy": 0.5 + 0.1 * recipe.seed, "validation_accuracy": 0.25, "spike_bits": 1}
        costs = {
            "s_ace": 3e6,
            "bit_budget": 2.0,
            "adds": 2e6,
            "shift_adds": 0.0,
            "multiplications": 1e6,
            "size_bytes": 1e3,
        }
        return SimpleNamespace(result={**figures, **costs})

    monkeypatch.setattr(sys.modules["bitspike.commands.study"], "run_job", run)
    return calls


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of a command that ends with exit code 2."""
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("bitspike: "), lines
    return lines[0]


def test_a_queue_runs_and_is_skipped_the_second_time(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """For real: one epoch of the digits, one arm, one seed; the file is the job's result."""
    queue.write_text(QUEUE.replace("[0, 1]", "[0]").split('[[arms]]\nname = "ternary"')[0])
    main(["study", str(queue)])
    first = capsys.readouterr()
    out = queue.parent / "out"
    document = read_json(out / "binary-seed0.json")
    assert document["result"]["test_accuracy"] > 0.2 and document["recipe"]["name"] == "tiny"
    assert f"{100 * document['result']['test_accuracy']:.2f}" in first.out
    assert "[1/1] binary seed 0: running\n" in first.err and "not run" not in first.err
    assert "binary seed 0: running: epoch 1.0/1" in first.err
    assert [p.name for p in out.iterdir() if p.is_file()] == ["binary-seed0.json"]
    assert not list((out / ".cut").iterdir())
    written = (out / "binary-seed0.json").stat().st_mtime_ns
    main(["study", str(queue)])
    second = capsys.readouterr()
    assert "binary seed 0: done" in second.err and second.out == first.out
    assert (out / "binary-seed0.json").stat().st_mtime_ns == written


def test_every_job_once(queue: Path, fake: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]) -> None:
    main(["study", str(queue), "--quiet"])
    assert fake == [("lif", 0), ("ternary", 0), ("lif", 1), ("ternary", 1)]
    shown = capsys.readouterr()
    assert shown.err == ""
    header, binary, ternary = shown.out.strip().splitlines()
    assert header.startswith("arm") and binary.split()[:3] == ["binary", "2", "55.00"]
    assert ternary.split()[0] == "ternary"
    main(["study", str(queue), "--quiet"])
    assert len(fake) == 4
    (queue.parent / "out" / "binary-seed1.json").unlink()
    main(["study", str(queue), "--quiet"])
    assert fake[4:] == [("lif", 1)]


def test_table_only_runs_nothing(queue: Path, fake: list[tuple[str, int]], capsys: pytest.CaptureFixture[str]) -> None:
    main(["study", str(queue), "--table-only"])
    assert fake == [] and "not run" in capsys.readouterr().out
    assert not (queue.parent / "out").exists()


def test_the_summary_as_json(queue: Path, fake: list[tuple[str, int]], tmp_path: Path) -> None:
    target = tmp_path / "deep" / "summary.json"
    main(["study", str(queue), "--quiet", "--json", str(target)])
    document = json.loads(target.read_text())
    assert document["study"] == "tiny-queue" and [arm["arm"] for arm in document["arms"]] == ["binary", "ternary"]
    metric = document["arms"][0]["metrics"]["test_accuracy"]
    assert metric["mean"] == pytest.approx(0.55) and metric["n"] == 2
    assert metric["std"] == pytest.approx(0.1 / 2**0.5)


def test_shards_share_a_queue(queue: Path, fake: list[tuple[str, int]]) -> None:
    main(["study", str(queue), "--quiet", "--shard", "1/2"])
    assert fake == [("ternary", 0), ("ternary", 1)]
    main(["study", str(queue), "--quiet", "--shard", "0/2"])
    assert sorted(fake) == [("lif", 0), ("lif", 1), ("ternary", 0), ("ternary", 1)]


def test_set_and_out(queue: Path, fake: list[tuple[str, int]], tmp_path: Path) -> None:
    main(["study", str(queue), "--quiet", "--out", str(tmp_path / "other"), "--set", "train.lr=0.5", "data.pad=1"])
    document = read_json(tmp_path / "other" / "binary-seed0.json")
    assert document["recipe"]["train"]["lr"] == 0.5 and document["recipe"]["data"]["pad"] == 1
    assert not (queue.parent / "out").exists()


def test_a_picture(queue: Path, fake: list[tuple[str, int]], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    paths = [tmp_path / "a" / "study.png", tmp_path / "b" / "pareto.png"]
    main(["study", str(queue), "--quiet", "--picture", str(paths[0]), "--pareto", str(paths[1])])
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in paths)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("epochs = 1", "epoch = 1"), ["[train]", "'epoch'", "did you mean 'epochs'"]),
        (("epochs = 1", 'epochs = "one"'), ["epochs", "an integer"]),
        (("epochs = 1", "epochs = 0"), ["epochs", "[1,"]),
        (('name = "digits"', 'name = "digit"'), ["'digit'", "did you mean 'digits'"]),
        (('name = "digits"', 'name = "mnist"'), ["mnist", "BITSPIKE_DATA"]),
        (('name = "lif"', 'name = "lyf"'), ["'lyf'", "did you mean 'lif'"]),
        (("width = 4", "widht = 4"), ["'widht'", "'width'"]),
        (("[train]", "[train"), ["base.toml"]),
    ],
)
def test_bad_recipes_are_one_line_and_exit_code_2(
    queue: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    change: tuple[str, str],
    words: list[str],
) -> None:
    monkeypatch.delenv("BITSPIKE_DATA", raising=False)
    (queue.parent / "base.toml").write_text(BASE.replace(*change))
    queue.write_text(QUEUE.replace('[arms.replace.neuron]\nname = "ternary"', ""))
    line = refused(capsys, "study", str(queue), "--quiet")
    assert all(word in line for word in words), line
    assert not list((queue.parent / "out").glob("*.json"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("missing.toml",), ["queue", "'missing.toml'", "digits_demo"]),
        (("digits_dem",), ["did you mean 'digits_demo'"]),
        (("QUEUE", "--shard", "2/2"), ["--shard", "0 <= I < N", "'2/2'"]),
        (("QUEUE", "--shard", "half"), ["--shard", "'half'"]),
        (("QUEUE", "--set", "train.lr"), ["train.lr", "key=value"]),
        (("QUEUE", "--set", "train.rate=1"), ["'rate'"]),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(
    queue: Path, fake: list[tuple[str, int]], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...],
    words: list[str],
) -> None:  # fmt: skip
    line = refused(capsys, "study", *(str(queue) if a == "QUEUE" else a for a in arguments), "--quiet")
    assert all(word in line for word in words), line
    assert fake == []


@pytest.mark.parametrize(
    ("sets", "words"),
    [
        (["data.augment=shift-flip-cutout"], ["[data]: hole must lie in [1, 8], got 16"]),
        (["data.augment=autoaugment", "data.hole=4"], ["Batches: images must have three channels", "got 1"]),
        (["data.size=16"], ["[data]: size must be left out where name is 'digits'"]),
    ],
)
def test_what_does_not_fit_the_data_leaves_nothing_behind(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], sets: list[str], words: list[str]
) -> None:
    line = refused(capsys, "train", "digits", "--out", str(tmp_path / "run"), "--quiet", "--set", *sets)
    assert all(word in line for word in words), line
    assert not (tmp_path / "run").exists()


def test_a_base_that_is_missing(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (queue.parent / "base.toml").unlink()
    assert "base.toml" in refused(capsys, "study", str(queue))


def test_an_unknown_option_exits_with_2(queue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["study", str(queue), "--tabel-only"])
    assert caught.value.code == 2 and "--tabel-only" in "".join(capsys.readouterr())


def test_an_interrupted_queue_exits_with_130_and_goes_on(
    queue: Path, fake: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = sys.modules["bitspike.commands.study"]
    honest = module.run_job  # type: ignore[attr-defined]

    def cut(recipe: Recipe, *rest: Any) -> Any:
        if recipe.seed == 1:
            raise KeyboardInterrupt
        return honest(recipe, *rest)

    monkeypatch.setattr(module, "run_job", cut)
    with pytest.raises(SystemExit) as caught:
        main(["study", str(queue), "--quiet"])
    assert caught.value.code == 130 and fake == [("lif", 0), ("ternary", 0)]
    assert "goes on where it was" in capsys.readouterr().err
    monkeypatch.setattr(module, "run_job", honest)
    main(["study", str(queue), "--quiet"])
    assert fake[2:] == [("lif", 1), ("ternary", 1)]


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_works(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    expected = (
        COMMANDS if len(arguments) == 1 else {"study": ["--shard", "--table-only", "--json"]}.get(arguments[0], [])
    )
    assert "usage: bitspike" in text and all(word in text for word in expected)


def test_the_installed_command_and_the_module(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bitspike", "study", "nothing.toml"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2 and done.stdout == "" and len(done.stderr.strip().splitlines()) == 1


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder, trained for one epoch."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "recipe.toml").write_text(BASE)
    main(["train", str(folder / "recipe.toml"), "--out", str(folder / "run"), "--quiet"])
    return folder / "run"


def test_train_leaves_a_run(run: Path) -> None:
    names = {path.name for path in run.iterdir()}
    assert names >= {"recipe.toml", "metrics.jsonl", "best.safetensors", "final.safetensors", "last", "summary.json"}


@pytest.mark.parametrize(
    ("command", "leaves", "key"),
    [
        ("eval", ["eval.json"], "test_accuracy"),
        ("fold", ["fold.json", "folded.safetensors"], "max_logit_difference"),
        ("cost", ["cost.json", "cost.png", "allocation.png"], "size_bytes"),
    ],
)
def test_what_is_read_off_a_run(run: Path, tmp_path: Path, command: str, leaves: list[str], key: str) -> None:
    pytest.importorskip("matplotlib")
    main([command, str(run), "--json", str(tmp_path / "result.json")])
    assert all((run / name).stat().st_size > 0 for name in leaves)
    result = json.loads((tmp_path / "result.json").read_text())
    assert key in result and result == read_json(run / leaves[0])


def test_cost_draws_the_history_of_learned_bits(run: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    shutil.copytree(run, tmp_path / "run")
    main(["cost", str(tmp_path / "run")])
    assert not (tmp_path / "run" / "history.png").exists()
    summary = read_json(run / "summary.json")
    for record in summary["history"]:
        record |= {"weight_bits": 3.0, "allocation": {"weights": {"body.7": 3.0}, "spikes": {}, "steps": {}}}
    (tmp_path / "run" / "summary.json").write_text(json.dumps(summary))
    main(["cost", str(tmp_path / "run")])
    assert (tmp_path / "run" / "history.png").read_bytes().startswith(b"\x89PNG")


def test_cost_takes_constants_and_a_memory(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    own = '[mine]\ntitle = "t"\n[mine.add]\nvalue = 2.0\nunit = "pJ"\nnode_nm = 7\nsource = "s"\nconfirmed = true\n'
    (tmp_path / "mine.toml").write_text(own)
    options = ["--constants", str(tmp_path / "mine.toml"), "int8_45nm", "--input-bits", "8", "--activation-bits", "4"]
    main(["cost", str(run), *options, "--order", "step", "--buffer-bytes", "10", "--json", str(tmp_path / "c.json")])
    result = json.loads((tmp_path / "c.json").read_text())
    assert list(result["energy"]) == list(result["constants"]) == ["mine", "int8_45nm"]
    assert result["memory"] == {"buffer_bytes": 10, "membrane_bits": 32, "order": "step"}
    assert result["layers"][0]["input_bits"] == 8 and result["totals"]["all"]["dram_bytes"] > 0
    assert {row["input_bits"] for row in result["ann"]["layers"] if row["spiking"]} == {4}
    shown = capsys.readouterr().out
    assert "mine" in shown and "without first, last, downsample" in shown and "operations only" in shown
    page = (
        (Path(__file__).parents[1] / "docs" / "cli.md")
        .read_text(encoding="utf-8")
        .split("| key of `cost.json` | meaning |")[1]
    )
    rows = page.strip().partition("\n\n")[0].splitlines()  # tables of other files follow
    lines = [line.split("|")[1] for line in rows if line.startswith("| ") and "---" not in line]
    assert sorted(key.strip() for line in lines for key in line.split(",")) == sorted(result)
    assert "constants: it must be a file or one of" in refused(capsys, "cost", str(run), "--constants", "int7")


def test_compare(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    main(["compare", str(run), str(run), "--out", str(tmp_path / "c")])
    assert len(json.loads((tmp_path / "c" / "compare.json").read_text())["arms"]) == 2
    assert capsys.readouterr().out.count(str(run)) == 2 and (tmp_path / "c" / "compare.png").exists()
    assert (tmp_path / "c" / "pareto.png").exists()


@pytest.mark.parametrize("command", ["eval", "fold", "cost", "compare"])
def test_a_folder_that_is_no_run(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert str(tmp_path) in refused(capsys, command, str(tmp_path))


def test_version_and_module() -> None:
    command = [sys.executable, "-m", "bitspike", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.fullmatch(
        r"bitspike \S+, torch \S+; native kernels: (none, plain PyTorch serves|scalar|avx2|avx512)\n", done.stdout
    )

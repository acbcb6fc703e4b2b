"""What holds for every export target: declaration, page, refusals, and files that depend on the source alone."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import bitspike
from bitspike.cli import main
from bitspike.export import TARGETS, Source, Target, export
from bitspike.layers import Linear, MeanReadout, Repeat
from bitspike.runtime import Program, save

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "deploy.md").read_text(encoding="utf-8")
BOTH = tuple(TARGETS.items())
OPTIONS: dict[str, dict[str, Any]] = {"nir": {"shape": "4"}, "onnx-float": {"shape": "4"}}
"""What a target has to be told of a network that does not know it."""


def folded() -> Any:
    """Binary spikes with a hard reset, which every system knows."""
    torch.manual_seed(0)
    neuron = bitspike.neurons.LIF(decay=0.5, reset="hard")
    net = nn.Sequential(Repeat(1), Linear(4, 6), neuron, Linear(6, 3), MeanReadout())
    return bitspike.fold(net, torch.randn(32, 4))


@pytest.fixture(scope="module")
def sources() -> dict[str, Any]:
    network = folded()
    info = {"top": 16, "mean": [0.0], "std": [1.0], "data": "digits", "layout": "channels, rows, columns"}
    return {"network": network, "program": bitspike.compile(network, torch.randn(32, 4), info=info)}


def written(name: str, source: Any, folder: Path) -> dict[str, bytes]:
    """Files by name; skips where a package or a compiler is missing, or where such a network cannot be shown."""
    target = TARGETS[name]
    folder.mkdir()
    try:
        found = export(source, name, folder / f"net{target.suffix}", **OPTIONS.get(name, {}))
    except (ImportError, OSError) as error:
        pytest.skip(f"not run: {error}")
    except ValueError as error:
        if name == "page":  # it needs pictures; tests/exported/test_page.py has some
            pytest.skip(f"another network: {error}")
        raise
    assert set(found.files) == set(folder.iterdir()) and found.files[0].suffix == target.suffix
    assert all(note and not note.startswith(" ") for note in found.notes)
    return {path.name: path.read_bytes() for path in found.files}


@pytest.mark.parametrize(("name", "target"), BOTH)
def test_it_is_declared(name: str, target: type[Target]) -> None:
    assert issubclass(target, Target) and target.reads in ("program", "network")
    assert target.about and "\n" not in target.about and not target.about.endswith(".")
    assert re.fullmatch(r"\.[a-z]+", target.suffix)
    for option, (default, about) in target.options.items():
        assert option.isidentifier() and isinstance(default, (bool, int, str)) and about
        assert f"`{option}" in PAGE or f"{option}=" in PAGE, f"docs/deploy.md says nothing of {option}"


@pytest.mark.parametrize(("name", "target"), BOTH)
def test_the_same_source_gives_the_same_bytes(
    name: str, target: type[Target], sources: dict[str, Any], tmp_path: Path
) -> None:
    first = written(name, sources[target.reads], tmp_path / "a")
    assert first == written(name, sources[target.reads], tmp_path / "b")


@pytest.mark.parametrize(("name", "target"), BOTH)
def test_what_is_not_for_it_is_refused(
    name: str, target: type[Target], sources: dict[str, Any], tmp_path: Path
) -> None:
    other = sources["network" if target.reads == "program" else "program"]
    with pytest.raises(ValueError, match="made from"):
        export(other, name, tmp_path / "net")
    with pytest.raises(TypeError, match="a program or a folded network"):
        export(nn.Linear(2, 2), name, tmp_path / "net")
    with pytest.raises(ValueError, match="option"):
        export(sources[target.reads], name, tmp_path / "net", colour="red")
    for option, (default, _) in target.options.items():
        with pytest.raises(TypeError, match=option):
            export(sources[target.reads], name, tmp_path / "net", **{option: 1.5 if default != 1.5 else "x"})
    assert not list(tmp_path.iterdir())


def test_everything_that_would_be_lost_is_said_at_once(sources: dict[str, Any], tmp_path: Path) -> None:
    class Deaf(Target):
        reads = "program"
        about = "nothing"
        suffix = ".txt"

        def losses(self, source: Source, options: Any) -> list[str]:
            assert source.program is not None
            return [f"{made.op.name}: it hears nothing; take another" for made in source.program.operations]

        def write(self, source: Source, path: Path, options: Any) -> Any:
            raise AssertionError("written although something is lost")

    TARGETS.register("deaf")(Deaf)
    try:
        with pytest.raises(ValueError) as found:
            export(sources["program"], "deaf", tmp_path / "x.txt", name="net")
    finally:
        del TARGETS._entries["deaf"]
    program: Program = sources["program"]
    assert all(made.op.name in str(found.value) for made in program.operations)
    assert str(found.value).startswith(
        f"export of net: deaf must be able to say everything, got {len(program.operations)}"
    )


def test_the_command(sources: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(sources["program"], tmp_path / "net.bitspike")
    out = tmp_path / "made" / "net.c"
    main(["export", str(tmp_path / "net.bitspike"), "--to", "c", "-o", str(out), "--json", str(tmp_path / "a.json")])
    assert f"{out}: " in capsys.readouterr().out and out.exists() and (tmp_path / "a.json").exists()
    for arguments, said in (
        (["--to", "d"], "--to must be one of"),
        (["--to", "c", "--option", "colour"], "KEY=VALUE"),
        (["--to", "c", "--option", "colour=1"], "option of c"),
        (["--to", "nir"], "made from a folded network"),
    ):
        with pytest.raises(SystemExit) as code:
            main(["export", str(tmp_path / "net.bitspike"), "-o", str(tmp_path / "no"), *arguments])
        assert code.value.code == 2 and said in capsys.readouterr().err


def test_no_file_is_written_over_another_or_the_source(sources: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    model = tmp_path / "m.bitspike"
    save(sources["program"], model)
    before = model.read_bytes()
    for out, more, words in (
        (model, [], "-o must be a file of its own, not a folder or the source"),
        (tmp_path, [], "-o must be a file of its own, not a folder or the source"),
        (tmp_path / "net.h", [], "its file must not be its header"),
        (tmp_path / "n.c", ["--json", str(model)], "--json must be a file of its own"),
        (tmp_path / "n.c", ["--json", str(tmp_path / "n.c")], "--json must be a file of its own"),
        (tmp_path / "n.onnx", ["--option", "form=step", "--option", "form=scan"], "each must be given once"),
    ):
        with pytest.raises(SystemExit) as end:
            main(["export", str(model), "--to", "onnx" if out.suffix == ".onnx" else "c", "-o", str(out), *more])
        assert end.value.code == 2 and words in capsys.readouterr().err
    assert model.read_bytes() == before and [path.name for path in tmp_path.iterdir()] == ["m.bitspike"]


def test_a_report_never_replaces_what_was_written(sources: dict[str, Any], tmp_path: Path, capsys: Any) -> None:
    model, header = tmp_path / "m.bitspike", tmp_path / "net.h"
    save(sources["program"], model)
    with pytest.raises(SystemExit):
        main(["export", str(model), "--to", "c", "-o", str(tmp_path / "net.c"), "--json", str(header)])
    assert "--json must be a file of its own" in capsys.readouterr().err and "NET_H" in header.read_text()


def test_a_file_is_no_folder(sources: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(ValueError, match=r"taken must be a folder, got the file .*taken; write elsewhere"):
        export(sources["program"], "c", tmp_path / "taken" / "net.c")


@pytest.mark.parametrize("command", ["inspect", "bench", "export", "verify"])
@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("none", "the file of a program, got nothing of this name; write one by"),
        (".", "the file of a program, got a folder; write a program by"),
        ("text", "text: file: it must be a safetensors file"),
    ],
)
def test_a_model_that_is_none_is_named(command: str, given: str, words: str, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "text").write_text("not a program")
    if command == "export" and given == ".":
        words = "it must hold a run (recipe.toml)"
    before = [str(tmp_path)] if command == "verify" else []
    more = ["--to", "c", "-o", str(tmp_path / "x.c")] if command == "export" else []
    with pytest.raises(SystemExit) as end:
        main([command, *before, str(tmp_path / given), *more])
    assert end.value.code == 2 and words in capsys.readouterr().err

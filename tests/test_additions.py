"""Every checklist of docs/extending.md, followed to the letter in a copy of the tree, is all that suites ask for."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "extending.md"
EDIT = re.compile(
    r"^<!-- (file|into): (\S+)(?: \| (after|instead of): (.*?))? -->\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE
)
KINDS = ("a neuron", "a quantizer", "an encoder", "a data set", "a surrogate", "a loss", "a model", "a kernel")
# What reads registries, tables of variants, golden traces or the tree; the rest does not know of additions.
SUITES = (
    *(
        "tests/test_tree.py",
        "tests/test_registry.py",
        "tests/test_formats.py",
        "tests/test_cli.py",
        "tests/test_cost.py",
    ),
    *("tests/docs", "tests/neurons", "tests/quantizers", "tests/functional", "tests/layers", "tests/ops", "tests/data"),
    *("tests/models", "tests/fold", "tests/training/test_loss_conformance.py", "tests/training/test_recipe.py"),
    *("tests/training/test_build.py", "src/bitspike/functional", "src/bitspike/models", "src/bitspike/neurons"),
)


@dataclass(frozen=True)
class Edit:
    """One thing to add: a new file, or text after a line or in place of other text."""

    path: str
    where: str
    mark: str
    text: str


def edits(section: str) -> Iterator[Edit]:
    for match in EDIT.finditer(section):
        kind, path, where, mark, text = match.groups()
        assert (where is None) == (kind == "file"), match[0]
        yield Edit(path, where or "", mark or "", text)


def sections() -> dict[str, str]:
    """Kind of addition → what the page says of it: its section, the checklist at its end."""
    page = PAGE.read_text(encoding="utf-8")
    found = re.split(r"^## (.*)$", page, flags=re.MULTILINE)
    return {title.lower(): body for title, body in zip(found[1::2], found[2::2], strict=True)}


def follow(root: Path, edit: Edit) -> None:
    path = root / edit.path
    if not edit.where:
        assert not path.exists(), f"{edit.path} exists; the example needs another name"
        path.write_text(edit.text, encoding="utf-8")
        return
    text = path.read_text(encoding="utf-8")
    if edit.where == "after":
        lines = text.splitlines(keepends=True)
        places = [index for index, line in enumerate(lines) if line.startswith(edit.mark)]
        assert places, f"{edit.path} has no line that begins with {edit.mark!r}"
        lines.insert(places[0] + 1, edit.text)
        text = "".join(lines)
    else:
        assert text.count(edit.mark) == 1, f"{edit.path} must hold {edit.mark!r} once"
        text = text.replace(edit.mark, edit.text.rstrip("\n"))
    path.write_text(text, encoding="utf-8")


def copy_of_the_tree(target: Path) -> None:
    """What git tracks, with the native libraries where they are built, as a checkout of its own."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    for name in (name.decode() for name in listed if name):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    for native in ("src/bitspike/_native", "src/bitspike/runtime/_native"):
        if (ROOT / native).is_dir():
            shutil.copytree(ROOT / native, target / native)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=target, check=True)


def test_every_kind_has_a_checklist_that_begins_with_one_new_file() -> None:
    found = sections()
    for kind in KINDS:
        assert f"### Checklist: {kind}\n" in found[kind], kind
        wanted = list(edits(found[kind]))
        assert not wanted[0].where and wanted[0].path.startswith("src/bitspike/"), kind
        named = set(re.findall(r"`((?:src|docs|tests)/[\w/.<>]+)`", found[kind].split("### Checklist")[1]))
        own = {edit.path for edit in wanted if edit.where}
        assert {path for path in own if not any(path.startswith(name.rstrip("/")) for name in named)} == set(), kind


def test_nothing_is_added_without_a_checklist() -> None:
    everything = list(edits(PAGE.read_text(encoding="utf-8")))
    assert sum(len(list(edits(sections()[kind]))) for kind in KINDS) == len(everything)


@pytest.mark.slow
def test_the_suites_are_green_after_an_addition_of_every_kind(tmp_path: Path) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not run: no git checkout")
    copy_of_the_tree(tmp_path)
    for kind in KINDS:
        for edit in edits(sections()[kind]):
            follow(tmp_path, edit)
    subprocess.run(["git", "add", "-A"], cwd=tmp_path, check=True)
    environment = {key: value for key, value in os.environ.items() if key != "CI" and not key.startswith("PYTEST")}
    environment |= {"PYTHONPATH": str(tmp_path / "src"), "OMP_NUM_THREADS": "1"}
    names = "['refractory', 'midrise', 'burst', 'even_digits', 'gaussian', 'focal', 'perceptron', 'stepwise']"
    code = f"""
import bitspike, bitspike.data, bitspike.training.losses as l
from bitspike import functional, layers, models, neurons, ops, quantizers
tables = [neurons.NEURONS, quantizers.QUANTIZERS, layers.ENCODERS, bitspike.data.DATASETS, functional.SURROGATES]
tables.append(l.LOSSES)
print([n for n in {names} if any(n in t for t in tables + [models.MODELS, [k.name for k in ops.table()]])])
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == names, done.stderr
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-n", "2", *SUITES]
    command += [
        "--deselect",
        "tests/docs/test_docs.py::test_python_blocks_run[extending.md]",
    ]  # it registers them again
    run = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout[-6000:]

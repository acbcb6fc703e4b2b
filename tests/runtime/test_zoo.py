"""The zoo: every program gives what its card says, cards are whole, nothing is too large, and no torch is needed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bitspike.runtime import Program, ProgramError, load
from bitspike.runtime.zoo import check, levels_digest, zoo_card, zoo_names, zoo_table
from bitspike.runtime.zoo.cards import FOLDER
from bitspike.runtime.zoo.command import copy_to, run_card

NAMES = zoo_names()
INSIDE = [name for name in NAMES if zoo_card(name).facts["slice"]["file"]]
KEYS = """card name about data network recipe accuracy bits bytes operations energy_nj latency_ms licence derives_from
    sha256 made_with slice""".split()
DATA = ("digits", "fsdd", "nmnist", "cifar10")
ONE, ALL = 10**6, 10**7
"""Bytes of a program at most, and of everything together."""


def test_every_kind_of_spikes_is_there() -> None:
    kinds = {data: {name.partition("/")[2] for name in NAMES if name.startswith(f"{data}/")} for data in DATA}
    assert {"binary", "ternary", "multibit", "reverb"} <= kinds["digits"] and all(kinds.values())


@pytest.mark.parametrize("name", NAMES)
def test_cards_are_whole_and_of_their_programs(name: str) -> None:
    card = zoo_card(name)
    data = card.path.read_bytes()
    assert list(card.facts) == KEYS and card.facts["name"] == name
    assert hashlib.sha256(data).hexdigest() == card.facts["sha256"] and len(data) == card.facts["bytes"]["file"] <= ONE
    assert card.facts["accuracy"]["seeds"] and card.facts["licence"] and card.facts["derives_from"]
    assert all(path.is_file() for path in card.notices())
    told = card.facts["slice"]
    assert len(told["labels"]) == len(told["predictions"]) == 16


def test_together_it_is_small_and_nothing_else_lies_there() -> None:
    files = [path for root in (FOLDER, FOLDER.parents[2] / "pretrained") for path in root.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= ALL
    assert {path.suffix for path in files} <= {".bitspike", ".json", ".npy", ".txt", ".safetensors", ".md"}
    samples = {path.parent.name for path in files if path.suffix == ".npy"}
    assert samples <= {"digits", "fashion_mnist"}  # the others' data may not be copied


@pytest.mark.parametrize("name", INSIDE)
def test_programs_give_the_committed_predictions(name: str) -> None:
    card = zoo_card(name)
    found = check(card, Program.from_zoo(name), card.samples())
    assert found.same_input and found.same, found
    right = sum(a == b for a, b in zip(found.predictions, found.labels, strict=True))
    assert right >= 12


def test_other_samples_are_seen() -> None:
    card = zoo_card("digits/binary")
    program, x = Program.from_zoo("digits/binary"), card.samples()
    turned = np.ascontiguousarray(x[::-1])
    found = check(card, program, turned)
    assert not found.same_input and not found.same
    assert levels_digest(program, x) != levels_digest(program, turned)
    text, document, kept = run_card(card, program, turned, 2)
    assert not kept and "NOT those of the card" in text and document["same"] is False


@pytest.mark.parametrize(
    ("name", "word"),
    [("digits/binry", "'digits/binary'"), ("digit/ternary", "'digits/ternary'"), ("../../x", "choose one of")],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, word: str) -> None:
    with pytest.raises(ProgramError, match="must be one that `zoo list` shows") as caught:
        Program.from_zoo(name)
    assert word in str(caught.value)


def test_a_copy_is_the_program_with_its_card_and_notice(tmp_path: Path) -> None:
    noted = [card for card in map(zoo_card, NAMES) if card.notices()]  # BSD, MIT: their text goes along
    for card in [zoo_card("digits/binary"), *noted[:1]]:
        folder = tmp_path / card.name
        files = copy_to(card, folder / "net.bitspike")
        assert [path.name for path in files] == ["net.bitspike", "net.json", *(path.name for path in card.notices())]
        assert sorted(path.name for path in folder.iterdir()) == sorted(path.name for path in files)
        assert files[0].read_bytes() == card.path.read_bytes()
    card = zoo_card("digits/binary")
    files, x = copy_to(card, tmp_path / "net.bitspike"), card.samples()
    assert np.array_equal(load(files[0])(x).levels, Program.from_zoo(card.name)(x).levels)
    with pytest.raises(ProgramError, match="got a folder"):
        copy_to(card, tmp_path)


def test_the_table_has_a_row_a_program() -> None:
    rows = zoo_table()
    assert [row[0] for row in rows[1:]] == list(NAMES) and {len(row) for row in rows} == {len(rows[0])}


def apart(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`bitspike-runtime zoo` as a package of its own, where there is no torch."""
    if not (tmp_path / "bitspike_runtime").exists():
        shutil.copytree(FOLDER.parents[1], tmp_path / "bitspike_runtime")
        (tmp_path / "torch.py").write_text("raise ImportError('no torch here')\n", encoding="utf-8")
    command = [sys.executable, "-m", "bitspike_runtime", "zoo", *arguments]
    return subprocess.run(
        command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )


def test_the_runtime_alone_lists_and_runs_it(tmp_path: Path) -> None:
    done = apart(tmp_path, "list")
    assert done.returncode == 0 and all(name in done.stdout for name in NAMES), done.stderr
    done = apart(tmp_path, "run", "digits/ternary", "--json", "found.json")
    assert done.returncode == 0 and "those of the card" in done.stdout, done.stderr
    assert json.loads((tmp_path / "found.json").read_text())["same"] is True
    for name in (name for name in NAMES if name not in INSIDE):
        done = apart(tmp_path, "run", name)
        assert done.returncode == 2 and "pass --input X.npy" in done.stderr
        break
    done = apart(tmp_path, "get", "digits/reverb")
    assert done.returncode == 0 and (tmp_path / "digits-reverb.bitspike").exists()
    card = tmp_path / "bitspike_runtime" / "zoo" / "programs" / "digits" / "ternary.json"
    told = json.loads(card.read_text())
    told["slice"]["predictions"][3] ^= 1
    card.write_text(json.dumps(told))
    assert apart(tmp_path, "run", "digits/ternary").returncode == 1

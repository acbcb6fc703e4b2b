"""What a release needs to agree: versions, and files of the repository's front page."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bitspike
from bitspike.files import parse_toml

ROOT = Path(__file__).resolve().parents[1]


def test_versions_agree() -> None:
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("pyproject.toml", "runtime/pyproject.toml")}
    versions = {name: parse_toml(text, name)["project"]["version"] for name, text in texts.items()}
    cited = re.findall(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert {*versions.values(), *cited} == {bitspike.__version__} and len(cited) == 1


@pytest.mark.parametrize("name", ["RELEASING.md", "SECURITY.md", ".github/pull_request_template.md"])
def test_files_they_name_exist(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    named = re.findall(r"\b((?:tools|tests|docs|src|benchmarks|runtime)/[\w/.-]*\w)", text)
    assert not [path for path in named if not (ROOT / path).exists()]

"""The walk-throughs of the sections ONNX and QONNX of docs/deploy.md run and print what stands there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("onnx", reason="not run: onnx is not installed")
pytest.importorskip("onnxruntime", reason="not run: onnxruntime is not installed")
PAGE = Path(__file__).resolve().parents[2] / "docs" / "deploy.md"


def test_the_walkthroughs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = PAGE.read_text(encoding="utf-8").split("\n## ONNX")[1].split("\n## NIR")[0]
    found = re.findall(r"^```py\n(.*?)^```\n\n```text\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert len(found) >= 2
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for code, printed in found:
        exec(code, names)
        assert capsys.readouterr().out == printed

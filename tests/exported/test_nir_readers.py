"""NIR in other simulators, where their environments are: BITSPIKE_EXCHANGE names the folder of benchmarks/exchange."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from bitspike.fold import fold

FOLDER = os.environ.get("BITSPIKE_EXCHANGE", "")
SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks" / "exchange"
pytest.importorskip("nir", reason="not run: the package nir is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FOLDER, reason="not run: BITSPIKE_EXCHANGE names no folder of benchmarks/exchange/setup.sh"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return importlib.import_module("nir_readers")


@pytest.mark.parametrize("reader", ["snntorch", "norse", "sinabs"])
def test_a_reader_sends_our_spikes(reader: str, scripts: Any, tmp_path: Path) -> None:
    """Where membranes lie exactly on their thresholds."""
    networks = importlib.import_module("digit_networks")
    x = networks.digits()[1][:16]
    folded = fold(networks.trained("dense, on a grid", 3), x)
    assert scripts.ties(folded.graph, x) > 0
    row = scripts.reads(reader, Path(FOLDER), "dense, on a grid", folded, x, tmp_path)
    assert row.get("flips") == 0 and 0.02 < row["rate"] < 0.98, row


@pytest.mark.parametrize("maker", ["snntorch", "norse", "sinabs"])
def test_files_of_a_maker_send_its_spikes(maker: str, scripts: Any, tmp_path: Path) -> None:
    with torch.no_grad():
        rows = scripts.made(maker, Path(FOLDER), tmp_path)
    assert len(rows) > 2
    for row in rows:
        assert "flips" in row and (row["flips"] == 0) != row["network"].endswith("_subtract"), row

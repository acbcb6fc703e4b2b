"""Spectra in mel bands against librosa's, on recordings of spoken digits or, where there are none, on noise.

    benchmarks/sound/setup.sh .venvs/sound
    [BITSPIKE_DATA=DIR] python benchmarks/sound/compare.py --peer .venvs/sound/bin/python [--out results/sound/mel.json]

Recordings are cut to whole windows, since librosa leaves out what the last one lacks and bitspike fills it with zeros.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))

from bitspike.data.sound import mel_filters, mel_power  # noqa: E402
from bitspike.data.sound.fsdd import read_fsdd  # noqa: E402
from bitspike.files import write_json_atomic  # noqa: E402

SETTINGS = (
    (8000, 32, 25.0, 10.0, 0.0, 4000.0),
    (8000, 40, 32.0, 16.0, 100.0, 3800.0),
    (8000, 12, 20.0, 20.0, 0.0, 4000.0),
)
"""(rate, mels, window_ms, hop_ms, fmin, fmax)."""

RECORDINGS = 30


def sounds() -> tuple[str, list[np.ndarray]]:
    """What is compared: every hundredth recording, or noise."""
    if root := os.environ.get("BITSPIKE_DATA"):
        samples = read_fsdd(root).samples
        return "recordings of the Free Spoken Digit Dataset", list(samples[:: len(samples) // RECORDINGS])[:RECORDINGS]
    rng = np.random.default_rng(0)
    return "noise", [rng.integers(-9000, 9000, 2000 + 300 * k).astype(np.int16) for k in range(RECORDINGS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", required=True, help="interpreter of the environment with librosa")
    parser.add_argument("--out", help="JSON file for the result")
    given = parser.parse_args()
    what, samples = sounds()
    asked: dict[str, np.ndarray] = {}
    for s, (rate, mels, window_ms, hop_ms, fmin, fmax) in enumerate(SETTINGS):
        window, hop = (round(rate * ms / 1000) for ms in (window_ms, hop_ms))
        for k, x in enumerate(samples):
            whole = x[: window + (len(x) - window) // hop * hop] / 32768
            text = json.dumps([rate, mels, window, hop, fmin, fmax]).encode()
            asked |= {f"{s}.{k}.samples": whole, f"{s}.{k}.json": np.frombuffer(text, np.uint8)}
    with tempfile.TemporaryDirectory() as folder:
        question, answer = Path(folder) / "question.npz", Path(folder) / "answer.npz"
        np.savez(question, **asked)  # type: ignore[arg-type]
        peer = Path(__file__).with_name("peer.py")
        subprocess.run([given.peer, str(peer), str(question), str(answer)], check=True)
        theirs = dict(np.load(answer))
    rows: list[dict[str, Any]] = []
    for s, (rate, mels, window_ms, hop_ms, fmin, fmax) in enumerate(SETTINGS):
        size = 1 << (round(rate * window_ms / 1000) - 1).bit_length()
        filters = mel_filters(rate, size, mels, fmin, fmax)
        row: dict[str, Any] = {"rate": rate, "mels": mels, "window_ms": window_ms, "hop_ms": hop_ms}
        row |= {"fmin": fmin, "fmax": fmax, "recordings": len(samples), "spectra": 0, "filters": 0.0, "energy": 0.0}
        for k in range(len(samples)):
            ours = mel_power(asked[f"{s}.{k}.samples"], rate, mels, window_ms, hop_ms, fmin, fmax)
            other = theirs[f"{s}.{k}.power"]
            assert ours.shape == other.shape, (ours.shape, other.shape)
            row["spectra"] += len(ours)
            row["filters"] = max(row["filters"], float(abs(filters - theirs[f"{s}.{k}.filters"]).max()))
            row["energy"] = max(row["energy"], float(abs(ours - other).max() / ours.max()))
        rows.append(row)
        print(f"{mels} bands: filters differ by {row['filters']:.1e}, energies by {row['energy']:.1e} of the greatest")
    result = {"of": what, "librosa": theirs["version"].tobytes().decode(), "numpy": np.__version__, "rows": rows}
    if given.out:
        write_json_atomic(Path(given.out), result)


if __name__ == "__main__":
    main()

"""Every reader of event files against another one on the same bytes, and frames against tonic's in time.

    benchmarks/events/setup.sh .venvs/events
    [BITSPIKE_DATA=DIR] python benchmarks/events/compare.py --peer .venvs/events/bin/python [--out results/events]

Files are written by `tests/event_files.py` (aedat4 also by dv-processing, SHD by h5py). Where BITSPIKE_DATA holds the
samples of N-MNIST and DVS128 Gesture, their recordings are written and framed; else random events. Times of both sides
alternate. bitspike's side needs h5py and lz4.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests")]

import event_files as files  # noqa: E402
from bitspike.data import events as ours  # noqa: E402
from bitspike.files import write_json_atomic  # noqa: E402
from event_files import Event  # noqa: E402

SAMPLES = {
    "N-MNIST": ("nmnist/nmnist_test100.npz", (34, 34)),
    "DVS128 Gesture": ("dvs_gesture/dvs_gesture_10.npz", (128, 128)),
}


MOST = 20
"""Recordings that are framed."""


class Peer:
    """The other side's process."""

    def __init__(self, python: str) -> None:
        command = [python, str(Path(__file__).with_name("peer.py"))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin and self._process.stdout
        print(json.dumps(question), file=self._process.stdin, flush=True)
        while line := self._process.stdout.readline():
            if line.startswith("{"):  # dv-processing logs to the same place
                reply: dict[str, Any] = json.loads(line)
                return reply
        raise SystemExit("the peer has ended")

    def end(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


def columns(events: ours.Recording) -> dict[str, np.ndarray]:
    return {name: getattr(events, name) for name in "txyp"}


def sample(name: str) -> tuple[list[dict[str, np.ndarray]], tuple[int, int], str]:
    """Recordings as columns, the size of the sensor, and what they are."""
    file, size = SAMPLES[name]
    place = Path(os.environ.get("BITSPIKE_DATA", "")) / file
    if os.environ.get("BITSPIKE_DATA") and place.is_file():
        held = np.load(place)
        p = np.unpackbits(held["p_bits"])[: len(held["x"])]
        found = []
        for start, end in zip(held["offsets"][:-1], held["offsets"][1:], strict=True):
            t = np.cumsum(held["dt"][start:end], dtype=np.int64)
            found.append({"t": t, "x": held["x"][start:end], "y": held["y"][start:end], "p": p[start:end]})
        return found, size, f"{len(found)} recordings of {name}"
    count = 4000 if size[0] < 100 else 120_000
    drawn = [files.draw(count, size, k) for k in range(10)]
    found = [{c: np.array([getattr(e, c) for e in events]) for c in "txyp"} for events in drawn]
    return found, size, "10 recordings of random events"


def listed(held: dict[str, np.ndarray]) -> list[Event]:
    return [Event(*row) for row in zip(*(held[name].tolist() for name in "txyp"), strict=True)]


def shd(path: Path) -> dict[str, np.ndarray]:
    """Write spoken digits of random spikes; return what they are."""
    import h5py

    rng = np.random.default_rng(0)
    path.parent.mkdir()
    (path.parent / "shd_train.h5.zip").write_bytes(b"")
    with h5py.File(path, "w") as file:
        for name, kind in (("times", np.float16), ("units", np.uint16)):
            file.create_dataset(f"spikes/{name}", (20,), dtype=h5py.vlen_dtype(kind))
        for k in range(20):
            count = int(rng.integers(1, 3000))
            file["spikes/times"][k] = np.sort(rng.random(count)).astype(np.float16)
            file["spikes/units"][k] = rng.integers(0, 700, count).astype(np.uint16)
        file["labels"] = rng.integers(0, 20, 20).astype(np.uint16)
        file["extra/speaker"] = rng.integers(0, 12, 20).astype(np.uint16)
        file["extra/keys"] = np.array([b"zero"] * 20)
    spoken = list(ours.read_shd(path))
    row = np.concatenate([np.full(len(one.events), k) for k, one in enumerate(spoken)])
    held = {name: np.concatenate([columns(one.events)[name] for one in spoken]) for name in "txp"}
    return {
        **held,
        "y": row,
        "labels": np.array([s.label for s in spoken]),
        "speakers": np.array([s.speaker for s in spoken]),
    }


def readers(peer: Peer, folder: Path) -> list[dict[str, Any]]:
    """One row a format: events compared, and how many differ in any column."""
    digits, digit_size, digit_what = sample("N-MNIST")
    moves, move_size, move_what = sample("DVS128 Gesture")
    digit, move = listed(digits[0]), listed(moves[0])
    wide = files.draw(20_000, (260, 346), seed=3)
    drawn = "random events"
    head = "#!AER-DAT2.0\r\n# Creation time: x 5\r\n"
    cases: list[tuple[str, str, bytes | None, Any]] = [
        ("bin", digit_what, files.bin40(digit), lambda path: ours.read_bin(path, digit_size)),
        ("bin", "with overflow marks", files.bin40(_marked()), lambda path: ours.read_bin(path, (34, 34))),
        ("aedat2 dvs128", move_what, files.aedat2(move), ours.read_aedat2),
        ("aedat2 davis", drawn, files.aedat2(wide, "davis", head), lambda p: ours.read_aedat2(p, "davis", (260, 346))),
        ("aedat3", move_what, files.aedat3(move, 500, special=False), lambda path: ours.read_aedat3(path, move_size)),
        ("aedat4", drawn, files.aedat4(wide), lambda path: ours.read_aedat4(path)),
        (
            "aedat4 by dv-processing",
            f"{drawn}, written by dv-processing (LZ4)",
            None,
            lambda path: ours.read_aedat4(path),
        ),
        ("aedat4", f"{drawn}, written by dv-processing (LZ4)", None, lambda path: ours.read_aedat4(path)),
    ]
    rows = []
    for number, (kind, what, data, read) in enumerate(cases):
        path = folder / f"{number}{'.aedat4' if 'aedat4' in kind else '.aedat'}"
        if data is None:
            np.savez(folder / "wide.npz", **{c: np.array([getattr(e, c) for e in wide]) for c in "txyp"})
            peer.ask(do="write", path=str(path), source=str(folder / "wide.npz"))
        else:
            path.write_bytes(data)
        rows.append(_row(peer, kind, what, path, columns(read(path)), folder))
    path = folder / "SHD" / "shd_train.h5"
    rows.append(_row(peer, "shd", "random spikes", path, shd(path), folder))
    return rows


def _marked() -> list[Event]:
    """Events of a long recording: rows of 240 move the clock on by 2^13 us."""
    rng, found, low = np.random.default_rng(5), [], 0
    for _ in range(40):
        low = 0
        for _ in range(50):
            low += int(rng.integers(0, 160))
            found.append(Event(low, *(int(v) for v in rng.integers(0, 34, 2)), int(rng.integers(2))))
        found.append(Event(low, 0, 240, 0))
        found.append(Event(0, 0, 0, 1))
    return [e for e in found if e.t < 2**13]


def _row(peer: Peer, kind: str, what: str, path: Path, held: dict[str, np.ndarray], folder: Path) -> dict[str, Any]:
    out = folder / "peer.npz"
    peer.ask(do="read", kind=kind, path=str(path), out=str(out))
    with np.load(out) as archive:
        found = {name: archive[name] for name in archive.files}
    if "aedat4" in kind:
        found["t"] = found["t"] - found["t"][0]  # Unix time
    equal = len(found["t"]) == len(held["t"])
    slack = 1 if kind == "shd" else 0  # tonic cuts off what bitspike rounds
    differ = -1
    if equal:
        differ = int(
            sum(
                np.abs(held[c].astype(np.int64) - found[c].astype(np.int64)) > (slack if c == "t" else 0)
                for c in "txyp"
            )
            .astype(bool)
            .sum()
        )
        differ += sum(int((held[c] != found[c]).sum()) for c in ("labels", "speakers") if c in held)
    return {"format": kind, "events": what, "compared": len(held["t"]), "differ": differ, "slack_us": slack}


def speed(peer: Peer, folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Seconds a recording of frames, both sides alternating; the ratio is tonic over bitspike, above 1 is faster."""
    rows = []
    for name, T, step_us in (
        ("N-MNIST", 10, 30_000),
        ("N-MNIST", 300, 1000),
        ("DVS128 Gesture", 10, 140_000),
        ("DVS128 Gesture", 100, 14_000),
    ):
        parts, size, what = sample(name)
        parts = parts[:MOST]
        path = folder / "parts.npz"
        offsets = np.cumsum([0, *(len(part["t"]) for part in parts)])
        np.savez(path, offsets=offsets, **{c: np.concatenate([part[c] for part in parts]) for c in "txyp"})
        events = [ours.recording("compare", **part, size=size) for part in parts]
        what = f"{len(parts)} of {what}"
        for label, theirs, mine in (
            ("by count", {"n_event_bins": T}, {"by": "count"}),
            ("by time", {"n_time_bins": T}, {}),
            ("by steps", {"time_window": step_us, "start_time": 0, "end_time": T * step_us}, {"step_us": step_us}),
        ):
            ratios, seconds = [], []
            for number in range(rounds + 1):
                reply = peer.ask(
                    do="frames",
                    path=str(path),
                    size=size,
                    how=theirs,
                    repeats=1,
                    out=str(folder / "f.npz") if not number else None,
                )
                begin = time.perf_counter()
                for one in events:
                    ours.count_frames(one, T, **mine)
                mean = (time.perf_counter() - begin) / len(events)
                if number:  # the first is not counted
                    ratios.append(reply["seconds"] / mean)
                    seconds.append(mean)
            with np.load(folder / "f.npz") as archive:
                made = [ours.count_frames(one, T, **mine) for one in events]
                theirs_made = [archive[f"arr_{k}"] for k in range(len(made))]
            rows.append(
                {
                    "events": what,
                    "T": T,
                    "frames": label,
                    "ms": round(1e3 * statistics.median(seconds), 4),
                    "ratio": round(statistics.median(ratios), 2),
                    "least_ratio": round(min(ratios), 2),
                    "equal": sum(
                        a.shape == b.shape and bool((a == b).all()) for a, b in zip(made, theirs_made, strict=True)
                    ),
                    "recordings": len(made),
                }
            )
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", required=True, help="Python of benchmarks/events/setup.sh")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "events")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    peer = Peer(arguments.peer)
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        versions = {"peer": peer.ask(do="versions"), "numpy": np.__version__, "python": platform.python_version()}
        rows = readers(peer, Path(folder))
        for row in rows:
            print(row, flush=True)
        write_json_atomic(arguments.out / "readers.json", {"versions": versions, "rows": rows})
        machine = {
            "cpu": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
            "rounds": arguments.rounds,
        }
        frames = speed(peer, Path(folder), arguments.rounds)
        write_json_atomic(arguments.out / "frames.json", {"versions": versions, **machine, "rows": frames})
    peer.end()
    if any(row["differ"] for row in rows):
        raise SystemExit("readers differ")


if __name__ == "__main__":
    main()

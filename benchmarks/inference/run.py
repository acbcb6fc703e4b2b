"""Inference of bitspike's engine beside other runtimes, on the networks that `compiled.py` wrote; a queue.

    python benchmarks/inference/run.py [--minutes 25] [--only TEXT ...] [--rounds 9] [--cache DIR] [--peers-python FILE]

Cells (network, batch, threads) come in the order of `cells.py`, goals first. One JSON a cell and peer, with the
program's own times beside the peer's; what has one of this program is skipped, so a run can be stopped and started
again. See README.md for the rules of timing.
"""

from __future__ import annotations

import argparse
import hashlib
import math
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "training"))

from cells import NETWORKS, OURS, Cell, cells, goal_of  # noqa: E402
from compiled import CACHE  # noqa: E402
from machine import folder_of, machine, source  # noqa: E402
from measure import PAUSE_S, RULE, as_sample, interval  # noqa: E402
from process import ROOT, Process, WorkerError  # noqa: E402

from bitspike.files import read_json, write_json_atomic  # noqa: E402
from bitspike.runtime.engine import available_isas  # noqa: E402

SAMPLE_S = 0.15
MOST = 3  # times as many rounds are tried as are wanted
LEAST_AGREEMENT = 0.9
PREPARE_S, RUN_S = 400.0, 120.0
Record = dict[str, Any]


def key_of(folder: Path) -> str:
    """Hash of the program that is measured."""
    return hashlib.sha256((folder / "program.bitspike").read_bytes()).hexdigest()


def own_results() -> Path:
    """The folder of this machine."""
    return HERE / "results" / folder_of(machine()["cpu"], available_isas()[-1])


def path_of(out: Path, cell: Cell, peer: str) -> Path:
    """The JSON of a cell and peer."""
    return out / f"{cell.network}-b{cell.batch}-t{cell.threads}-{peer}.json"


def is_done(path: Path, key: str, rounds: int) -> bool:
    """Whether a file holds a finished measurement of this program."""
    found = read_json(path) if path.exists() else None
    return isinstance(found, dict) and found.get("key") == key and found.get("rounds", 0) >= rounds


class Bench:
    """Measures cells.

    Args:
        pythons: interpreter of ours and of the peers. cache: of the exports. rounds: that count.
        keep_disturbed: disturbed samples count, for a smoke run; nothing is written then but to another folder.
    """

    def __init__(self, pythons: tuple[Path, Path], cache: Path, rounds: int, keep_disturbed: bool) -> None:
        self.pythons, self.cache, self.rounds, self.keep_disturbed = pythons, cache, rounds, keep_disturbed

    def cell(self, cell: Cell, peers: list[str], out: Path) -> list[Record]:
        """One cell: all processes alive, one at work; a peer that fails leaves a record that says so."""
        folder = self.cache / cell.network
        begun, load = time.monotonic(), machine()
        ready: dict[str, tuple[Process, Record]] = {}
        failed: dict[str, str] = {}
        try:
            for peer in (OURS, *peers):
                try:
                    ready[peer] = self._prepare(peer, cell, folder)
                except WorkerError as error:
                    if peer == OURS:
                        raise
                    failed[peer] = str(error)
            kept, dropped = self._rounds(ready)
        finally:
            for process, _ in ready.values():
                process.close()
        records = []
        for peer in peers:
            record: Record = {
                "key": key_of(folder),
                "network": cell.network,
                "batch": cell.batch,
                "threads": cell.threads,
                "peer": peer,
                "goal": goal_of(peer, cell.network, cell.batch, cell.threads),
                "program": read_json(folder / "facts.json"),
                "machine": load,
                "source": source(ROOT),
                "rule": RULE,
                "pause_s": PAUSE_S,
                "sample_s": SAMPLE_S,
            }
            if peer in failed:
                record |= {"status": f"failed: {failed[peer]}", "rounds": 0}
            else:
                record |= self._judged(peer, ready, kept, dropped)
            record["cell_took_s"] = round(time.monotonic() - begun, 1)
            write_json_atomic(path_of(out, cell, peer), record)
            records.append(record)
        return records

    def _prepare(self, peer: str, cell: Cell, folder: Path) -> tuple[Process, Record]:
        process = Process(peer, self.pythons[peer != OURS], cell.threads)
        order = {
            "do": "prepare",
            "folder": str(folder),
            "cache": str(self.cache),
            "batch": cell.batch,
            "threads": cell.threads,
        }
        try:
            found = process.ask(order, PREPARE_S)
        except WorkerError:
            process.close()
            raise
        compared = found["facts"]["compared"]
        if found["facts"]["exact"] and NETWORKS[cell.network].trained and peer != OURS:
            least = max(compared["agreement_with_program"], compared["agreement_with_folded"])
            if least < LEAST_AGREEMENT:
                process.close()
                raise WorkerError(f"{peer} must answer as the program does, got {least:.1%} of images")
        found["n"] = max(1, math.ceil(SAMPLE_S * 1e3 / found["estimate_ms"]))
        return process, found

    def _rounds(self, ready: dict[str, tuple[Process, Record]]) -> tuple[list[dict[str, float]], int]:
        """Rounds in which nobody was disturbed: ours, peer, peer …; and how many were dropped."""
        kept: list[dict[str, float]] = []
        dropped = 0
        for _ in range(MOST * self.rounds):
            found, disturbed = {}, False
            for peer, (process, facts) in ready.items():
                time.sleep(PAUSE_S)
                sample = as_sample(process.ask({"do": "run", "n": facts["n"]}, RUN_S))
                found[peer] = sample.ms
                disturbed |= bool(sample.disturbed)
                if disturbed and not self.keep_disturbed:
                    break
            if disturbed and not self.keep_disturbed:
                dropped += 1
                continue
            kept.append(found)
            if len(kept) == self.rounds:
                break
        return kept, dropped

    def _judged(self, peer: str, ready: Any, kept: list[dict[str, float]], dropped: int) -> Record:
        record: Record = {
            "versions": ready[peer][0].versions | ready[OURS][0].versions,
            "facts": ready[peer][1]["facts"],
            "ours": ready[OURS][1]["facts"],
            "rounds": len(kept),
            "dropped_rounds": dropped,
        }
        if len(kept) < self.rounds:
            return record | {"status": f"too disturbed: {len(kept)} of {self.rounds} rounds"}
        ours, theirs = [row[OURS] for row in kept], [row[peer] for row in kept]
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        for name, values in (("ours_ms", ours), ("peer_ms", theirs), ("ratio", ratios)):
            low, high = interval(values)
            found = (
                sorted(values)[len(values) // 2]
                if len(values) % 2
                else sum(sorted(values)[len(values) // 2 - 1 :][:2]) / 2
            )
            record |= {name: _short(found), f"{name}_low": _short(low), f"{name}_high": _short(high)}
        samples = [[_short(a), _short(b)] for a, b in zip(ours, theirs, strict=True)]
        return record | {"status": "measured", "samples_ms": samples}


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def say(text: str) -> None:
    """Progress, on the error stream."""
    print(text, file=sys.stderr, flush=True)


def said(record: Record) -> str:
    """A record in one line."""
    name = f"  {record['peer']}"
    if record["status"] != "measured":
        return f"{name}: {record['status']}"
    parity = record["facts"]["compared"]
    goal = "" if record["goal"] is None else f", goal {record['goal']:g}"
    times = f"{record['ours_ms']:g} | {record['peer_ms']:g} ms, ratio {record['ratio']:.2f}{goal}"
    return f"{name}: {times}; dropped {record['dropped_rounds']}; agrees {parity['agreement_with_program']:.1%}"


def main() -> int:
    """Command line; 1 if a peer failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--out", type=Path, default=own_results())
    parser.add_argument("--only", nargs="+", default=[], help="cells whose name holds one of these texts")
    parser.add_argument("--peers", nargs="+", default=[], help="some peers only")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no cell begins after so many")
    parser.add_argument("--keep-disturbed", action="store_true", help="count disturbed samples, to see that all runs")
    parser.add_argument("--list", action="store_true", help="print the cells that are open and stop")
    parser.add_argument("--peers-python", type=Path, default=ROOT / ".venvs" / "inference" / "bin" / "python")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    bench = Bench((Path(sys.executable), given.peers_python), given.cache, given.rounds, given.keep_disturbed)
    begun, failed = time.monotonic(), 0
    for cell in cells():
        folder = given.cache / cell.network
        if given.only and not any(text in cell.name for text in given.only):
            continue
        wanted = [peer for peer in cell.peers if not given.peers or peer in given.peers]
        if not (folder / "facts.json").exists():
            say(f"{cell.name}: not exported")
            continue
        key = key_of(folder)
        wanted = [peer for peer in wanted if not is_done(path_of(given.out, cell, peer), key, given.rounds)]
        if not wanted:
            continue
        if given.list:
            say(f"{cell.name}: {' '.join(wanted)}")
            continue
        if time.monotonic() - begun > given.minutes * 60:
            say("time is up; run again to go on")
            break
        start = time.monotonic()
        try:
            records = bench.cell(cell, wanted, given.out)
        except WorkerError as error:
            say(f"{cell.name}: failed: {error}")
            failed += 1
            continue
        say(f"{cell.name} ({time.monotonic() - start:.0f} s, {(time.monotonic() - begun) / 60:.1f} min)")
        for record in records:
            failed += record["status"].startswith("failed")
            say(said(record))
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())

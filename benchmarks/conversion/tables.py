"""Write the blocks between ``<!-- conversion: NAME -->`` and ``<!-- end -->`` of docs/conversion.md from the results.

Usage: python benchmarks/conversion/tables.py [--check] [--results results/conversion] [--page docs/conversion.md]

Names: goals, picture, and a network's name for its table of accuracy. What has no file is "not run".
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import torch
from common import FILES, RESULTS, SEED
from run import DRAWS, Setting, settings

from bitspike.files import read_json
from bitspike.report import as_markdown, rewrite_blocks

ROOT = Path(__file__).resolve().parents[2]
STEPS = (1, 2, 4, 8, 16, 32)
GOALS = {1: 1.0, 2: 0.3, 4: 0.1}
KINDS = {
    "binary": "binary, 1 bit",
    "ternary": "ternary, 2 bits",
    "multibit11": "multi-bit (1, 1), 2 bits",
    "multibit22": "multi-bit (2, 2), 4 bits",
    "binary, fitted": "binary, weights fitted, 1 bit",
    "multibit22, fitted": "multi-bit (2, 2), weights fitted, 4 bits",
    "spikingjelly": "SpikingJelly, best recipe, 1 bit",
}
NETWORKS = {"he_resnet20": "ResNet-20", "he_resnet32": "ResNet-32"}
Record = dict[str, Any]
Records = dict[tuple[str, str, int], Record]


def load(results: Path) -> Records:
    """(network, kind, T) → result, of the settings in the queue and of SpikingJelly."""
    found: Records = {}
    queue = [setting for setting in settings() if setting.seed == SEED]
    names = {(setting.arch, kind_of(setting), setting.T): setting.name for setting in queue}
    names |= {(arch, "spikingjelly", T): f"{arch}-spikingjelly-T{T}" for arch in FILES for T in STEPS}
    for place, name in names.items():
        path = results / f"{name}.json"
        record = read_json(path) if path.exists() else None
        if isinstance(record, dict):
            found[place] = record
    return found


def kind_of(setting: Setting) -> str:
    """Row of the tables."""
    return setting.neuron + (", fitted" if setting.correction == "weights" else "")


def block(name: str, records: Records, results: Path, page: Path) -> str:
    """The text of one block."""
    if name == "goals":
        head = ["network", "correction", "T", "ANN", "SNN", "points lost", "asked", "result", "lost, 3 draws"]
        head.append("converted in")
        return as_markdown([head, *goals(records, results)])
    if name == "picture":
        picture = page.parent / "conversion.png"
        return (
            f"![Accuracy against total bits and against additions]({picture.name})" if picture.exists() else "Not run."
        )
    return accuracy(name, records)


def draws(arch: str, correction: str, T: int, first: float, results: Path) -> str:
    """Points lost by conversions with each draw of calibration images: mean ± sample standard deviation."""
    drawn = (Setting(arch, "multibit22", T, correction=correction, seed=seed) for seed in DRAWS)
    paths = [results / f"{setting.name}.json" for setting in drawn]
    if not all(path.exists() for path in paths):
        return "not run"
    lost = torch.tensor([first, *(read_json(path)["drop_points"] for path in paths)])  # type: ignore[index]
    return f"{lost.mean():.2f} ± {lost.std():.2f}"


def goals(records: Records, results: Path) -> list[list[str]]:
    """Rows of the goal: m + n = 4."""
    rows = []
    for arch, correction in product(FILES, ("line", "weights")):
        for T, bound in GOALS.items():
            record = records.get((arch, kind_of(Setting(arch, "multibit22", T, correction=correction)), T))
            head = [NETWORKS[arch], correction, str(T)]
            if record is None:
                rows.append([*head, "–", "–", "–", f"≤ {bound}", "not run", "–", "–"])
                continue
            lost = record["drop_points"]
            rows.append(
                [
                    *head,
                    f"{record['ann_accuracy']:.2%}",
                    f"{record['snn_accuracy']:.2%}",
                    f"{lost:.2f}",
                    f"≤ {bound}",
                    "met" if lost <= bound + 1e-9 else "not met",
                    draws(arch, correction, T, lost, results),
                    f"{record['conversion_time_s']:.0f} s, {record['threads']} thread{'s' * (record['threads'] > 1)}",
                ]
            )
    return rows


def accuracy(arch: str, records: Records) -> str:
    """Accuracy of every kind of spike at every T."""
    rows = [["spikes", *(f"T = {T}" for T in STEPS)]]
    for kind, label in KINDS.items():
        cells = (records.get((arch, kind, T)) for T in STEPS)
        rows.append([label, *("not run" if cell is None else f"{cell['snn_accuracy']:.2%}" for cell in cells)])
    ann = next((record["ann_accuracy"] for (name, _, _), record in records.items() if name == arch), None)
    text = "not run" if ann is None else f"{ann:.2%}"
    return f"The ANN: {text}.\n\n{as_markdown(rows)}"


def additions(record: Record) -> float:
    """Additions and shift-additions of the synapses per sample."""
    found = record["operations_per_sample"]
    return float(found["adds"] + found.get("shift_adds", 0.0))


def main() -> int:
    """Rewrite the page, or with --check return 1 if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=ROOT / RESULTS)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "conversion.md")
    given = parser.parse_args()
    records = load(given.results)
    stale = rewrite_blocks(
        given.page, {"conversion": lambda name: block(name, records, given.results, given.page)}, given.check
    )
    if stale and given.check:
        print(f"{given.page.name} is out of date; run python benchmarks/conversion/tables.py")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

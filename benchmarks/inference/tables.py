"""Write the blocks between ``<!-- inference: NAME -->`` and ``<!-- end -->`` of docs/inference.md from the results.

Usage: python benchmarks/inference/tables.py [--check] [--results DIR] [--page FILE.md]

Names: goals, open (goals that nothing ran for), ann, machine, settings, kernels, and b1-t2, b64-t2, b1-t1, b64-t1 for
all times. Every machine has a folder of results and its own tables.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from cells import LABELS, LEAST, NETWORKS, cells, goal_of

from bitspike.files import read_json
from bitspike.report import as_markdown, rewrite_blocks

ROOT = Path(__file__).resolve().parents[2]
ANN = "openvino-ann-int8"
Record = dict[str, Any]
Records = dict[tuple[str, int, int, str], Record]


def load(results: Path) -> list[Records]:
    """Of every machine, which has a folder: (network, batch, threads, peer) → record, in the order of the cells."""
    machines = []
    for folder in sorted(path for path in results.iterdir() if path.is_dir()):
        found: Records = {}
        for cell in cells():
            for peer in cell.peers:
                path = folder / f"{cell.network}-b{cell.batch}-t{cell.threads}-{peer}.json"
                record = read_json(path) if path.exists() else None
                if isinstance(record, dict):
                    found[cell.network, cell.batch, cell.threads, peer] = record
        if found:
            machines.append(found)
    return machines


def block(name: str, machines: list[Records], results: Path) -> str:
    """The text of one block, machine by machine."""
    if name == "kernels":
        found = [read_json(path) for path in sorted(results.glob("*/kernels.json"))]
        return "\n\n".join(map(_kernels, found)) or "Not run."
    if name == "open":
        return _open(machines)
    return "\n\n".join(f"On {_cpu(each)}:\n\n{_part(name, each)}" for each in machines) or "Not run."


def _cpu(records: Records) -> str:
    """CPU and instruction sets of a machine; there are several only where somebody mixed folders."""
    names = {(r["machine"]["cpu"], r["ours"]["engine"].split(", ")[1]) for r in records.values() if "ours" in r}
    return " and ".join(f"{cpu} with {isa}" for cpu, isa in sorted(names)) or "a machine where all failed"


def _part(name: str, records: Records) -> str:
    if name == "goals":
        return _goals(records)
    if name == "ann":
        return _ann(records)
    if name == "machine":
        return _machine(records)
    if name == "settings":
        return _settings(records)
    batch, threads = (int(part[1:]) for part in name.split("-"))
    return _times(records, batch, threads)


def _asked() -> list[tuple[str, int, str, float]]:
    """(network, batch, peer, how many times as fast) of all goals."""
    there = {(cell.network, cell.batch, peer) for cell in cells() if cell.threads == 2 for peer in cell.peers}
    wanted = ((network, batch, peer) for network in NETWORKS for batch in (1, 64) for peer in LABELS)
    goals = ((*each, goal_of(each[2], each[0], each[1], 2)) for each in wanted if each in there)
    return [(network, batch, peer, goal) for network, batch, peer, goal in goals if goal is not None]


def _open(machines: list[Records]) -> str:
    """Goals that no machine has run."""
    ran = {key for records in machines for key, record in records.items() if record["status"] == "measured"}
    left = [
        f"{' at T = '.join(_named(network))}, batch {batch}, against {LABELS[peer]}"
        for network, batch, peer, _ in _asked()
        if (network, batch, 2, peer) not in ran
    ]
    return "\n".join(f"- {text}" for text in left) or "None."


def _named(network: str) -> list[str]:
    kind = NETWORKS[network]
    model = "ResNet-20" if kind.trained else 'wide "ResNet20"'
    return [f"{model}, {kind.label}", str(kind.T)]


def _accuracy(record: Record) -> str:
    """Of the program on the test set."""
    facts = record["program"]
    if "accuracy" not in facts:
        return "not trained" if not facts["setting"]["trained"] else "not measured"
    images = facts["accuracy_images"]
    shown = f"{facts['accuracy']:.2%}" + ("" if images == 10_000 else f" of {images:,} images")
    if "spike_rate" in facts:
        shown += f", {facts['spike_rate']:.1%} fire"
    return shown if counts(record) else f"{shown}; does not count, {facts['reference_accuracy']:.2%} free"


def counts(record: Record) -> bool:
    """Whether a time counts: a trained network must be within two points of its arm without a penalty at T = 2."""
    facts = record["program"]
    reference = facts.get("reference_accuracy")
    return reference is None or facts.get("accuracy", 0.0) >= reference - LEAST


def _goals(records: Records) -> str:
    rows = [["network", "against", "ms, bitspike and other", "its speed, 90 %", "asked", "result"]]
    for network, batch, peer, goal in _asked():
        record = records.get((network, batch, 2, peer))
        if record is None:
            continue
        label, steps = _named(network)
        place = [f"{label}, T = {steps}, batch {batch}; {_accuracy(record)}", LABELS[peer]]
        if record["status"] != "measured":
            rows.append([*place, "–", "–", f"≥ {goal:g}×", record["status"].partition(":")[0]])
            continue
        low, high = record["ratio_low"], record["ratio_high"]
        met = "met" if record["ratio"] >= goal else "not met"
        result = met + ", interval crosses" * ((low >= goal) != (high >= goal))
        times = f"{_ms(record['ours_ms'])}, {_ms(record['peer_ms'])}"
        speed = f"{record['ratio']:.2f}× ({low:.2f}–{high:.2f})"
        rows.append([*place, times, speed, f"≥ {goal:g}×", result if counts(record) else "does not count"])
    return as_markdown(rows) if len(rows) > 1 else "Not run."


def _ann(records: Records) -> str:
    """When the ReLU network wins: it is one network, whatever the program beside it."""
    lines = []
    for batch in (1, 64):
        found = [
            record
            for (_, b, threads, peer), record in records.items()
            if peer == ANN and b == batch and threads == 2 and record["status"] == "measured"
        ]
        if not found:
            lines.append(f"- Batch {batch}: not run.")
            continue
        times = [record["peer_ms"] for record in found]
        ms = f"{_ms(statistics.median(times))} ms"
        if max(times) > 1.1 * min(times):  # other hosts of that name, or other work: ratios are of one run each
            ms = f"{_ms(min(times))} to {_ms(max(times))} ms from run to run (only times of one run are compared)"
        compared = found[0]["facts"]["compared"]
        right = f"{compared['accuracy']:.1%} of {compared['images']} test images"
        ahead = [_short(record) for record in found if record["ratio_low"] > 1]
        behind = [_short(record) for record in found if record["ratio_high"] < 1]
        equal = [_short(record) for record in found if record["ratio_low"] <= 1 <= record["ratio_high"]]
        lines.append(
            f"- Batch {batch}: the ReLU network in OpenVINO int8 takes {ms} and is right on {right}. "
            f"The ANN wins against {_listed(behind)}; it loses against {_listed(ahead)}; "
            f"no difference: {_listed(equal)}."
        )
    return "\n".join(lines)


def _short(record: Record) -> str:
    label, steps = _named(record["network"])
    return f"{label.partition(', ')[2]} at T = {steps} ({_ms(record['ours_ms'])} ms)"


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"


def _times(records: Records, batch: int, threads: int) -> str:
    """ms of bitspike and of every peer; ours is the median of the medians beside each peer."""
    peers = [peer for peer in LABELS if any(key[1:] == (batch, threads, peer) for key in records)]
    rows = [["network", "T", "accuracy", "bitspike", *(LABELS[peer] for peer in peers)]]
    for network in NETWORKS:
        found = {peer: records.get((network, batch, threads, peer)) for peer in peers}
        measured = [record for record in found.values() if record and record["status"] == "measured"]
        if not measured:
            continue
        ours = statistics.median(record["ours_ms"] for record in measured)
        rows.append([*_named(network), _accuracy(measured[0]), _ms(ours), *(_cell(found[peer]) for peer in peers)])
    if len(rows) == 1:
        return "Not run."
    note = "ms; in brackets how many times as long as bitspike beside it and, below 99 %, how often a peer computing"
    return f"{note}\nthe same network gives the program's answer.\n\n{as_markdown(rows)}"


def _cell(record: Record | None) -> str:
    if record is None:
        return "not run"
    if record["status"] != "measured":
        return str(record["status"].partition(":")[0])
    agreement = record["facts"]["compared"]["agreement_with_program"]
    same = f", {agreement:.0%}" if agreement < 0.99 and record["peer"] != ANN else ""
    return f"{_ms(record['peer_ms'])} ({record['ratio']:.2f}×{same})"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 100 else f"{value:.0f}"


def _machine(records: Records) -> str:
    found = list(records.values())
    seen = dict.fromkeys(
        f"{r['machine']['cpu']}, {r['machine']['cores']} cores{' (virtual)' * r['machine']['hypervisor']}, "
        f"{r['machine']['memory_gib']:g} GiB, {r['machine']['libc']}"
        for r in found
    )
    engines = dict.fromkeys(r["ours"]["engine"].split(", ")[1] for r in found if "ours" in r)
    commits = dict.fromkeys(
        (r["source"]["commit"] or "unknown")[:12] + " with changes" * r["source"]["changed"] for r in found
    )
    versions: dict[str, str] = {}
    for record in found:
        versions |= record.get("versions", {})
    dropped = sum(r.get("dropped_rounds", 0) for r in found)
    return "\n".join(
        [
            *(f"- {text}." for text in seen),
            f"- Kernels of bitspike: {', '.join(engines) or 'unknown'}; commit {', '.join(commits)}.",
            f"- {len(found)} comparisons; {dropped} disturbed rounds dropped.",
            "- Versions: " + ", ".join(f"{name} {number}" for name, number in sorted(versions.items())) + ".",
        ]
    )


def _settings(records: Records) -> str:
    """What the contests chose, with batch 1 and two threads."""
    lines = []
    for (network, batch, threads, peer), record in records.items():
        setting = record.get("facts", {}).get("setting")
        if setting and (batch, threads) == (1, 2):
            kernels = record["facts"].get("kernels", {})
            kinds = f"; convolutions: {', '.join(f'{n} × {kind}' for kind, n in kernels.items())}" if kernels else ""
            lines.append(f"- {network}, {LABELS[peer]}: {setting}{kinds}.")
    return "\n".join(lines) or "Not run."


def _kernels(found: Any) -> str:
    densities = list(found["densities"])
    shares = [f"{density:.0%}" for density in densities]
    parts = []
    for threads in sorted({row["threads"] for row in found["rows"]}):
        rows = [["spikes × weights, form", *shares]]
        for row in found["rows"]:
            if row["threads"] == threads:
                taken = row["chosen"]
                times = [f"{row['us'][str(each)]:.1f}{'*' if str(each) in taken else ''}" for each in densities]
                rows.append([f"{row['spikes']} × {row['weights']}, {row['form']}", *times])
        parts.append(f"Threads: {threads}.\n\n{as_markdown(rows)}\n\n{_alone(found, threads)}")
    parts.append(
        f"{found['cpu']}, µs a layer and step with {found['isa']}, {found['rounds']} rounds a figure, "
        f"{found['dropped']} disturbed dropped; *: the form that the planner takes."
    )
    return "\n\n".join(parts)


def _alone(found: Any, threads: int) -> str:
    """Neurons without the convolution, and the dense kernel without neurons beside the peak."""
    neurons, peak = found["neuron_us"].get(str(threads)), found["peak_gops"].get(str(threads))
    if neurons is None:
        return "Neurons alone: not run."
    dense = [row for row in found["rows"] if row["threads"] == threads and row["form"].startswith("uint8")]
    rates = []
    for row in dense:
        us = statistics.median(row["us"].values())
        rates.append(row["gops"] * us / (us - neurons[row["spikes"]]))
    rate = statistics.median(rates)
    return (
        f"Of it {min(neurons.values()):.1f} to {max(neurons.values()):.1f} µs are neurons and the sum of spikes that "
        f"the benchmark adds. Without them the dense kernel does {rate:.0f} GOP/s in the median, {rate / peak:.0%} of "
        f"the measured peak of {peak:.0f}."
    )


def main() -> int:
    """Rewrite the page, or with --check return 1 if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "inference.md")
    given = parser.parse_args()
    machines = load(given.results)
    stale = rewrite_blocks(given.page, {"inference": lambda name: block(name, machines, given.results)}, given.check)
    if stale and given.check:
        print(f"{given.page.name} is out of date; run python benchmarks/inference/tables.py")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""Write the blocks between ``<!-- programs: NAME -->`` and ``<!-- end -->`` of docs/programs.md from the results.

Usage: python benchmarks/programs/tables.py [--check] [--results results/programs] [--page docs/programs.md]

Names: accuracy, flips, size, causes, recordings, transformers. What has no file of its very job is "not run".
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

from jobs import RESULTS, Job, causes, jobs, recordings, stored, transformers

from bitspike.files import read_json
from bitspike.report import as_markdown, rewrite_blocks

ROOT = Path(__file__).resolve().parents[2]
GOAL_POINTS, GOAL_SIZE = 0.1, 0.05
SETS = {
    "digits_demo": "digits",
    "digits_budgets": "digits",
    "fashion_mnist_study": "Fashion-MNIST",
    "fashion_mnist_adaptive_study": "Fashion-MNIST",
    "converted": "CIFAR-10, ResNet-20",
    "fashion_spikformer_study": "Fashion-MNIST, Spikformer",
    "fsdd_study": "spoken digits",
    "nmnist_study": "N-MNIST, 100 recordings",
    "untrained": '"ResNet20" of Ternary Spike',
}
SPIKES = {
    "binary": "binary, 1 bit",
    "ternary": "ternary, 2 bits",
    "multibit": "multi-bit (1, 1), 2 bits",
    "multibit22": "multi-bit (2, 2), 4 bits",
    "multibit-strangers": "multi-bit (1, 1), other speakers",
    "multibit-T5-b2": "multi-bit (1, 1), 2 bits",
    "reverb": "ReverB",
    "adaptive": "learned, S-ACE of 2 bits",
    "medium": "learned, medium budget",
    "learned-4-4-2": "learned, budget of 4-4-2",
    "learned-3-3-1": "learned, budget of 3-3-1",
    "float": "ternary spikes, real weights",
    "ternary weights": "ternary spikes, ternary weights",
    "sign": "ReverB, ±1 weights",
}
Record = dict[str, Any]


def label(job: Job) -> list[str]:
    """Data set (or network), spikes with their bits, T where it is part of the name."""
    kind, _, rest = job.network.partition("/")
    if kind == "converted":
        neuron, T = rest.split("-")
        return [SETS[kind], f"{SPIKES[neuron]}, T = {T}"]
    if kind == "untrained":
        return [SETS[kind], SPIKES["ternary weights" if rest == "ternary" else rest]]
    real = f", real as {job.spike_bits} bits" if rest == "reverb" else ""
    sharp = ", 16-bit weights and input" if job in twice() and job.weight_bits == 16 else ""
    spikes = "learned, mean of 2 bits" if kind == "fashion_spikformer_study" and rest == "adaptive" else SPIKES[rest]
    return [SETS[kind], spikes + real + sharp]


def twice() -> list[Job]:
    """What is compiled with 8 and with 16 bits."""
    return [*recordings(), *transformers()]


def integer(job: Job) -> bool:
    """Whether the spikes are levels of the network itself, so that the goal holds."""
    return not job.network.endswith("/reverb")


def main_jobs() -> list[Job]:
    """Still images, without what tells causes apart."""
    apart = [*causes(), *twice()]
    return [job for job in jobs() if job not in apart]


def accuracy(folder: Path, wanted: list[Job] | None = None) -> str:
    """Both accuracies, and samples that only one of them gets right."""
    rows = [["data", "spikes", "folded %", "program %", "points lost", "only folded / program right", "same class %"]]
    rows[0] += ["float64, same class %", f"within {GOAL_POINTS}"]
    for job in main_jobs() if wanted is None else wanted:
        if job.network.startswith("untrained"):
            continue
        record = stored(folder, job)
        if record is None:
            rows.append([*label(job), *["–"] * 6, "not run"])
            continue
        found = record["accuracy"]
        one, other = found["only_folded_right"], found["only_program_right"]
        chance = 100 * math.sqrt(one + other) / found["samples"]
        kept = abs(found["drop_points"]) <= GOAL_POINTS + 1e-9
        rows.append(
            [
                *label(job),
                f"{100 * found['folded']:.2f}",
                f"{100 * found['program']:.2f}",
                f"{found['drop_points']:.2f} ± {chance:.2f}",
                f"{one} / {other} of {found['samples']:,}",
                f"{100 * found['agreement']:.2f}",
                f"{100 * found['float64_agreement']:.2f}",
                ("met" if kept else "not met") if integer(job) else "no goal",
            ]
        )
    return as_markdown(rows)


def flips(folder: Path) -> str:
    """Spikes that differ, of those that were sent."""
    rows = [["data", "spikes", "samples", "sent M", "flips, taught", "of sent", "flips, end to end", "of sent"]]
    rows[0] += ["greatest logit", "difference, taught", "difference", "numbers clamped"]
    for job in main_jobs():
        record = stored(folder, job)
        if job.network.startswith("untrained"):
            continue
        if record is None:
            rows.append([*label(job), *["–"] * 9, "not run"])
            continue
        found = record["flips"]
        rows.append(
            [
                *label(job),
                f"{found['samples']:,}",
                f"{found['fired'] / 1e6:.2f}",
                f"{found['forced']:,}",
                share(found["forced"], found["fired"]),
                f"{found['end_to_end']:,}",
                share(found["end_to_end"], found["fired"]),
                f"{found['largest_logit']:.1f}",
                f"{found['max_logit_difference_forced']:.3f}",
                f"{found['max_logit_difference']:.2f}",
                f"{record['accuracy']['clamped']:,}",
            ]
        )
    return as_markdown(rows)


def share(part: float, whole: float) -> str:
    """In percent."""
    return f"{100 * part / max(whole, 1):.2f}%"


def size(folder: Path) -> str:
    """Bytes of the file beside float32 and beside the bits counted; seconds."""
    rows = [["data", "spikes", "file kB", "float32 kB", "ratio", "counted kB", "above counted", "within 5 %"]]
    rows[0] += ["compiled in s", "interpreter, ms a sample", "engine, ms a sample"]
    for job in main_jobs():
        record = stored(folder, job)
        if record is None:
            rows.append([*label(job), *["–"] * 8, "not run"])
            continue
        found, times = record["size"], record["times"]
        above = found["file_bytes"] / found["counted_bytes"] - 1
        ran = record.get("accuracy")
        rows.append(
            [
                *label(job),
                kilo(found["file_bytes"]),
                kilo(found["float32_bytes"]),
                f"{found['float32_bytes'] / found['file_bytes']:.1f}",
                kilo(found["counted_bytes"]),
                f"{100 * above:.1f}%",
                "no goal" if ran else "met" if abs(above) <= GOAL_SIZE else "not met",
                f"{times['compile_cpu_s']:.1f} ({times['compile_wall_s']:.1f})",
                seconds(times, "interpreter", record["engine"]["interpreter"]["samples"]) if ran else "–",
                seconds(times, "engine", ran["samples"]) if ran else "–",
            ]
        )
    return as_markdown(rows)


def seconds(times: Record, what: str, samples: int) -> str:
    """CPU milliseconds of a sample, and what passed meanwhile."""
    return f"{1000 * times[f'{what}_cpu_s'] / samples:.2f} ({1000 * times[f'{what}_wall_s'] / samples:.2f})"


def kilo(count: float) -> str:
    """Thousands of bytes."""
    return f"{count / 1000:,.1f}"


def cause(folder: Path) -> str:
    """Weights and inputs of 8 and 16 bits: points lost, share with the same class, flips end to end of those sent."""
    widths = ((8, 8), (16, 8), (8, 16), (16, 16))
    rows = [["data", "spikes", *(f"weights {w}, input {i}" for w, i in widths)]]
    for name in dict.fromkeys(job.network for job in causes()):
        found = [stored(folder, Job(name, weight_bits=w, input_bits=i)) for w, i in widths]
        rows.append([*label(Job(name)), *("not run" if record is None else told(record) for record in found)])
    return as_markdown(rows)


def told(record: Record) -> str:
    """A cell of the causes."""
    found, flipped = record["accuracy"], record["flips"]
    changed = share(flipped["end_to_end"], flipped["fired"])
    return f"{found['drop_points']:.2f}; {100 * found['agreement']:.2f}%; {changed}"


def sequences(folder: Path) -> str:
    """The table of accuracies for recordings."""
    return accuracy(folder, recordings())


def formers(folder: Path) -> str:
    """The table of accuracies for spiking transformers."""
    return accuracy(folder, transformers())


BLOCKS = {
    "accuracy": accuracy,
    "flips": flips,
    "size": size,
    "causes": cause,
    "recordings": sequences,
    "transformers": formers,
}


def main() -> int:
    """Rewrite the page, or with --check return 1 if it is out of date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--results", type=Path, default=ROOT / RESULTS)
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "programs.md")
    given = parser.parse_args()
    strays = set(given.results.glob("*.json")) - {given.results / f"{job.name}.json" for job in jobs()}
    strays |= {given.results / f"{job.name}.json" for job in jobs() if stray(given.results, job)}
    if strays:
        print(f"no job of the queue has the key of {', '.join(sorted(path.name for path in strays))}")
        return 1
    stale = rewrite_blocks(given.page, {"programs": lambda name: BLOCKS[name](given.results)}, given.check)
    if stale and given.check:
        print(f"{given.page.name} is out of date; run python benchmarks/programs/tables.py")
        return 1
    return 0


def stray(folder: Path, job: Job) -> bool:
    """Whether there is a file of a job's name that is not its own."""
    path = folder / f"{job.name}.json"
    return path.exists() and (read_json(path) or {}).get("key") != job.key  # type: ignore[union-attr]


if __name__ == "__main__":
    raise SystemExit(main())

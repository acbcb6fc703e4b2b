"""Write the tables between ``<!-- table: STUDY -->`` and ``<!-- end -->`` from committed study results.

A table of a built-in queue has all its arms, those without a result as "not run".

``<!-- levels: STUDY -->`` begins a table of how levels and bits are used instead.
``<!-- budgets: STUDY -->`` asks for budgets kept and bits allocated, a row per job.
``<!-- every: STUDY -->`` asks for budgets beside networks of one width, a row per budget.
``<!-- program: STUDY -->`` asks for the sizes and accuracies of the program that `bitspike demo` compiled.
``<!-- nmnist: FILE.json -->`` asks for the accuracies that benchmarks/conversion/nmnist.py measured.
``<!-- counts: FILE.json -->`` asks for the parameters and operations that benchmarks/models/counts.py counted, and
``<!-- operations: FILE.json -->`` for the latter beside the published ones, of networks for which some were seen.
``<!-- latencies: FILE.json -->`` asks for forecast beside measured latencies of benchmarks/budgets/latency.py.
``<!-- uniform: FILE.json -->`` asks for its latencies of networks with the same bits and T everywhere.
``<!-- open: all -->`` asks for the jobs of built-in queues that have and that have not run.
``<!-- zoo: all -->`` asks for the programs of the zoo, as their cards have them.
``<!-- papers: FILE.json -->`` asks for figures of papers, and where they were seen, beside those of committed studies.

Usage: python tools/readme_table.py [--check] FILE.md ...
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

from bitspike.files import read_json
from bitspike.report import LevelUse, as_markdown, level_table, metric_text, rewrite_blocks, study_table
from bitspike.runtime.zoo import zoo_table
from bitspike.training.rows import TABLES, table_study
from bitspike.training.study import ArmSummary, Metric, summarise

ROOT = Path(__file__).resolve().parent.parent


def _table(root: Path, kind: str, folder: str) -> str:
    if kind == "table" and Path(folder).name in TABLES:
        return as_markdown(study_table(_rows(root, Path(folder).name)))
    path = root / folder / "compare.json"
    if not path.exists():
        return "Not run."
    document = read_json(path)
    rows = [
        ArmSummary(row["arm"], row["n"], row["missing"], {key: Metric(**m) for key, m in row["metrics"].items()})
        for row in document["arms"]
    ]
    if kind == "levels":
        return as_markdown(level_table(rows, [LevelUse(**use) for use in document.get("levels", [])]))
    return as_markdown(study_table(rows))


@lru_cache
def _rows(root: Path, table: str) -> list[ArmSummary]:
    """Every arm of a table's queue, as its committed JSON has it."""
    return summarise(table_study(table, root / "results"))


def _papers(root: Path, file: str) -> str:
    """A row a claim: the paper's figure (`?` where none was seen) and where it stands, ours beside it."""
    rows = [["paper", "what", "its setting", "its figure", "seen in", "ours", "seeds", "our setting"]]
    for claim in read_json(root / file):
        ours = claim["ours"]
        arms = {row.arm: row for row in _rows(root, ours["table"])}
        own = [arms[ours[key]] for key in ("arm", "minus") if key in ours]
        found = [row.metrics.get("test_accuracy") for row in own]
        shown, seeds = "not run", "0"
        if all(found):
            shown = metric_text(found[0], "percent")
            if len(found) == 2:
                shown = f"{100 * (found[0].mean - found[1].mean):+.2f}".replace("-", "−")
            seeds = str(min(row.n for row in own))
        told = [claim[key] or "?" for key in ("figure", "source")]
        rows.append([claim["paper"], claim["what"], claim["setting"], *told, shown, seeds, claim["our_setting"]])
    return as_markdown(rows)


def _open(root: Path) -> str:
    """A row a table: jobs of its queue that are committed, and arms of which none or not all seeds are."""
    rows = [["table", "queue", "run", "of", "arms without a result"]]
    for name, table in TABLES.items():
        arms = _rows(root, name)
        done, left = sum(row.n for row in arms), sum(len(row.missing) for row in arms)
        none = [f"`{row.arm}`" for row in arms if not row.n]
        said = "all" if len(none) == len(arms) else ", ".join(none) or "none"
        rows.append([name, f"`{' '.join((table.queue, *table.set))}`", str(done), str(done + left), said])
    return as_markdown(rows)


def _budgets(root: Path, folder: str) -> str:
    rows = [
        [
            "arm",
            "seed",
            "validation %",
            "test %",
            "budget",
            "counted",
            "limit",
            "used %",
            "bits w, s; T",
            "before repair",
        ]
    ]
    jobs = [read_json(path) for path in (root / folder).glob("*-seed*.json")]
    least = {job["arm"]: min(j["result"]["size_bytes"] for j in jobs if j["arm"] == job["arm"]) for job in jobs}
    for job in sorted(jobs, key=lambda job: (least[job["arm"]], job["arm"], job["seed"])):
        result = job["result"]
        accuracies = [f"{100 * result[key]:.2f}" for key in ("validation_accuracy", "test_accuracy")]
        epoch = result["budget"]["repairs"][0]["epoch"]
        before = [record for record in result["history"] if record["epoch"] <= epoch][-1]
        spent = [_spent(result["history"][-1]), _spent(before)]
        for name, row in result["budget"]["budgets"].items():
            counted = [f"{row['value']:,.0f}", f"{row['limit']:,.0f}", f"{100 * row['used']:.1f}"]
            rows.append([job["arm"], str(job["seed"]), *accuracies, name, *counted, *spent])
    return as_markdown(rows)


def _every(root: Path, folder: str) -> str:
    """A row a budget: accuracies over its seeds, beside those of the uniform network nearest below (or nearest)."""
    found: dict[str, list[dict[str, Any]]] = {}
    for path in sorted((root / folder).glob("*-seed*.json")):
        job = read_json(path)
        found.setdefault(job["arm"], []).append(job["result"])
    costs = read_json(root / folder / "uniform.json")
    rows = [
        [
            "budget",
            "seeds",
            "test %, least",
            "mean",
            "used %",
            "uniform",
            "its cost",
            "test %, least",
            "mean",
            "least − mean",
        ]
    ]
    for arm, results in found.items():
        if "budget" not in results[0]:
            continue
        name, row = next(iter(results[0]["budget"]["budgets"].items()))
        limit = row["limit"]
        known = [u for u in costs if u in found]
        below = [u for u in known if costs[u][name] <= limit]
        uniform = max(below, key=lambda u: costs[u][name]) if below else min(known, key=lambda u: costs[u][name])
        own, other = ([100 * r["test_accuracy"] for r in rs] for rs in (results, found[uniform]))
        used = [100 * r["budget"]["budgets"][name]["used"] for r in results]
        mean = sum(other) / len(other)
        cells = [
            arm,
            str(len(own)),
            f"{min(own):.2f}",
            f"{sum(own) / len(own):.2f}",
            f"{min(used):.1f} – {max(used):.1f}",
        ]
        cells += [
            uniform.removeprefix("uniform-"),
            f"{costs[uniform][name]:,.4g}" if limit < 1000 else f"{costs[uniform][name]:,.0f}",
        ]
        rows.append([*cells, f"{min(other):.2f}", f"{mean:.2f}", f"{min(own) - mean:+.2f}".replace("-", "−")])
    return as_markdown(rows)


def _spent(record: dict[str, float]) -> str:
    return f"{record['weight_bits']:.2f}, {record['spike_bits']:.2f}; {record['T']:.2f}"


def _program(root: Path, folder: str) -> str:
    """Sizes and accuracies of what `bitspike demo` compiled."""
    path = root / folder / "program.json"
    if not path.exists():
        return "Not run."
    found = read_json(path)
    rows = [["arm", "what", "bytes", f"accuracy % of {found['samples']} test images"]]
    for arm, what, size, share in (
        (found["arm"], "float32 weights, folded network", "float32_bytes", "folded_accuracy"),
        ("", "integer program, 8-bit weights", "program_bytes", "accuracy"),
    ):
        rows.append([arm, what, f"{found[size]:,}", f"{100 * found[share]:.2f}"])
    return as_markdown(rows)


_NMNIST = {
    "one": ("`LIF`, at most one spike a step", "−1"),
    "one, no floor": ("`LIF`, at most one spike a step", "none"),
    "several": ("`MultiBit(8, 0)`, several", "−1"),
    "several, no floor": ("`MultiBit(8, 0)`, several", "none"),
}


def _nmnist(root: Path, file: str) -> str:
    path = root / file
    if not path.exists():
        return "Not run."
    document = read_json(path)
    rows = [["neuron", "floor", "test %", "training %", "folded: additions M", "shift-additions M", "flips by folding"]]
    for name, head in _NMNIST.items():
        found = document.get(name)
        if found is None:
            rows.append([*head, *["not run"] * 5])
            continue
        shares = [found["accuracy"].get(part) for part in ("test100", "train300")]
        shown = ["not run" if share is None else f"{100 * share:.1f}" for share in shares]
        counted = found["operations_per_recording"]
        operations = [f"{counted[kind] / 1e6:.2f}" for kind in ("adds", "shift_adds")]
        rows.append([*head, *shown, *operations, str(found["flips"])])
    return as_markdown(rows)


def _counts(root: Path, file: str) -> str:
    """A row a network: ours, what is left out on purpose, and what was published, `?` where no figure was seen."""
    path = root / file
    if not path.exists():
        return "Not run."
    head = ["builder", "network", "input", "K", "parameters M", "left out M", "together M", "published M", "stated in"]
    rows = [[*head, "MACs G", "products M", "neurons M"]]
    for case in read_json(path):
        ours, left, stated = case["parameters"], case["left_out"], case["stated"]
        sizes = [f"{ours / 1e6:.3f}", f"{left / 1e6:.3f}" if left else "0", f"{(ours + left) / 1e6:.3f}"]
        said = [stated["parameters_m"] or "?", stated["source"] or "?"]
        done = [f"{case['macs'] / 1e9:.4f}", f"{case['pairs'] / 1e6:.3f}", f"{case['neurons'] / 1e6:.3f}"]
        shape = "×".join(map(str, case["shape"]))
        rows.append([f"`{case['builder']}`", case["label"], shape, str(case["classes"]), *sizes, *said, *done])
    return as_markdown(rows)


def _operations(root: Path, file: str) -> str:
    """A row a network with published operations or energy: what ours does at most, and which share of it they count."""
    path = root / file
    if not path.exists():
        return "Not run."
    rows = [["network", "input", "T", "first G", "others G", "published G", "share %", "published mJ", "means G", "%"]]
    rows[0].append("stated in")
    for case in read_json(path):
        stated, steps = case["stated"], case["stated"]["T"]
        if steps is None:
            continue
        first = steps * case["first_macs"] / 1e9
        others = steps * (case["macs"] + case["pairs"]) / 1e9 - first
        operations, energy = stated["operations_g"], stated["energy_mj"]
        whole = others + (first if steps == 1 else 0)  # multiply-adds of the analog network are all of them
        share = "?" if operations is None else f"{100 * operations / whole:.1f}"
        meant = None if energy is None else (energy - 4.6 * first) / 0.9
        found = ["?", "?"] if meant is None else [f"{meant:.2f}", f"{100 * meant / others:.1f}"]
        shape = "×".join(map(str, case["shape"]))
        row = [case["label"], shape, str(steps), f"{first:.3f}", f"{others:.3f}", _or_unseen(operations), share]
        rows.append([*row, _or_unseen(energy), *found, stated["operations_source"]])
    return as_markdown(rows)


def _or_unseen(value: float | None) -> str:
    return "?" if value is None else f"{value:.2f}"


_DRAWS = {"all": "bits and T", "bits": "bits, T = 1"}
_TIMED = {"digits": "study_cnn, 16 channels, 8×8", "resnet": "he_resnet20, 8 channels, 32×32"}


def _latencies(root: Path, file: str) -> str:
    path = root / file
    if not path.exists():
        return "Not run."
    rows = [["network", "drawn", "allocations", "measured ms", "rank correlation", "median relative error %"]]
    for name, network in read_json(path)["networks"].items():
        for draw, words in _DRAWS.items():
            found = network[draw]
            ends = " – ".join(f"{end:.4f}" for end in found["measured_range_ms"])
            figures = [f"{found['rank_correlation']:.2f}", f"{100 * found['median_relative_error']:.1f}"]
            rows.append([_TIMED[name], words, str(len(found["pairs_ms"])), ends, *figures])
    return as_markdown(rows)


def _uniform(root: Path, file: str) -> str:
    path = root / file
    if not path.exists():
        return "Not run."
    networks = read_json(path)["networks"]
    rows = [["bits of weights", "bits of spikes", "T", *(f"{_TIMED[name]}: ms" for name in networks)]]
    for cases in zip(*(network["uniform"] for network in networks.values()), strict=True):
        first = cases[0]
        times = [f"{case['ms']:.4f}" for case in cases]
        rows.append([str(first["weights"]), str(first["spikes"]), str(first["steps"]), *times])
    return as_markdown(rows)


def main(arguments: list[str]) -> int:
    """Rewrite (or with --check compare) the tables of the given files; 1 if one is out of date."""
    check = "--check" in arguments
    writers = {
        "table": lambda folder: _table(ROOT, "table", folder),
        "levels": lambda folder: _table(ROOT, "levels", folder),
        "budgets": lambda folder: _budgets(ROOT, folder),
        "every": lambda folder: _every(ROOT, folder),
        "program": lambda folder: _program(ROOT, folder),
        "nmnist": lambda file: _nmnist(ROOT, file),
        "counts": lambda file: _counts(ROOT, file),
        "operations": lambda file: _operations(ROOT, file),
        "latencies": lambda file: _latencies(ROOT, file),
        "uniform": lambda file: _uniform(ROOT, file),
        "papers": lambda file: _papers(ROOT, file),
        "open": lambda _: _open(ROOT),
        "zoo": lambda _: as_markdown(zoo_table()),
    }
    stale = 0
    for name in (a for a in arguments if a != "--check"):
        if rewrite_blocks(Path(name), writers, check) and check:
            print(f"{name}: a table is out of date; run python tools/readme_table.py {name}")
            stale = 1
    return stale


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

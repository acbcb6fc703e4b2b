"""Builds the zoo: trained programs, their cards, samples and notices, and the float networks.

Usage: BITSPIKE_DATA=DIR python benchmarks/zoo/build.py [--only NAME ...] [--work runs/zoo] [--list] [--cards]
       python benchmarks/zoo/build.py --latency

Can be stopped and started again: runs stay in --work and go on where they were, a program's card is written last.
Networks are seed 0 of rows of docs/results.md, as `bitspike reproduce` trains them, or conversions of published
weights. Nothing is chosen here. With --cards nothing is compiled: cards are written again for programs that are there.
With --latency programs that are there are timed, on a machine that does nothing else, into results/zoo/latency.json and
their cards; that needs neither data nor runs.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from entries import DATA, ENTRIES, ROOT, SLICE, WEIGHTS, Entry, Source

import bitspike
from bitspike.commands.program import beside_test, lowered_run
from bitspike.commands.study import run_queue
from bitspike.commands.zoo import fed_samples
from bitspike.cost import cost, cost_summary
from bitspike.data import ImageSet
from bitspike.files import read_json, write_bytes_atomic, write_json_atomic
from bitspike.fold import fold
from bitspike.hub import Pretrained, save_pretrained
from bitspike.runtime import Program, load, save
from bitspike.runtime.bench import bench
from bitspike.runtime.zoo import levels_digest, predicted
from bitspike.schema import to_mapping
from bitspike.training.converted import convert_run, converted_recipe
from bitspike.training.job import verified
from bitspike.training.rows import find_row
from bitspike.training.runs import RunFolder, open_run
from bitspike.training.study import plan

PACKAGE = ROOT / "src" / "bitspike"
PROGRAMS, NETWORKS = PACKAGE / "runtime" / "zoo" / "programs", PACKAGE / "pretrained"
RESULTS = ROOT / "results"
LATENCY = RESULTS / "zoo" / "latency.json"
CHECKPOINT = "checkpoints/resnet20-12fca82f.th"


def main() -> None:
    """Build what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="programs whose name holds one of these texts")
    parser.add_argument("--work", type=Path, default=Path("runs/zoo"), help="runs that are not committed")
    parser.add_argument("--list", action="store_true", help="print names and what is there, and stop")
    parser.add_argument("--cards", action="store_true", help="write cards alone")
    parser.add_argument("--again", action="store_true", help="make programs that are there once more")
    parser.add_argument("--latency", action="store_true", help="time the programs that are there, and stop")
    given = parser.parse_args()
    wanted = [entry for entry in ENTRIES if not given.only or any(text in entry.name for text in given.only)]
    if not wanted:
        parser.error(f"no program's name holds any of {given.only}")
    if given.latency:
        time_all([entry for entry in wanted if card_path(entry).exists()])
        return
    for entry in wanted:
        there = card_path(entry).exists()
        if given.list:
            print(f"{'there' if there else 'open '}  {entry.name}")
        elif not there or given.cards or given.again:
            build(entry, given.work, given.cards)


def card_path(entry: Entry) -> Path:
    """The card of a program."""
    return PROGRAMS / f"{entry.name}.json"


def build(entry: Entry, work: Path, cards: bool = False) -> None:
    """Train or convert, compile, measure, and write everything of a program."""
    folder = converted(entry, work) if not entry.row else trained(entry, work)
    path = PROGRAMS / f"{entry.name}.bitspike"
    path.parent.mkdir(parents=True, exist_ok=True)
    _, splits, _ = open_run(folder)
    if not cards:
        save(lowered_run(folder, "final", pixels=isinstance(splits.test, ImageSet)), path)
    program = load(path)
    x, labels = fed_samples(splits.test, SLICE)
    data = DATA[entry.name.partition("/")[0]]
    if data.inside:
        write_array(path.with_name("samples.npy"), x)
    sources = [data.source, *([] if entry.row else [WEIGHTS])]
    for source in sources:
        notice(source, path.parent)
    card = card_of(entry, folder, program, path)
    card["slice"] = {
        "what": f"{SLICE} test samples, evenly spread",
        "file": "samples.npy" if data.inside else None,
        "levels_sha256": levels_digest(program, x),
        "labels": labels,
        "predictions": list(predicted(program, x)),
    }
    write_json_atomic(card_path(entry), card)
    if entry.network:
        keep_network(entry, folder)
    print(f"{entry.name}: {100 * card['accuracy']['program']:.2f} %, {card['bytes']['file']:,} bytes", flush=True)


def trained(entry: Entry, work: Path) -> Path:
    """The run of seed 0 of a row, trained where it is not there."""
    row = find_row(entry.row, 0, RESULTS)
    study = replace(row.study, out=work / row.table)
    (job,) = plan(study)
    folder = study.out / "runs" / job.path.stem
    if not RunFolder(folder).summary.exists() and run_queue(study, (0, 1), False, folder.parent).diverged:
        raise SystemExit(f"{entry.name}: training diverged")
    return folder


def converted(entry: Entry, work: Path) -> Path:
    """The run folder of a conversion, as `bitspike convert` leaves it."""
    folder = work / entry.name.replace("/", "-")
    if not RunFolder(folder).summary.exists():
        neuron, T, sets = entry.convert
        recipe = converted_recipe("he_resnet20", neuron, "cifar10", T, sets)
        convert_run(recipe, Path(os.environ["BITSPIKE_DATA"]) / CHECKPOINT, folder)
    return folder


def card_of(entry: Entry, folder: Path, program: Program, path: Path) -> dict[str, Any]:
    """Everything of a card but its slice."""
    recipe, splits, model = open_run(folder)
    figures = RunFolder(folder).figures()
    ran = beside_test(folder, program)
    if ran.different:
        raise AssertionError(f"{entry.name}: engine and interpreter differ")
    same, sample = verified(model, splits.validation)
    with torch.no_grad():
        counted = cost(fold(same, sample).graph, sample)
    _, compared = cost_summary(counted)
    data = DATA[entry.name.partition("/")[0]]
    spec, facts = program.spec, path.read_bytes()
    weights = [spec.constants[op.tensors["weight"]] for op in spec.operations if "weight" in op.tensors]
    sources: list[Source] = [data.source, *([] if entry.row else [WEIGHTS])]
    command = f"bitspike reproduce {entry.row} --seed 0"
    if not entry.row:
        neuron, T, sets = entry.convert
        command = (
            f"bitspike convert resnet20-12fca82f.th --arch he_resnet20 --neuron {neuron} --T {T} --set {' '.join(sets)}"
        )
    return {
        "card": 1,
        "name": entry.name,
        "about": entry.about,
        "data": {"name": recipe.data.name, "about": data.about, "test_samples": len(splits.test)},
        "network": {
            "builder": recipe.model.name,
            "spikes": entry.spikes,
            "neuron": recipe.neuron.name,
            "weight": recipe.weight.name,
            "T": recipe.model.T,
            "parameters": figures["parameters"],
        },
        "recipe": {"command": command, "resolved": to_mapping(recipe.anywhere())},
        "accuracy": {
            "program": ran.accuracy,
            "folded": ran.folded_accuracy,
            "agreement": ran.agreement,
            "samples": ran.samples,
            **committed(entry),
        },
        "bits": {
            "weights": max(constant.bits or 8 * constant.array.itemsize for constant in weights),
            "trained_weights": figures["weight_bits"],
            "spikes": figures["spike_bits"],
            "input": spec.input.value.dtype.itemsize * 8,
        },
        "bytes": {"file": len(facts), "memory": program.plan.peak_bytes, "float32": 4 * figures["parameters"]},
        "operations": {key: figures[key] for key in ("adds", "shift_adds", "multiplications")},
        "energy_nj": {name: round(comparison.snn.total_pj() / 1e3, 3) for name, comparison in compared.items()},
        "latency_ms": latency_of(entry.name, facts),
        "licence": "Apache-2.0" if entry.row else f"Apache-2.0 AND {WEIGHTS.licence}",
        "derives_from": [{"what": s.what, "licence": s.licence, "file": s.file} for s in sources],
        "sha256": hashlib.sha256(facts).hexdigest(),
        "made_with": {"bitspike": bitspike.__version__, "torch": torch.__version__, "numpy": np.__version__},
    }


def time_all(entries: list[Entry]) -> None:
    """Median times of calls for one sample on one thread, into the JSON and the cards."""
    found = read_json(LATENCY) if LATENCY.exists() else {}
    for entry in entries:
        path = PROGRAMS / f"{entry.name}.bitspike"
        program = load(path, threads=1, plan=False)
        measured = bench(program, None, [1]).as_dict()["latency"][0]
        facts = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "engine": program.engine.facts}
        found[entry.name] = {
            **facts,
            "calls": measured["calls"],
            "p50_ms": measured["p50_ms"],
            "p99_ms": measured["p99_ms"],
        }
        LATENCY.parent.mkdir(parents=True, exist_ok=True)
        write_json_atomic(LATENCY, dict(sorted(found.items())))
        card = read_json(card_path(entry))
        write_json_atomic(card_path(entry), {**card, "latency_ms": measured["p50_ms"]})  # type: ignore[dict-item]
        print(f"{entry.name}: {measured['p50_ms']:.3f} ms", flush=True)


def latency_of(name: str, program: bytes) -> float | None:
    """What was measured of this very program."""
    found = read_json(LATENCY) if LATENCY.exists() else {}
    told = found.get(name, {})  # type: ignore[attr-defined]
    return told["p50_ms"] if told.get("sha256") == hashlib.sha256(program).hexdigest() else None


def committed(entry: Entry) -> dict[str, Any]:
    """Test accuracies of the seeds (or draws of calibration images) that are committed."""
    if entry.row:
        table, _, arm = entry.row.partition("/")
        files = sorted((RESULTS / table).glob(f"{arm}-seed*.json"))
        found = [read_json(path)["result"]["test_accuracy"] for path in files]  # type: ignore[index]
        of, source = "seeds of the network", f"results/{table}/{arm}-seed*.json"
    else:
        found = [read_json(ROOT / path)["snn_accuracy"] for path in entry.results]  # type: ignore[index]
        of, source = "draws of calibration images", entry.results[0].replace(".json", "*.json")
    spread = statistics.stdev(found) if len(found) > 1 else None
    return {"seeds": found, "mean": statistics.fmean(found), "std": spread, "of": of, "source": source}


def keep_network(entry: Entry, folder: Path) -> None:
    """The float network, for `from_pretrained`."""
    recipe, splits, model = open_run(folder)
    test, shape = splits.test, tuple(splits.test.step_shape)
    images = isinstance(test, ImageSet)
    mean = test.mean if images else (0.0,) * shape[0]
    std = test.std if images else (1.0,) * shape[0]
    source = DATA[entry.name.partition("/")[0]].source
    figures = {key: value for key, value in RunFolder(folder).figures().items() if key.endswith("accuracy")}
    notice = f"Trained on {source.what}; licence as stated: {source.licence}. Weights: Apache-2.0."
    given = Pretrained(model, recipe.anywhere(), shape, test.classes, mean, std, test.top)
    save_pretrained(given, NETWORKS / entry.name, figures, notice)


def notice(source: Source, folder: Path) -> None:
    """The text that goes with copies, where there is one."""
    if source.file is not None:
        write_bytes_atomic(folder / source.file, (Path(os.environ["BITSPIKE_DATA"]) / source.text).read_bytes())


def write_array(path: Path, array: np.ndarray[Any, Any]) -> None:
    """An .npy file, whole or not there."""
    made = io.BytesIO()
    np.save(made, array, allow_pickle=False)
    write_bytes_atomic(path, made.getvalue())


if __name__ == "__main__":
    main()

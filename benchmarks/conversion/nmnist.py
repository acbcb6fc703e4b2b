"""The published N-MNIST network with one spike and with several a step: accuracy, rates and operations, one JSON.

Usage: BITSPIKE_DATA=DIR python benchmarks/conversion/nmnist.py [--train 300] [--out FILE] [--threads 2]

Reads the 100 test recordings once per neuron, and the first training recordings that are asked for. Nothing is chosen.
The file is written after every neuron; those that are in it are skipped.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
from torch import nn

import bitspike
from bitspike.cost import cost
from bitspike.data import EventSet, load_events
from bitspike.files import read_json, write_json_atomic
from bitspike.models import load_nmnist_checkpoint, nmnist_cnn
from bitspike.neurons import LIF, MultiBit, Neuron

NEURONS: dict[str, Neuron] = {
    "several": MultiBit(8, 0, decay=1.0, floor=-1.0),
    "one": LIF(1.0, 1.0, reset="soft", floor=-1.0),
    "one, no floor": LIF(1.0, 1.0, reset="soft"),
    "several, no floor": MultiBit(8, 0, decay=1.0),
}
BATCH = 25
COST_SAMPLES = 4


@torch.no_grad()
def accuracy(net: nn.Module, data: EventSet, count: int) -> float:
    """Share of the first recordings whose class is the neuron that sent most in 300 steps of 1 ms."""
    right = 0
    for numbers in torch.arange(count).split(BATCH):
        found = net(data.frames(numbers.tolist()).float()).argmax(1)
        right += int((found == data.labels[numbers]).sum())
    return right / count


def measure(neuron: Neuron, root: Path, train: int) -> dict[str, object]:
    """One neuron: accuracies, rates, operations per recording (of training recordings, folded)."""
    file = root / "checkpoints" / "nir_nmnist_cnn_ann_weights.pth"
    net = load_nmnist_checkpoint(nmnist_cnn(neuron), file).eval()
    parts = {part: load_events(root / "nmnist" / f"nmnist_{part}.npz") for part in ("train1000", "test100")}
    sample = parts["train1000"].frames(range(COST_SAMPLES)).float()
    folded = bitspike.fold(net, sample)
    counted = cost(folded.graph, sample)
    start = time.perf_counter()
    found = {"test100": accuracy(net, parts["test100"], 100)}
    seconds = time.perf_counter() - start
    if train:
        found[f"train{train}"] = accuracy(net, parts["train1000"], train)
    kinds = ("macs", "adds", "shift_adds", "multiplications", "side_adds", "comparisons")
    return {
        "neuron": repr(neuron),
        "accuracy": found,
        "time_s_of_100": seconds,
        "rates": {name: layer.rate for name, layer in folded.report.layers.items()},
        "flips": folded.report.end_to_end_flips,
        "operations_per_recording": {kind: counted.total(kind) for kind in kinds},
    }


def main() -> None:
    """Measure every neuron and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/conversion/results/nmnist.json"))
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    root = Path(os.environ["BITSPIKE_DATA"])
    held = read_json(given.out) if given.out.exists() else None
    document: dict[str, object] = (
        held
        if isinstance(held, dict)
        else {
            "T": 300,
            "step_us": 1000,
            "threads": given.threads,
            "source": "weights: github.com/neuromorphs/NIR (three-clause BSD); recordings: N-MNIST (Orchard et al.)",
        }
    )
    given.out.parent.mkdir(parents=True, exist_ok=True)
    for name, neuron in NEURONS.items():
        if name not in document:
            document[name] = found = measure(neuron, root, given.train)
            print(name, found["accuracy"], flush=True)
            write_json_atomic(given.out, document)


if __name__ == "__main__":
    main()

"""Accuracy of converted CIFAR-10 ResNets on the whole test set: a queue, one JSON a setting, done ones are skipped.

Usage: BITSPIKE_DATA=DIR python benchmarks/conversion/run.py [--only TEXT ...] [--out results/conversion] [--list]
           [--validation N] [--threads 2]

Can be stopped at any moment and started again: a setting's file appears whole, when the setting is finished. Every
choice is made on training images; a setting reads the test set once, after its conversion. With --validation N it is
the first N images held out of the training set that are classified instead, shifted, flipped and partly cut out, which
both networks find about as hard as the test set; nothing is written then: that is for choosing.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from common import (
    BATCH,
    FILES,
    IMAGES,
    RESULTS,
    SEED,
    SOURCE,
    calibration,
    checkpoint,
    held_out,
    images,
    key_of,
    stored,
)
from torch import Tensor, nn

import bitspike
from bitspike.ann2snn import Converted
from bitspike.cost import cost
from bitspike.data import Batches, ImageSet, Splits
from bitspike.files import write_json_atomic
from bitspike.models import MODELS, load_he_checkpoint
from bitspike.neurons import LIF, MultiBit, Neuron, Signed

NEURONS: dict[str, Neuron] = {
    "binary": LIF(1.0, 1.0, reset="soft"),
    "multibit11": MultiBit(1, 1, decay=1.0),
    "multibit22": MultiBit(2, 2, decay=1.0),
    "ternary": Signed(1, decay=1.0),
}
COST_SAMPLES = 64
DRAWS = (1, 2)  # seeds of calibration images beside SEED


@dataclass(frozen=True)
class Setting:
    """One conversion; the fields decide its result."""

    arch: str
    neuron: str
    T: int
    threshold: str = "mse"
    sharing: str = "channel"
    correction: str = "line"
    images: int = IMAGES
    seed: int = SEED
    readout: str = "mean"
    percentile: float = 99.9

    @property
    def name(self) -> str:
        """File name."""
        threshold = self.threshold + (f"{self.percentile:g}" if self.threshold == "percentile" else "")
        name = f"{self.arch}-{self.neuron}-T{self.T}-{threshold}-{self.sharing}-{self.correction}-{self.images}"
        parts = [name, *([] if self.readout == "mean" else [self.readout])]
        return "-".join([*parts, *([] if self.seed == SEED else [f"draw{self.seed}"])])

    @property
    def key(self) -> str:
        """Hash of the fields; read-out and percentile came later."""
        fields = asdict(self)
        for name, before in (("readout", "mean"), ("percentile", 99.9)):
            if fields[name] == before:
                del fields[name]
        return key_of(fields)


def settings() -> Iterator[Setting]:
    """The goal first (m + n = 4), then binary spikes, then graded ones at the total bits of the binary ones.

    Total bits are T × bits of a spike: 4 bits at T = 8 stand beside binary spikes at T = 32. Then the goal and binary
    spikes with fitted weights; last the goal with other calibration images.
    """
    whole: dict[str, Any] = {}
    late: dict[str, Any] = {"readout": "settled"}
    fitted: dict[str, Any] = {"correction": "weights"}
    short: dict[str, Any] = {"threshold": "percentile", "percentile": 97.0, "correction": "mean"}  # see docs/log.md
    for neuron, steps, options in (
        ("multibit22", (1, 2, 4), whole),
        ("binary", (1,), short),
        ("ternary", (1,), short),
        ("multibit11", (1,), whole),
        ("binary", (2,), short | late),
        ("binary", (4, 8), late),
        ("ternary", (2, 4, 8), late),
        ("multibit11", (2, 4, 8), late),
        ("multibit22", (8,), late),
        ("binary", (16,), late),
        ("ternary", (16,), late),
        ("multibit11", (16,), late),
        ("binary", (32,), late),
    ):
        yield from (Setting(arch, neuron, T, **options) for T in steps for arch in FILES)
    for neuron, steps, options in (("multibit22", (1, 2, 4), fitted), ("binary", (4, 8, 16, 32), fitted | late)):
        yield from (Setting(arch, neuron, T, **options) for T in steps for arch in FILES)
    for seed in DRAWS:
        yield from (Setting(arch, "multibit22", T, seed=seed) for T in (1, 2, 4) for arch in FILES)
    for seed in DRAWS:
        yield from (Setting(arch, "multibit22", T, seed=seed, **fitted) for T in (1, 2, 4) for arch in FILES)


def convert(setting: Setting, data: ImageSet) -> tuple[nn.Module, Converted, Tensor]:
    """(ANN, SNN, calibration inputs); calibration images are drawn from the training part."""
    ann = MODELS[setting.arch](nn.ReLU(), T=1)
    load_he_checkpoint(ann, checkpoint(setting.arch)).eval()
    x = calibration(data, setting.images, setting.seed)
    options = {key: getattr(setting, key) for key in ("threshold", "percentile", "sharing", "correction", "readout")}
    return ann, bitspike.ann2snn(ann, NEURONS[setting.neuron], x, setting.T, **options), x


@torch.no_grad()
def evaluate(nets: dict[str, nn.Module], batches: Batches) -> dict[str, float]:
    """Share correct of each network, and share of equal classes, over one pass of the data."""
    right, same, seen = dict.fromkeys(nets, 0), 0, 0
    for x, labels in batches:
        classes = {name: net(x).argmax(1) for name, net in nets.items()}
        for name, found in classes.items():
            right[name] += int((found == labels).sum())
        first, second = classes.values()
        same, seen = same + int((first == second).sum()), seen + len(labels)
    return {**{f"{name}_accuracy": count / seen for name, count in right.items()}, "agreement": same / seen}


def measure(setting: Setting, splits: Splits, validation: int) -> dict[str, object]:
    """Convert, count the cost on calibration images, and classify the test set (or held-out training images)."""
    start = time.perf_counter()
    ann, snn, x = convert(setting, splits.train)
    seconds = time.perf_counter() - start
    folded = bitspike.fold(snn, x[:COST_SAMPLES])
    counted = cost(folded.graph, x[:COST_SAMPLES])
    batch = max(BATCH // setting.T, 10)
    batches = held_out(splits, validation, batch) if validation else Batches(splits.test, batch)
    began = time.perf_counter()
    found = evaluate({"ann": ann, "snn": snn}, batches)
    finished = time.perf_counter()
    assert snn.report is not None
    kinds = ("adds", "shift_adds", "multiplications", "macs")
    return {
        "key": setting.key,
        "library": "bitspike",
        "setting": asdict(setting),
        "T": setting.T,
        "spike_bits": NEURONS[setting.neuron].format.bits,
        "test_images": len(batches.data),
        **found,
        "drop_points": 100 * (found["ann_accuracy"] - found["snn_accuracy"]),
        "conversion_time_s": seconds,
        "threads": torch.get_num_threads(),
        "operations_per_sample": {kind: counted.total(kind) for kind in kinds},
        "size_bytes": counted.size_bytes,
        "fold": {"agreement": folded.report.agreement, "gains": folded.report.gains},
        "evaluation_time_s": finished - began,
        "report": snn.report.as_dict(),
        "source": SOURCE,
    }


def main() -> None:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[], help="settings whose name holds one of these texts")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--list", action="store_true", help="print the settings and stop")
    parser.add_argument("--validation", type=int, default=0, help="choose on that many held-out training images")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    wanted = [s for s in settings() if not given.only or any(text in s.name for text in given.only)]
    if not wanted:
        parser.error(f"no setting's name holds any of {given.only}; --list without --only prints all")
    if given.list:
        print(
            "\n".join(f"{'done' if stored(given.out / f'{s.name}.json', s.key) else 'open'}  {s.name}" for s in wanted)
        )
        return
    torch.set_num_threads(given.threads)
    bitspike.keep_memory()
    splits = images()
    given.out.mkdir(parents=True, exist_ok=True)
    for setting in wanted:
        path = given.out / f"{setting.name}.json"
        if not given.validation and stored(path, setting.key):
            continue
        result = measure(setting, splits, given.validation)
        print(f"{setting.name}: ANN {result['ann_accuracy']:.2%}, SNN {result['snn_accuracy']:.2%}, ", end="")
        print(f"agreement {result['agreement']:.2%}, converted in {result['conversion_time_s']:.1f} s", flush=True)
        if not given.validation:
            write_json_atomic(path, result)
        gc.collect()  # traced graphs hold their modules in cycles


if __name__ == "__main__":
    main()

"""``bitspike convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from bitspike.commands.options import Json, write_json
from bitspike.report import as_text
from bitspike.training.converted import convert_run, converted_recipe


def convert(
    checkpoint: Annotated[Path, tyro.conf.Positional],
    arch: str,
    out: Path,
    neuron: Literal["multibit", "integer", "lif"] = "multibit",
    T: int = 1,
    data: str = "cifar10",
    set: tuple[str, ...] = (),
    json: Json = None,
) -> None:
    """Convert a trained ANN into a spiking network; leaves a run folder that eval, fold, cost and compare read.

    Args:
        checkpoint: Weights of the ANN: a published .th file of He's ResNets, or .safetensors of a built-in network.
        arch: Builder of the ANN, e.g. he_resnet20.
        out: Folder of the run.
        neuron: What every ReLU becomes: multibit (m = n = 2), integer (D = 15) or lif, with decay 1 and soft reset.
        T: Time steps.
        data: Data set; calibration images come from its training split, the test split is read with data.test=true.
        set: key=value pairs, e.g. neuron.m=1 convert.threshold=max convert.images=256 data.root=DIR.
        json: Write summary and report to this file too.
    """
    summary, report = convert_run(converted_recipe(arch, neuron, data, T, set), checkpoint, out)
    print(as_text(report.table()))
    print(report)
    for part in ("validation", "test"):
        if f"{part}_accuracy" in summary:
            before, after = summary[f"ann_{part}_accuracy"], summary[f"{part}_accuracy"]
            print(f"{part} accuracy: ANN {before:.2%}, SNN {after:.2%}; {out}")
    write_json(json, {"summary": summary, "report": report.as_dict()})

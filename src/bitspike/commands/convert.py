"""``bitspike convert``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from bitspike.checks import bad_value
from bitspike.commands.options import Json, measured, write_json
from bitspike.report import as_text
from bitspike.training.converted import convert_run, converted_recipe, recipe_of_run


def convert(
    checkpoint: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="CHECKPOINT")],
    out: Path,
    arch: str | None = None,
    neuron: Literal["multibit", "integer", "lif", "signed"] = "multibit",
    T: int = 1,
    data: str | None = None,
    set: tuple[str, ...] = (),
    json: Json = None,
) -> None:
    """Convert a trained ANN into a spiking network; leaves a run folder that eval, fold, cost and compare read.

    Args:
        checkpoint: Weights of the ANN: a published .th file of He's ResNets, .safetensors of a built-in network, or
            the folder of a run that trained an ANN, e.g. with the recipe digits_clip_floor.
        out: Folder of the run.
        arch: Builder of the ANN, e.g. he_resnet20; left out for a run's folder, which says it.
        neuron: What every ReLU becomes: multibit (m = n = 2), integer (D = 15), lif, or signed (D = 1:
            ternary), with decay 1 and soft reset.
        T: Time steps.
        data: Data set, default cifar10 or that of the run's folder; calibration images come from its training split,
            the test split is read with data.test=true.
        set: key=value pairs, e.g. neuron.m=1 convert.threshold=max convert.images=256 data.root=DIR.
        json: Write summary and report to this file too.
    """
    if checkpoint.is_dir():
        if arch is not None or data is not None:
            must, todo = "arch and data of a run's folder must be left out", "the run says them"
            raise bad_value("convert", must, arch or data, todo)
        recipe, checkpoint = recipe_of_run(checkpoint, neuron, T, set), checkpoint / "final.safetensors"
    elif arch is None:
        raise bad_value("convert", "the builder of the ANN must be given", "none", "e.g. --arch he_resnet20")
    else:
        recipe = converted_recipe(arch, neuron, data or "cifar10", T, set, own=checkpoint.suffix == ".safetensors")
    summary, report = convert_run(recipe, checkpoint, out)
    write_json(json, {"summary": summary, "report": report.as_dict()})
    print(as_text(report.table()))
    print(report)
    own = {key.removeprefix("ann_"): value for key, value in summary.items() if key.startswith("ann_")}
    for before, after in zip(measured(own), measured(summary), strict=True):
        name, _, value = before.rpartition(" ")
        print(f"{name}: ANN {value}, SNN {after.rpartition(' ')[2]}; {out}")

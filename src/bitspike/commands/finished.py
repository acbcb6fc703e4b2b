"""``bitspike eval``, ``fold``, ``cost`` and ``compare``: what is read off finished runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro
from safetensors.torch import save

from bitspike.checks import integer
from bitspike.commands.options import LARGE, Json, RunPath, measured, write_json
from bitspike.cost import Memory, builtin_constants, cost_summary, energy_constants
from bitspike.cost import cost as count
from bitspike.files import write_bytes_atomic, write_json_atomic
from bitspike.fold import fold as fold_network
from bitspike.report import (
    allocation_picture,
    as_text,
    cost_picture,
    cost_table,
    energy_table,
    history_picture,
    learns,
    metric_table,
    pareto_picture,
    study_picture,
    study_table,
)
from bitspike.schema import to_mapping
from bitspike.training.job import VERIFY_SAMPLES, folded_by, verified
from bitspike.training.measures import MEASURES
from bitspike.training.runs import RunFolder, evaluate_run, open_run
from bitspike.training.study import summary_of
from bitspike.training.task import task_of

Which = Literal["final", "best"]


def evaluate(run: RunPath, weights: Which = "final", json: Json = None) -> None:
    """Test accuracy (or train.metric) of a run, per class, and whether it depends on the batch size; leaves eval.json.

    Args:
        run: Folder of a finished run.
        weights: Weights after the last epoch, or those with the best validation accuracy.
        json: Write the result to this file too.
    """
    result = evaluate_run(run, weights)
    write_json_atomic(run / "eval.json", result)
    write_json(json, result)
    print(f"{measured(result)[0]} on {result['samples']} samples")
    if "per_class" in result:
        print(as_text([["class", "recall %"], *([k, f"{100 * v:.2f}"] for k, v in result["per_class"].items())]))
    elif "per_label" in result:
        table = [["label", "F1 %", "average precision %", "samples"]]
        for name, row in result["per_label"].items():
            precision = row["average_precision"]
            shown = "none has it" if precision is None else f"{100 * precision:.2f}"
            table.append([name, f"{100 * row['f1']:.2f}", shown, str(row["samples"])])
        print(as_text(table))
    else:
        print(as_text([["value", "error"], *([k, f"{v:.4g}"] for k, v in result["per_value"].items())]))
    for name, figure in result.get("metrics", {}).items():
        print(f"{MEASURES[name].words}: {MEASURES[name].text(figure)}")
    for size, against in result["batch_invariance"].items():
        kinds = [kind for kind in ("classes", "labels") if f"{kind}_that_differ" in against]
        classes = "".join(f", {against[f'{kind}_that_differ']} {kind} differ" for kind in kinds)
        print(f"batch {size} against 64: max logit difference {against['max_logit_difference']:.3g}{classes}")


def fold(run: RunPath, weights: Which = "final", samples: int = VERIFY_SAMPLES, json: Json = None) -> None:
    """Fold a run and check the result on validation samples; leaves folded.safetensors and fold.json.

    Args:
        run: Folder of a finished run.
        weights: Weights after the last epoch, or those with the best validation accuracy.
        samples: Validation samples to compare on.
        json: Write the report to this file too.
    """
    integer("--samples", "it", samples, 1, LARGE)
    _, splits, model = open_run(run, weights)
    folded = folded_by(task_of(splits.validation), *verified(model, splits.validation, samples))
    tensors = {name: value.detach().contiguous() for name, value in folded.state_dict().items()}
    write_bytes_atomic(run / "folded.safetensors", save(tensors))
    write_json_atomic(run / "fold.json", folded.report.as_dict())
    write_json(json, folded.report.as_dict())
    print(folded.report)
    for name, size in folded.report.gains.items():
        print(f"  explicit gain {name}: {size} factor{'s' if size > 1 else ''}")


def cost(
    run: RunPath,
    weights: Which = "final",
    samples: int = VERIFY_SAMPLES,
    constants: tuple[str, ...] = (),
    input_bits: int = 32,
    activation_bits: int | None = None,
    buffer_bytes: int = Memory.buffer_bytes,
    membrane_bits: int = Memory.membrane_bits,
    order: Literal["layer", "step"] = "layer",
    json: Json = None,
) -> None:
    """Operations, bits, bytes and energy of the folded network per layer, rates measured on validation samples.

    Args:
        run: Folder of a finished run; cost.json, cost.png and allocation.png are left there, and history.png where
            bits or T were learned.
        weights: Weights after the last epoch, or those with the best validation accuracy.
        samples: Validation samples to measure rates on.
        constants: Sets of energy constants, by name (float32_45nm, int8_45nm, ternary_paper) or TOML file; default
            all three. The first one is drawn.
        input_bits: Stored bits of one value of the network's real input.
        activation_bits: Bits of an activation of the quantized ANN beside it; default what the sum of T spikes needs.
        buffer_bytes: Size of the on-chip buffer; larger tensors come from DRAM.
        membrane_bits: Stored bits of a membrane.
        order: All steps of a layer before the next layer, or all layers before the next step.
        json: Write the result to this file too.
    """
    integer("--samples", "it", samples, 1, LARGE)
    memory = Memory(buffer_bytes, membrane_bits, order)
    sets = [energy_constants(name) for name in constants] or list(builtin_constants().values())
    recipe, splits, model = open_run(run, weights)
    model, x = verified(model, splits.validation, samples)
    counted = count(fold_network(model, x).graph, x, memory, input_bits)
    document, compared = cost_summary(counted, sets, activation_bits)
    drawn = compared[sets[0].name].snn
    write_json_atomic(run / "cost.json", document)
    cost_picture(counted, run / "cost.png", recipe.name, drawn)
    allocation_picture(counted, run / "allocation.png", recipe.name)
    history = RunFolder(run).figures().get("history", [])
    if learns(history):
        history_picture(history, run / "history.png", recipe.name)
    write_json(json, document)
    for table in (cost_table(counted), metric_table(counted, drawn), energy_table(compared)):
        print(as_text(table), end="\n\n")
    if counted.uncounted:
        print(f"not counted: {', '.join(counted.uncounted)}")


def compare(
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN")],
    out: Path = Path("."),
    json: Json = None,
) -> None:
    """Finished runs side by side; leaves compare.json, compare.png and pareto.png.

    Args:
        runs: Folders of finished runs.
        out: Folder of the comparison.
        json: Write the comparison to this file too.
    """
    rows = [summary_of(str(run), RunFolder(run).figures()) for run in runs]
    document = {"arms": [to_mapping(row) for row in rows]}
    out.mkdir(parents=True, exist_ok=True)
    write_json_atomic(out / "compare.json", document)
    study_picture(rows, out / "compare.png", "runs")
    if any("s_ace" in row.metrics for row in rows):  # not in runs of older versions
        pareto_picture(rows, out / "pareto.png", "runs")
    write_json(json, document)
    print(as_text(study_table(rows)))

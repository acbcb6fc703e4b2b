"""``bitspike compile``, ``verify``, ``run`` and ``inspect``: integer programs of finished runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from bitspike.checks import bad_value, in_range, integer
from bitspike.commands.options import LARGE, Engine, Json, ModelPath, RunPath, Threads, open_program, write_json
from bitspike.commands.samples import read_samples
from bitspike.commands.shown import by_output, told, words
from bitspike.data import Batches, ImageSet, Samples, SequenceSet, Splits
from bitspike.files import write_json_atomic
from bitspike.fold import fold as fold_network
from bitspike.fold.folding import Folded
from bitspike.layers import values_of
from bitspike.lower import Comparison, CompileReport, Outputs, Pixels, compare, outputs
from bitspike.lower import compile as lower
from bitspike.report import as_text
from bitspike.runtime import Program, save
from bitspike.runtime.backends import engine_document
from bitspike.runtime.engine.planner import DENSITY
from bitspike.runtime.ops.sums import accumulator_bits
from bitspike.training.job import VERIFY_SAMPLES
from bitspike.training.recipe import Recipe
from bitspike.training.runs import open_run
from bitspike.training.task import task_of

Which = Literal["final", "best"]
_BATCH = 64


def compile(
    run: RunPath,
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    weights: Which = "final",
    samples: int = VERIFY_SAMPLES,
    weight_bits: Literal[8, 16] = 8,
    spike_bits: Literal[4, 8, 16] = 8,
    input_bits: Literal[8, 16] = 8,
    pixels: bool = False,
    json: Json = None,
) -> None:
    """Lower a run to a program of integer operations, one file that runs without torch.

    Args:
        run: Folder of a finished run.
        out: File of the program, by custom MODEL.bitspike.
        weights: Weights after the last epoch, or those with the best validation accuracy.
        samples: Training samples to calibrate on.
        weight_bits: Bits of real weights; those that were trained with fewer keep them.
        spike_bits: Bits of real spikes.
        input_bits: Bits of a normalised input, signed.
        pixels: The program takes raw uint8 images and normalises them by a table.
        json: Write the report to this file too.
    """
    integer("--samples", "it", samples, 1, LARGE)
    program = lowered_run(run, weights, samples, weight_bits, spike_bits, input_bits, pixels)
    out.parent.mkdir(parents=True, exist_ok=True)
    size = save(program, out)
    report = CompileReport.of(program)
    write_json(json, {**report.as_dict(), "size_bytes": size, "engine": program.engine.facts})
    print(as_text(report.table()))
    print(report)
    print(f"{size:,} bytes, {program.plan.peak_bytes:,} bytes of memory for a sample; {out}")
    if report.agreement is not None:
        print(f"compared on the calibration data by the {program.engine.line}")


def verify(
    run: RunPath,
    model: ModelPath,
    weights: Which = "final",
    samples: int = 0,
    drop: float = 0.01,
    agreement: float = 0.95,
    layers: int = 512,
    engine: Engine = "auto",
    threads: Threads = None,
    json: Json = None,
) -> None:
    """A program against the folded network of its run, and the interpreter against the engine, on test data.

    Leaves verify.json; exits with 1 beyond a bound, or where an integer of the engine is not the interpreter's.

    Args:
        run: Folder of the run.
        model: File of the program.
        weights: Those that were compiled.
        samples: Test samples to compare on; 0 takes all.
        drop: Accuracy that the program may lose against the folded network, as a share; of a regression, the share by
            which the error may grow.
        agreement: Share of samples that must get the same class (or labels) at least; of a regression there is none.
        layers: Samples, the first ones, on which spikes of every layer are compared and the interpreter's integers are
            held against the engine's, which runs all of them; 0 takes all.
        engine: What runs the program: native (the engine, in C++), interpreter (NumPy), or auto: native where it is.
        threads: Threads of the native engine at most; left out: one a core.
        json: Write the result to this file too.
    """
    integer("--samples", "it", samples, 0, LARGE)
    integer("--layers", "it", layers, 0, LARGE)
    in_range("--drop", "it", drop, 0, 1)
    in_range("--agreement", "it", agreement, 0, 1)
    program = open_program(model, engine, threads)
    _, splits, folded = _folded(run, weights)
    data = _first(splits.test, samples)
    part = _first(data, layers)
    ran = outputs(program, folded, *_fed(program, data), interpreted=len(part))
    found = compare(program, folded, *_fed(program, part))
    for name, figures in ran.outputs.items():
        farthest = found.outputs[name].max_logit_difference_forced
        ran.outputs[name] = replace(figures, max_logit_difference_forced=farthest)
    whole = ["samples", "agreement", "accuracy", "folded_accuracy", "error", "folded_error"]
    whole += ["max_logit_difference", "largest_logit", "clamped", "outputs"]
    found = replace(found, **{key: getattr(ran, key) for key in whole})
    lost = max(0.0, (found.folded_accuracy or 0.0) - (found.accuracy or 0.0))
    kept = lost <= drop and (found.agreement is None or found.agreement >= agreement)
    if found.error is not None and found.folded_error is not None:
        kept = found.error <= (1 + drop) * found.folded_error
    document = {**ran.as_dict(), **found.as_dict(), "layer_samples": len(part)}
    document |= {"drop": drop, "least_agreement": agreement, "kept": kept}
    if not found.outputs:
        del document["outputs"]
    write_json_atomic(run / "verify.json", document)
    write_json(json, document)
    print(as_text(found.table()))
    print(found)
    print(f"spikes of layers: the first {len(part)} samples; outputs: {program.engine.line}")
    print(ran)
    if found.outputs:
        print(as_text(_by_output(found)))
    if ran.different:
        raise SystemExit(1)
    if not kept:
        beyond = f"accuracy lost {lost:.2%} of {drop:.2%}"
        beyond += "" if found.agreement is None else f", agreement {found.agreement:.2%}"
        if found.error is not None:
            beyond = f"error {found.error:.4g}, more than {1 + drop:.4g} times {found.folded_error:.4g}"
        print(f"beyond the bound: {beyond}")
        raise SystemExit(1)


def run(
    model: ModelPath,
    input: Annotated[Path, tyro.conf.arg(metavar="INPUT")],
    top: int = 3,
    engine: Engine = "auto",
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Run a program on an array, a picture or a folder of pictures; of outputs for every step the mean is shown.

    Of a program whose outputs have names each is shown, of maps their shape, least and greatest number.

    Args:
        model: File of the program.
        input: X.npy of one sample or a batch (uint8 images as they are, or numbers as the network takes them, as
            floats; sequences [N, T, ...] as their data set holds them), a picture, or a folder of pictures. Where the
            program takes squares, the largest centred square of a picture is scaled to its size; else pictures must
            have the size.
        top: Classes to show for each sample; of labels those that are there are shown, of a regression all values.
        engine: What runs it: native (the engine, in C++), interpreter (NumPy), or auto: native where it is.
        threads: Threads of the native engine at most; left out: one a core.
        json: Write the predictions to this file too.
    """
    integer("--top", "it", top, 1, LARGE)
    program = open_program(model, engine, threads)
    names, x = read_samples(program, input)
    results = program.run(x)
    if program.spec.outputs:
        rows = by_output(program, results, names, top)
        table = [["input", *results]]
        table += [[row["input"], *(words(each) for each in row["outputs"].values())] for row in rows]
    else:
        found = told(program, "", results[""], top)
        if found is None:
            must = "the program must send one number a class, at every step or behind a mean read-out"
            raise bad_value("run", must, list(results[""].levels.shape), "stream it instead")
        rows = [{"input": name, **each} for name, each in zip(names, found, strict=True)]
        table = _table(rows)
    clamped = dict(next(iter(results.values())).clamped)
    write_json(json, {"predictions": rows, "clamped": clamped, "engine": program.engine.facts})
    print(program.engine.line, file=sys.stderr)
    print(as_text(table))


def _by_output(found: Comparison) -> list[list[str]]:
    rows = [["output", "agreement", "max difference", "of", "with its spikes forced"]]
    for name, each in found.outputs.items():
        share = "" if each.agreement is None else f"{each.agreement:.2%}"
        far = (each.max_logit_difference, each.largest_logit, each.max_logit_difference_forced)
        rows.append([name, share, *(f"{number:.3g}" for number in far)])
    return rows


def _table(rows: list[dict[str, Any]]) -> list[list[str]]:
    """The only output of all samples, titles first: a column a value, or a place among the best classes."""
    if "values" in rows[0]:
        return [["input", *rows[0]["values"]]] + [
            [row["input"], *(f"{value:.4g}" for value in row["values"].values())] for row in rows
        ]
    if "labels" in rows[0]:
        return [["input", "labels"]] + [[row["input"], words(row)] for row in rows]
    return [["input", *(f"{i + 1}." for i in range(len(rows[0]["classes"])))]] + [
        [row["input"], *(f"{best['class']} {best['value']:.3g}" for best in row["classes"])] for row in rows
    ]


def inspect(model: ModelPath, engine: Engine = "auto", threads: Threads = None, json: Json = None) -> None:
    """Operations of a program, their ranges and bits, its memory plan, and what the engine does with them.

    Args:
        model: File of the program.
        engine: What would run it: native (the engine, in C++), interpreter (NumPy), or auto: native where it is.
        threads: Threads of the native engine at most; left out: one a core.
        json: Write the same to this file too.
    """
    program = open_program(model, engine, threads)
    rows = [["operation", "name", "writes", "range", "type", "sums", "weights"]]
    records: list[dict[str, Any]] = []
    for made in program.operations:
        weight = made.op.tensors.get("weight")
        bits = program.spec.constants[weight].bits if weight else 0
        for name, value in zip(made.op.outputs, made.written, strict=True):
            sums = f"{accumulator_bits(value)} bit" if weight else ""
            shape = "×".join(map(str, value.shape))
            ends = f"{value.low}..{value.high}"
            rows.append([made.kind, name, shape, ends, str(value.dtype), sums, f"{bits} bit" if bits else ""])
            records.append(
                {
                    "kind": made.kind,
                    "name": name,
                    "shape": list(value.shape),
                    "low": value.low,
                    "high": value.high,
                    "steps": value.steps,
                    "weight_bits": bits,
                }
            )
    size, peak = model.stat().st_size, program.plan.peak_bytes
    info = {key: value for key, value in program.spec.info.items() if key not in ("compile", DENSITY)}
    document = {"operations": records, "size_bytes": size, "peak_bytes": peak, "info": info}
    sent = _sent(program)
    document |= {"outputs": sent} if program.spec.outputs else {}
    write_json(json, {**document, "engine": engine_document(program.engine)})
    print(as_text(rows))
    if program.spec.outputs:
        titles = ["output", "is", "shape", "unit", "a sample", "classes"]
        print(as_text([titles, *([name, *_facts(facts)] for name, facts in sent.items())]))
    report = CompileReport.of(program)
    if report.layers:
        print(as_text(report.table()))
        print(report)
    print(program.plan)
    print(program.engine)
    print(f"{size:,} bytes; {', '.join(f'{key} {value}' for key, value in info.items())}")


def _sent(program: Program) -> dict[str, dict[str, Any]]:
    """Output → its value, shape, exponent, steps (0 behind a mean) and classes."""
    means = {name for made in program.operations if made.final for name in made.op.outputs}
    found = {}
    for name, each in program.spec.sent.items():
        value = program.spec.values[each.value]
        steps = 0 if each.value in means else value.steps
        facts = {"value": each.value, "shape": list(value.shape), "exponent": value.exponent or 0, "steps": steps}
        found[name] = {**facts, "classes": list(each.classes)}
    return found


def _facts(facts: dict[str, Any]) -> list[str]:
    steps = f"{facts['steps']} steps" if facts["steps"] else "the mean"
    shape = "×".join(map(str, facts["shape"]))
    return [facts["value"], shape, f"2^{-facts['exponent']}", steps, ", ".join(facts["classes"])]


def beside_test(run: Path, program: Program, weights: Which = "final", interpreted: int = VERIFY_SAMPLES) -> Outputs:
    """A program beside the folded network of its run on the whole test split."""
    _, splits, folded = _folded(run, weights)
    return outputs(program, folded, *_fed(program, splits.test), interpreted=interpreted)


def lowered_run(
    run: Path,
    weights: Which,
    samples: int = VERIFY_SAMPLES,
    weight_bits: int = 8,
    spike_bits: int = 8,
    input_bits: int = 8,
    pixels: bool = False,
) -> Program:
    """The program of a run, calibrated on training samples."""
    recipe, splits, folded = _folded(run, weights)
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(recipe.seed))
    part = splits.train.subset(order[:samples])
    return lower(
        folded,
        [values_of(x) for x, _ in Batches(part, _BATCH)],
        weight_bits=weight_bits,
        spike_bits=spike_bits,
        input_bits=input_bits,
        pixels=_pixels(splits.train) if pixels else None,
        classes=tuple(splits.train.classes),
        info=_info(recipe, splits.train, pixels),
    )


def folded_run(run: Path, weights: Which) -> Folded:
    """The folded network of a run."""
    return _folded(run, weights)[2]


def _folded(run: Path, weights: Which) -> tuple[Recipe, Splits, Folded]:
    """Recipe, data and folded network of a run, checked on validation samples."""
    recipe, splits, model = open_run(run, weights)
    x, _ = next(iter(Batches(splits.validation, min(VERIFY_SAMPLES, len(splits.validation)))))
    return recipe, splits, fold_network(model, values_of(x))


def _first(data: Samples, count: int) -> Samples:
    """The first so many samples; all where the count is 0."""
    return data if not count else data.subset(torch.arange(min(count, len(data))))


def _fed(program: Program, data: Samples) -> tuple[Iterator[Any], Iterator[Any]]:
    """(batches of the network with what the samples are; what the program is fed with instead)."""
    images = data.images.split(_BATCH) if program.spec.info.get("pixels") else ()  # type: ignore[attr-defined]
    equal = data.by_length() if isinstance(data, SequenceSet) else [data]
    plain = not program.spec.outputs  # else nothing says which output the labels are for
    batches = ((x, y) if plain else x for part in equal for x, y in Batches(part, _BATCH))
    return batches, (part.numpy() for part in images)


def _pixels(data: Samples) -> Pixels:
    if not isinstance(data, ImageSet):
        raise bad_value("--pixels", "the data set must hold uint8 images", data.name, "leave it out")
    return Pixels(data.top, data.mean, data.std)


def _info(recipe: Recipe, data: Samples, pixels: bool) -> dict[str, Any]:
    known: dict[str, Any] = {"recipe": recipe.name, "T": recipe.model.T, "encoder": recipe.model.encoder}
    if isinstance(data, ImageSet):
        known |= {"top": data.top, "mean": list(data.mean), "std": list(data.std)}
    if isinstance(data, SequenceSet):
        whole = not data.images.is_floating_point()
        known |= {"top": data.top, "time": True, "ragged": data.lengths is not None, "integers": whole}
    kind = task_of(data).kind
    known |= {} if kind == "classes" else {"targets": kind}
    return {**known, "data": data.name, "pixels": pixels, "layout": "channels, rows, columns"}

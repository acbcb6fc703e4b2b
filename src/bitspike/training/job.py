"""One job of a study: train, fold, verify, count and evaluate; the test split is read once, at the end."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from bitspike.allocation.check import judge
from bitspike.allocation.widths import Allocation
from bitspike.checks import bad_value
from bitspike.cost import APART, allocation_of, bit_budget, cost
from bitspike.data import Batches, ImageSet, Samples, SequenceSet, Splits, load
from bitspike.data.catalog import find
from bitspike.data.loader import check_augment
from bitspike.fold import Folded, fold
from bitspike.graph import trace
from bitspike.layers import ENCODERS
from bitspike.observe import Activity, observe
from bitspike.training.build import build_model, check_time
from bitspike.training.checkpoint import Checkpoints
from bitspike.training.distributed import alone
from bitspike.training.evaluation import scores
from bitspike.training.health import dead_layers
from bitspike.training.loop import Progress, Run, fit
from bitspike.training.recipe import LOADER_OPTIONS, Recipe
from bitspike.training.task import Task, task_of
from bitspike.training.timing import clock_again
from bitspike.training.unequal import at_length, lengths_differ

VERIFY_SAMPLES = 256
_PARTS = ("train", "validation", "test")


def load_data(recipe: Recipe) -> Splits:
    """The splits of a recipe; the validation split depends on nothing but the data and the recipe's share.

    Recordings get frames as [data.frames] says, sound spectra as [data.sound], in ``model.T`` steps.

    For an encoder that reads intensities the images are scaled to [0, 1] and not normalised.

    Raises:
        ValueError: a key of [data] that the set does not take, an augmentation that does not fit its images, or what
            the set's loader refuses.
    """
    config, options = recipe.data, recipe.data.loader_options()
    known = find(config.name)[0].options
    for key, value in options.items():
        if LOADER_OPTIONS[key] not in known:
            raise bad_value("[data]", f"{key} must be left out where name is {config.name!r}", repr(value), "remove it")
    named = {LOADER_OPTIONS[key]: value for key, value in options.items()}
    for part, table, mark, kind in (
        ("frames", config.frames, "by", "recordings of events"),
        ("sound", config.sound, "mels", "sound"),
    ):
        if table is None:
            continue
        if mark not in known:
            must = f"{part} must be left out where name is {config.name!r}: it is of {kind}"
            raise bad_value("[data]", must, "a table", f"remove [data.{part}]")
        for key, value in table.given().items():
            if key not in known:
                must = f"{key} must be left out where name is {config.name!r}"
                raise bad_value(f"[data.{part}]", must, repr(value), "remove it")
            named[key] = value
    if "T" in known:
        named["T"] = recipe.model.T
    splits = load(config.name, config.root, config.validation, **named)  # type: ignore[arg-type]
    check_augment("[data]", splits.train, config.augment, config.pad, config.hole)
    if config.event_augment is not None and "mels" in known:
        must = f"event_augment must be left out where name is {config.name!r}: it is of frames of events"
        raise bad_value("[data]", must, "a table", "see [data.sound_augment]")
    for moves in (config.event_augment, config.sound_augment):
        if moves is not None:
            moves.check("[data]", splits.train)
    if recipe.train.mixing is not None:
        recipe.train.mixing.check("[train]", splits.train)
    check_time(recipe, splits.train)
    if not isinstance(splits.train, ImageSet):
        return splits  # as it is: there is nothing to normalise by
    if recipe.convert is not None and recipe.convert.mean is not None and recipe.convert.std is not None:
        mean, std = recipe.convert.mean, recipe.convert.std
        return replace(splits, **{part: replace(getattr(splits, part), mean=mean, std=std) for part in _PARTS})
    if not ENCODERS[recipe.model.encoder].intensities:
        return splits
    flat = (0.0,) * splits.train.images.shape[1]
    plain = {part: replace(getattr(splits, part), mean=flat, std=(1.0,) * len(flat)) for part in _PARTS}
    return replace(splits, **plain)


def digest(recipe: Recipe, splits: Splits) -> str:
    """Hash of the data and of the model's structure: layers in order, and shapes of all its tensors."""
    model = build_model(recipe, splits.train, warn=False)
    lines = [splits.digest()]
    lines += [f"{node.name} {node.kind} {node.inputs} {type(node.module).__name__}" for node in trace(model)]
    lines += [f"{name} {list(value.shape)}" for name, value in model.state_dict().items()]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass
class Finished:
    """A finished job: the trained network, its folded form, and the figures as plain values."""

    model: nn.Module
    folded: Folded
    result: dict[str, Any]


def run_job(
    recipe: Recipe, splits: Splits, progress: Progress | None = None, checkpoints: Checkpoints | None = None
) -> Finished:
    """Train, fold and measure one arm with one seed; with ``checkpoints`` a job that was cut goes on where it was.

    Trains on the GPU where there is one; the rest happens where the data lies.

    Returns:
        `Finished`; its ``result`` holds: test_accuracy and folded_test_accuracy (unless ``data.test`` is false),
        validation_accuracy (of numbers and labels those of the recipe's metric instead, such as test_error, and
        metrics: "test" and "folded_test" → all measures that the targets have), spike_rate,
        set_bits (per neuron and step), spike_bits and weight_bits (of the hidden layers, of all where none is hidden;
        32 where nothing spikes), adds, shift_adds, multiplications and size_bytes
        (per sample, folded), s_ace, ns_ace and bit_budget (per sample, of the hidden layers), averages (what makes up
        the bit budget), allocation (bits and T of every synapse), fold (the report), rates (per layer: rate,
        set bits, saturation and the count of every level), health (what is dead after the last epoch), findings (a
        sentence each, where the run ended at chance or a layer is dead), history; with budgets, budget (of
        `judge`).
    """
    run = fit(recipe, splits, progress, checkpoints, world=alone())
    return Finished(run.model, *measure(recipe, splits, run))


def measure(recipe: Recipe, splits: Splits, run: Run) -> tuple[Folded, dict[str, Any]]:
    """Fold a trained network, verify it, count its cost and evaluate both on the test split, where the data lies."""
    run.model.to(splits.validation.images.device)
    model, sample = verified(run.model, splits.validation)
    task = task_of(splits.validation, recipe.train.metric)
    folded = folded_by(task, model, sample)
    with torch.no_grad():
        counted = cost(folded.graph, sample)
    activity = observe(model, [sample])
    neurons = max(sum(a.sent for a in activity.values()), 1)
    synapses = [row for row in counted.layers if row.kind == "synapse"]
    hidden = [row for row in synapses if row.role == "hidden"] or synapses
    batch = recipe.data.eval_batch_size
    averages = bit_budget(counted, APART)
    tested: dict[str, float] = {}
    validation = f"validation_{task.measure}"
    more: dict[str, dict[str, float]] = {}
    if recipe.data.test:
        networks = {"test": run.model, "folded_test": folded_for(run.model, folded, splits.validation)}
        more = {part: scores(network, splits.test, batch, task) for part, network in networks.items()}
        tested = {f"{part}_{task.measure}": figures[task.measure] for part, figures in more.items()}
    kept: dict[str, Any] = {"steps": sample.shape[1]} if lengths_differ(splits.validation) else {}
    if recipe.allocation is not None and recipe.allocation.budget is not None:
        allocation = Allocation(run.model, recipe.allocation)
        clocked = clock_again(recipe, splits, run.times)
        kept["budget"] = judge(allocation, folded.graph, splits.validation, batch, run.repairs, clocked)
    if task.kind != "classes":
        kept["metrics"] = more
    last = run.history[-1]
    guessed = task.guessed(last[validation], splits.validation)
    return folded, {
        **tested,
        **kept,
        "findings": [*([guessed] if guessed else []), *dead_layers(last.get("health", {}))],
        "health": last.get("health", {}),
        validation: last[validation],
        "spike_rate": sum(a.fired for a in activity.values()) / neurons,
        "set_bits": sum(a.set_bits for a in activity.values()) / neurons,
        "spike_bits": max((a.format.bits for a in activity.values()), default=32),
        "weight_bits": max(row.weight_bits for row in hidden),
        "adds": counted.total("adds"),
        "shift_adds": counted.total("shift_adds"),
        "multiplications": counted.total("multiplications"),
        "size_bytes": counted.size_bytes,
        "s_ace": counted.total("s_ace", APART),
        "ns_ace": counted.total("ns_ace", APART),
        "bit_budget": averages["bit_budget"],
        "averages": averages,
        "allocation": allocation_of(counted),
        "hidden_only": counted.as_dict()["hidden_only"],
        "parameters": sum(p.numel() for p in run.model.parameters()),
        "train_time_s": sum(record["time_s"] for record in run.history),
        "fold": folded.report.as_dict(),
        "rates": {a.path: _figures(a) for a in activity.values()},
        "history": run.history,
    }


def verified(model: nn.Module, validation: Samples, samples: int = VERIFY_SAMPLES) -> tuple[nn.Module, Tensor]:
    """What folds are checked and costs are counted on: (the network, validation samples).

    Of sequences of different lengths: those with the median number of steps at least, cut to it, and a copy of the
    network that has so many steps: no figure is one of steps that only fill up a batch.
    """
    equal = validation.equal() if isinstance(validation, SequenceSet) else validation
    sample, _ = next(iter(Batches(equal, min(samples, len(equal)))))
    return at_length(model, sample.shape[1]) if lengths_differ(validation) else model, sample


def folded_by(task: Task, model: nn.Module, sample: Tensor) -> Folded:
    """The folded network, with the agreement of its report in terms of the task."""
    folded = fold(model, sample)
    if task.kind != "classes":
        with torch.no_grad():
            folded.report.agreement = task.agreement(folded(sample), model(sample))
    return folded


def folded_for(model: nn.Module, folded: Folded, validation: Samples) -> Folded:
    """The folded network that runs the whole set: ``folded``, which `verified` made, unless that has fewer steps."""
    if not lengths_differ(validation):
        return folded
    longest, _ = next(iter(Batches(validation, 2)))
    return fold(model, longest.values)


def _figures(activity: Activity) -> dict[str, Any]:
    figures = {"rate": activity.rate, "set_bits": activity.bits_per_step, "saturation": activity.saturation}
    return {**figures, "levels": {str(level): count for level, count in sorted(activity.histogram.items())}}

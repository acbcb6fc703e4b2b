"""Networks converted from trained ANNs: their weights, their calibration, and their run folder."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bitspike.ann2snn import ConversionReport, Converted, ann2snn, skeleton
from bitspike.checks import bad_value
from bitspike.data import Samples
from bitspike.files import write_json_atomic, write_text_atomic
from bitspike.layers import ENCODERS
from bitspike.models import IMAGENET_MEAN, IMAGENET_STD, MODELS, Network, load_he_checkpoint
from bitspike.schema import override, to_mapping, to_toml
from bitspike.training.bound import check_bound, recipe_fact
from bitspike.training.build import ACTIVATIONS, build_activation, build_neuron, check_time
from bitspike.training.evaluation import evaluate
from bitspike.training.job import load_data, measure
from bitspike.training.loop import Run, load_weights
from bitspike.training.recipe import ConvertConfig, Recipe, read_recipe, recipe_from_mapping
from bitspike.training.task import task_of
from bitspike.training.weights import read_weights, save_weights

NEURONS: dict[str, dict[str, object]] = {
    "lif": {"decay": 1.0, "reset": "soft"},
    "multibit": {"m": 2, "n": 2, "decay": 1.0},
    "integer": {"D": 15, "decay": 1.0},
    "signed": {"D": 1, "decay": 1.0},
}
"""Options that the neurons of a conversion start from."""


def converted_recipe(
    arch: str, neuron: str, data: str, T: int, sets: tuple[str, ...] = (), own: bool = False
) -> Recipe:
    """The recipe of a conversion: defaults, then ``sets`` over them, as in ``--set``.

    Args:
        arch: registered builder of the ANN. neuron: a key of `NEURONS`. data: a set of `bitspike.data.load`.
        T: time steps. sets: ``key=value`` texts, e.g. "neuron.m=1".
        own: the weights are the user's own; else those of He's networks are taken for the published ones, whose inputs
            are normalised by constants of their own, not by those of the data.

    Raises:
        ValueError, TypeError: an unknown name or key, or a value out of range.
    """
    if neuron not in NEURONS:
        raise bad_value("convert", f"the neuron must be one of {', '.join(NEURONS)}", repr(neuron), "see ann2snn")
    builder = MODELS[arch]
    theirs = builder.__name__.startswith("he_") and not own
    published = {"mean": list(IMAGENET_MEAN), "std": list(IMAGENET_STD)} if theirs else {}
    base = {
        "name": f"{arch} converted",
        "data": {"name": data, "test": False},
        "model": {"name": arch, "T": T},
        "neuron": {"name": neuron, **NEURONS[neuron]},
        "weight": {"name": "float"},
        "convert": published,
    }
    return _checked(recipe_from_mapping(override(base, sets), "convert"))


def recipe_of_run(folder: Path, neuron: str, T: int, sets: tuple[str, ...] = ()) -> Recipe:
    """The recipe of the conversion of a run that trained an ANN: data, model and activation are the run's.

    Whether the run read the test split does not matter: the conversion leaves it alone unless ``sets`` ask for it.

    Args:
        folder: of the run. neuron, T, sets: as in `converted_recipe`.

    Raises:
        ValueError, TypeError: the run trained no ANN with float weights, its recipe was edited, or as in
            `converted_recipe`.
    """
    if neuron not in NEURONS:
        raise bad_value("convert", f"the neuron must be one of {', '.join(NEURONS)}", repr(neuron), "see ann2snn")
    file = folder / "recipe.toml"
    trained = read_recipe(file)
    check_bound(folder / "final.safetensors", trained, file, "train again")
    other = f"[neuron] {trained.neuron.name}" if trained.neuron.name not in ACTIVATIONS else _other(trained)
    if other:
        must = f"{folder} must hold an ANN: [neuron] {' or '.join(ACTIVATIONS)}, weights float, inputs as they are"
        raise bad_value("convert", must, other, "train one, e.g. bitspike train digits_clip_floor")
    whole = to_mapping(trained)
    base = {
        "name": f"{trained.name} converted",
        "seed": trained.seed,
        "data": {**whole["data"], "test": False},
        "model": {**whole["model"], "T": T},
        "neuron": {"name": neuron, **NEURONS[neuron]},
        "weight": {"name": "float"},
        "convert": {"activation": whole["neuron"]},
    }
    return _checked(recipe_from_mapping(override(base, sets), "convert"))


def _other(recipe: Recipe) -> str:
    """What of a recipe `build_ann` cannot build: quantized weights, layers of their own, encoders; "" if nothing."""
    rules, layers = recipe.policy, recipe.layers or ()
    weights = [recipe.weight.name, rules.first, rules.last, rules.downsample]
    weights += [layer.weight.name for layer in layers if layer.weight is not None]
    quantized = sorted(set(weights) - {"float", "same"})
    if quantized:
        return f"weights {', '.join(quantized)}"
    if any(layer.neuron is not None for layer in layers):
        return "[[layers]] with neurons of their own"
    return "" if ENCODERS[recipe.model.encoder].repeats else f"encoder {recipe.model.encoder}"


def _checked(recipe: Recipe) -> Recipe:
    """The recipe of a conversion, if all it says holds of the network; raises `ValueError` otherwise."""
    other = _other(recipe)
    if other:
        raise bad_value("convert", "weights must be float and inputs as they are", other, "leave it out of --set")
    return recipe


def build_ann(recipe: Recipe, data: Samples) -> Network:
    """The network that was converted, with its activation and one time step, its weights not yet loaded."""
    kind = recipe.convert.activation if recipe.convert else None
    activation = nn.ReLU() if kind is None else build_activation(kind)
    with torch.random.fork_rng(devices=[]):
        check_time(recipe, data)
        shape, classes = data.step_shape, len(data.classes)
        return MODELS[recipe.model.name](activation, T=1, shape=shape, classes=classes, **recipe.model.options)


def build_converted(recipe: Recipe, data: Samples) -> Converted:
    """The structure of a converted network, for loading its weights."""
    settings = recipe.convert or ConvertConfig()
    sample = torch.zeros(1, *data.step_shape)
    neuron = build_neuron(recipe.neuron)
    options = (settings.sharing, settings.initial, settings.readout)
    return Converted(skeleton(build_ann(recipe, data).eval(), neuron, sample, recipe.model.T, *options).graph)


def load_ann(model: Network, path: Path) -> str:
    """Load weights into an ANN, in place; returns the SHA-256 of the file.

    Args:
        path: a ``.safetensors`` file with our names, else a published file for `load_he_checkpoint`.
    """
    if path.suffix == ".safetensors":
        try:
            load_weights(model, read_weights(path, "check the path"), str(path))
        except OSError as error:
            raise bad_value(str(path), "it must be a whole safetensors file", error, "check the path") from error
    else:
        load_he_checkpoint(model, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def convert_run(recipe: Recipe, checkpoint: Path, folder: Path) -> tuple[dict[str, Any], ConversionReport]:
    """Convert an ANN into a run folder, which `open_run` and the commands read.

    Leaves recipe.toml, final.safetensors, best.safetensors (the same), convert.json and summary.json. Calibration
    images are drawn from the training split; the test split is read only where ``data.test`` is true.

    Args:
        recipe: of `converted_recipe`. checkpoint: file for `load_ann`. folder: created; must not hold a run.

    Returns:
        (the summary, the report of the calibration).
    """
    settings = recipe.convert or ConvertConfig()
    if (folder / "recipe.toml").exists():
        raise bad_value("convert", f"{folder} must not hold a run yet", "one", "pass another --out")
    splits = load_data(recipe)
    ann = build_ann(recipe, splits.train)
    settings = replace(settings, weights=load_ann(ann, checkpoint))
    recipe = replace(recipe, convert=settings)
    order = torch.randperm(len(splits.train), generator=torch.Generator().manual_seed(recipe.seed))
    x = splits.train.normalise(splits.train.images[order[: settings.images]])
    snn = ann2snn(
        ann.eval(),
        build_neuron(recipe.neuron),
        x,
        recipe.model.T,
        settings.threshold,
        settings.percentile,
        settings.sharing,
        settings.initial,
        settings.correction,
        settings.readout,
    )
    report = snn.report
    if report is None:
        raise RuntimeError("ann2snn returned no report")
    batch = recipe.data.eval_batch_size
    task = task_of(splits.validation, recipe.train.metric)
    if task.kind != "classes":
        with torch.no_grad():
            report.agreement = task.agreement(snn.eval()(x), ann(x))
    measure_by = task.measure
    record = {f"validation_{measure_by}": evaluate(snn, splits.validation, batch, measure_by), "time_s": report.time_s}
    key = recipe.key(splits.digest())
    _, figures = measure(recipe, splits, Run(snn, [record]))
    accuracy = {f"ann_validation_{measure_by}": evaluate(ann, splits.validation, batch, measure_by)}
    if recipe.data.test:
        accuracy[f"ann_test_{measure_by}"] = evaluate(ann, splits.test, batch, measure_by)
    summary = {"key": key, **accuracy, **figures}
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("best", "final"):
        save_weights(folder / f"{name}.safetensors", snn.state_dict(), {"key": key, **recipe_fact(recipe)})
    write_json_atomic(folder / "convert.json", report.as_dict())
    write_json_atomic(folder / "summary.json", summary)
    write_text_atomic(folder / "recipe.toml", to_toml(recipe))
    return summary, report

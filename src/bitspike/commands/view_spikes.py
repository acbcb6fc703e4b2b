"""``bitspike view RUN`` and ``bitspike view MODEL``."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np

from bitspike.checks import bad_value
from bitspike.commands.options import open_program, write_json
from bitspike.commands.samples import read_samples
from bitspike.data import Samples
from bitspike.files import write_bytes_atomic
from bitspike.report import as_text
from bitspike.report.spikes import (
    Layer,
    Seen,
    layer_facts,
    program_layers,
    program_on_data,
    seen_in_network,
    seen_in_program,
    spike_gif,
    spike_page,
    spike_picture,
)
from bitspike.report.spikes.picture import MOST_STEPS
from bitspike.runtime import Program
from bitspike.training.recipe import Recipe
from bitspike.training.runs import open_run

MOST_SAMPLES = 8


def view_spikes(
    data: Path | None,
    model: Path | None,
    weights: Literal["final", "best"],
    index: int,
    samples: int,
    out: Path,
    form: str,
    json: Path | None,
) -> None:
    """Draw what every layer of a run, or of a program, sends for some samples.

    Args:
        data: folder of a run, or what a program is fed with. model: a program; None: the run itself.
        weights, index, samples, out, json: as in `bitspike.commands.view`, in range. form: end of the name of ``out``.
    """
    if model is None:
        assert data is not None
        recipe, splits, net = open_run(data, weights)
        layers, seen = seen_in_network(net, splits.test, _chosen(splits.test, index, samples))
        name = f"{recipe.name} ({data.name}, {weights} weights)"
    else:
        program = open_program(model, "interpreter", None)
        layers, name = program_layers(program), model.name
        seen = _fed(program, data, index, samples) if layers else []
    if not layers:
        raise bad_value(
            "view", "there must be a layer of neurons to draw", f"none in {name}", "train a spiking network"
        )
    title = f"{name.encode('utf-8', 'replace').decode()}: what every layer sends"
    if form == ".gif":
        content = spike_gif(layers, seen)
    elif form == ".png":
        content = spike_picture(layers, seen, title)
    else:
        few = max(one.steps for one in seen) <= MOST_STEPS
        content = spike_page(spike_picture(layers, seen, title) if few else None, layers, seen, title).encode()
    write_bytes_atomic(out, content)
    rows = layer_facts(layers, seen)
    drawn = [{"sample": one.words, "output": _plain(one.output)} for one in seen]
    write_json(json, {"layers": rows, "samples": drawn, "file": str(out), "bytes": len(content)})
    print(as_text(_table(layers, rows, seen)))
    print(f"{out}: {len(content):,} bytes; {len(layers)} layers, {', '.join(one.words for one in seen)}")


def _plain(output: Any) -> Any:
    """What came out, for JSON."""
    return {name: each.tolist() for name, each in output.items()} if isinstance(output, dict) else output.tolist()


def _chosen(data: Samples, index: int, samples: int) -> range:
    return _within(len(data), index, samples, "samples of the test split")


def _within(count: int, index: int, samples: int, what: str) -> range:
    if index + samples > count:
        got = f"{index} to {index + samples - 1}" if samples > 1 else index
        must = f"the {what} must be 0 to {count - 1}"
        raise bad_value("view", must, got, "set a smaller --index or --samples")
    return range(index, index + samples)


def _fed(program: Program, data: Path | None, index: int, samples: int) -> list[Seen]:
    """What a program sends for samples of its run's test split, or of a file."""
    if data is None:
        todo = "pass --input X.npy, pictures, or the folder of its run"
        raise bad_value("view", "a program must be given samples", "none", todo)
    if (data / "recipe.toml").exists():
        recipe, splits, net = open_run(data)
        _check_run(program, data, recipe, splits.train)
        return program_on_data(program, net, splits.test, _chosen(splits.test, index, samples))
    names, x = read_samples(program, data)
    which = _within(len(names), index, samples, f"samples of {data.name}")
    timed = not program.spec.input.repeat
    part = x[:, which.start : which.stop] if timed else x[which.start : which.stop]
    shown = [part[:, i] if timed else part[i] for i in range(samples)]
    return seen_in_program(program, part, names[which.start : which.stop], shown, timed)


def _check_run(program: Program, run: Path, recipe: Recipe, data: Samples) -> None:
    """Raise unless all that a program notes of the run it was compiled from is true of this one."""
    own = {"recipe": recipe.name, "T": recipe.model.T, "encoder": recipe.model.encoder, "data": data.name}
    for key, value in own.items():
        noted = program.spec.info.get(key, value)
        if noted != value:
            must = f"it must be the run that the program was compiled from, with {key} {noted!r}"
            raise bad_value(str(run), must, repr(value), "pass that run, or samples in a file")


def _table(layers: list[Layer], rows: list[dict[str, object]], seen: list[Seen]) -> list[list[str]]:
    table = [["layer", "neurons", "steps", "rate %", "levels sent"]]
    for layer, row in zip(layers, rows, strict=True):
        steps = sorted({len(one.sent[layer.name]) for one in seen})
        sent = np.unique(np.concatenate([one.sent[layer.name].ravel() for one in seen]))
        ends = f"{steps[0]}" if len(steps) == 1 else f"{steps[0]} to {steps[-1]}"
        levels = f"{sent[0]:.3g} to {sent[-1]:.3g}" if layer.real else f"{sent[0]} to {sent[-1]}"
        shape = "×".join(map(str, layer.shape))
        table.append([layer.name, shape, ends, f"{100 * float(row['rate']):.2f}", levels])  # type: ignore[arg-type]
    return table

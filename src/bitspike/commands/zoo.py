"""``bitspike zoo``: trained programs that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro

from bitspike.checks import integer
from bitspike.commands.options import LARGE, Engine, Json, Threads, write_json
from bitspike.commands.program import run as run_program
from bitspike.data import Batches, ImageSet, Samples
from bitspike.runtime.zoo import Card
from bitspike.runtime.zoo.command import chosen, copy_to, listed, opened, run_card
from bitspike.training.job import load_data
from bitspike.training.recipe import recipe_from_mapping


def zoo(
    action: Annotated[Literal["list", "get", "run"], tyro.conf.Positional],
    name: Annotated[str | None, tyro.conf.Positional] = None,
    out: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    input: Annotated[Path | None, tyro.conf.arg(metavar="INPUT")] = None,
    top: int = 3,
    engine: Engine = "auto",
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Trained programs that come with the package: list them or show the card of one, copy one, run one.

    `bitspike-runtime zoo` does the same without torch. `run` exits with 1 where predictions are not those of the card.

    Args:
        action: list (all, or the card of one), get (a copy of the program, its card and its notices), or run.
        name: DATA/KIND, such as fashion_mnist/ternary.
        out: Of get: file of the copy, by custom MODEL.bitspike; left out: DATA-KIND.bitspike here.
        input: Of run: samples as `bitspike run` takes them; left out: those of the card, which come with the package
            or are read from the folder that BITSPIKE_DATA names.
        top: Of run: classes to show for each sample.
        engine: Of run: native (the engine, in C++), interpreter (NumPy), or auto: native where it is.
        threads: Of run: threads of the native engine at most; left out: one a core.
        json: Write the result to this file too.
    """
    integer("--top", "it", top, 1, LARGE)
    if action == "list":
        text, document = listed(name)
        write_json(json, document)
        print(text)
        return
    card = chosen(name, action)
    if action == "get":
        files = copy_to(card, out)
        write_json(json, {"files": [str(path) for path in files]})
        print("\n".join(map(str, files)))
        return
    if input is not None:
        run_program(card.path, input, top, engine, threads, json)
        return
    x = card.samples()
    text, document, kept = run_card(card, opened(card, engine, threads), zoo_samples(card) if x is None else x, top)
    write_json(json, document)
    print(text)
    if not kept:
        raise SystemExit(1)


def zoo_samples(card: Card) -> np.ndarray[Any, Any]:
    """The samples that a card names, from the data set, as its program takes them.

    Raises:
        ValueError: the data set is not there.
    """
    recipe = recipe_from_mapping(card.facts["recipe"]["resolved"], f"card {card.name}")
    return fed_samples(load_data(recipe).test, len(card.facts["slice"]["labels"]))[0]


def fed_samples(test: Samples, count: int) -> tuple[np.ndarray[Any, Any], list[int]]:
    """(samples of a set as programs of the zoo take them, their labels): every (N/count)-th one.

    Images are raw; of sequences the steps come first.
    """
    part = test.subset(torch.arange(count) * len(test) // count)
    labels: list[int] = part.labels.tolist()
    if isinstance(part, ImageSet):
        return part.images.numpy(), labels
    x, _ = next(iter(Batches(part, count)))
    return x.transpose(0, 1).contiguous().numpy(), labels

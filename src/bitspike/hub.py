"""Trained networks as folders that the Hugging Face hub takes: safetensors, a config, a card. Offline too."""

from __future__ import annotations

import difflib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bitspike.checks import bad_value, message
from bitspike.data.validate import constants
from bitspike.files import read_json, write_json_atomic, write_text_atomic
from bitspike.layers import check_numbers
from bitspike.models import Network
from bitspike.schema import to_mapping, to_toml
from bitspike.training.bound import check_bound, recipe_fact
from bitspike.training.build import build_network
from bitspike.training.loop import load_weights
from bitspike.training.recipe import Recipe, recipe_from_mapping
from bitspike.training.weights import read_facts, read_weights, save_weights

_CONFIG, _WEIGHTS, _CARD = "config.json", "model.safetensors", "README.md"
_ZOO, _MARK = Path(__file__).parent / "pretrained", "zoo:"


@dataclass(frozen=True)
class Pretrained:
    """A loaded network and what is known of it.

    Attributes:
        model: in evaluation mode. recipe: what it was built and trained from. shape: of a sample. classes: names.
        mean, std, top: a pixel p enters as ``(p/top − mean)/std``.
    """

    model: Network
    recipe: Recipe
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    top: int


def save_pretrained(trained: Pretrained, folder: Path, figures: dict[str, Any] | None = None, notice: str = "") -> None:
    """Write weights, config and card.

    Args:
        trained: what to save. folder: created if missing. figures: e.g. a run's summary, shown on the card.
        notice: source and licence of data or checkpoints the network derives from; stands on the card.

    Raises:
        ValueError: NaN or inf in the weights.
    """
    check_numbers("save_pretrained", trained.model)
    folder.mkdir(parents=True, exist_ok=True)
    data = {
        "shape": list(trained.shape),
        "classes": list(trained.classes),
        "mean": list(trained.mean),
        "std": list(trained.std),
        "top": trained.top,
    }
    config = {"library": "bitspike", "recipe": to_mapping(trained.recipe), **data}
    tensors = {name: value.detach().cpu().contiguous() for name, value in trained.model.state_dict().items()}
    facts = {"format": "pt", **recipe_fact(trained.recipe), **{name: json.dumps(data[name]) for name in data}}
    save_weights(folder / _WEIGHTS, tensors, facts)
    write_json_atomic(folder / _CONFIG, config)
    write_text_atomic(folder / _CARD, _card(trained, figures or {}, notice))


def from_pretrained(name: str | Path, revision: str | None = None) -> Pretrained:
    """Load a network from a local folder, of the zoo, or from the hub through `huggingface_hub`.

    Args:
        name: folder, "zoo:DATA/KIND", such as "zoo:digits/ternary", or "owner/name" on the hub.
        revision: branch, tag or commit on the hub.

    Raises:
        ValueError: a file is missing, damaged, edited, does not fit, or holds NaN or inf. ImportError: the hub is
            needed and its package is missing.
    """
    folder = Path(name) if Path(name).is_dir() else _fetched(str(name), revision)
    config = read_json(folder / _CONFIG) if (folder / _CONFIG).exists() else None
    if not isinstance(config, dict) or config.get("library") != "bitspike":
        raise bad_value(str(folder), f"it must hold a bitspike {_CONFIG}", "none", "save it with save_pretrained")
    recipe = recipe_from_mapping(config["recipe"], str(folder / _CONFIG))
    shape, classes = tuple(config["shape"]), tuple(config["classes"])
    mean, std = (tuple(float(value) for value in config[name]) for name in ("mean", "std"))
    constants(str(folder / _CONFIG), mean, std, shape[0])
    model = build_network(recipe, shape, len(classes))
    try:
        tensors = read_weights(folder / _WEIGHTS, "fetch it again")
    except OSError as error:
        raise bad_value(
            str(folder / _WEIGHTS), "it must be a whole safetensors file", error, "fetch it again"
        ) from error
    check_bound(folder / _WEIGHTS, recipe, folder / _CONFIG, "fetch it again")
    for name, text in read_facts(folder / _WEIGHTS).items():
        if name in config and name != "recipe" and json.loads(text) != config[name]:
            must = f"{name} must be {text}, with which {_WEIGHTS} was saved"
            raise bad_value(str(folder / _CONFIG), must, config[name], "set it back, or fetch it again")
    load_weights(model, tensors, str(folder / _WEIGHTS))
    return Pretrained(model.eval(), recipe, shape, classes, mean, std, int(config["top"]))


def zoo_networks(folder: Path = _ZOO) -> tuple[str, ...]:
    """Names of the float networks that come with the package, DATA/KIND, for ``from_pretrained("zoo:DATA/KIND")``."""
    return tuple(sorted(f"{path.parent.parent.name}/{path.parent.name}" for path in folder.glob(f"*/*/{_CONFIG}")))


def _fetched(name: str, revision: str | None) -> Path:
    """The folder of the zoo, or of what is downloaded."""
    if not name.startswith(_MARK):
        return _download(name, revision)
    own, known = name.removeprefix(_MARK), zoo_networks()
    if own not in known:
        near = difflib.get_close_matches(own, known, n=3, cutoff=0.4)
        todo = f"did you mean {' or '.join(map(repr, near))}?" if near else "choose one of these"
        raise bad_value("from_pretrained", f"the zoo's networks are {', '.join(known)}", repr(own), todo)
    return _ZOO.joinpath(*own.split("/"))


def _download(name: str, revision: str | None) -> Path:
    if name.count("/") != 1 or name.startswith((".", "/")):
        raise bad_value("from_pretrained", "the name must be a folder or OWNER/NAME", repr(name), "check the path")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        text = message("from_pretrained", "huggingface_hub must be installed", "none", 'pip install "bitspike[hub]"')
        raise ImportError(text) from error
    return Path(snapshot_download(name, revision=revision, allow_patterns=[_CONFIG, _WEIGHTS, _CARD]))


def _card(trained: Pretrained, figures: dict[str, Any], notice: str) -> str:
    rows = [f"| {name} | {value:.6g} |" for name, value in figures.items() if isinstance(value, (int, float))]
    table = ["| figure | value |", "| --- | ---: |", *rows, ""] if rows else []
    lines = [
        "---",
        "library_name: bitspike",
        "tags: [spiking-neural-network, snn, bitspike]",
        "---",
        "",
        f"# {trained.recipe.name}",
        "",
        f"A spiking network trained with bitspike on {trained.recipe.data.name}: neuron `{trained.recipe.neuron.name}`,"
        f" weights `{trained.recipe.weight.name}`, T = {trained.recipe.model.T}.",
        "",
        notice,
        "",
        *table,
        "```toml",
        to_toml(trained.recipe).rstrip(),
        "```",
        "",
    ]
    return "\n".join(lines)

"""Image classification sets of the Hugging Face hub, or of a local folder of parquet files, through `datasets`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from bitspike import checks
from bitspike.data.dataset import Splits
from bitspike.data.decode import check_form, decode_images
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.named_splits import Pair, assemble, choose_parts
from bitspike.data.optional import need

WHERE = "load_hub"
LEAST_VERSION = 4
"""Older versions of `datasets` run scripts that come with the data."""


def load_hub(
    name: str,
    validation: int | float = 0.1,
    seed: int = 0,
    *,
    config: str | None = None,
    revision: str | None = None,
    image: str | None = None,
    label: str | None = None,
    size: int | None = None,
    channels: int = 3,
    test: str | None = None,
) -> Splits:
    """Load a set by its name on the hub, or from a local folder of parquet files without a network.

    Part "train" is trained on; "test", else "validation", is tested on; where both are there, the second is the
    validation part, else it is carved from the training part. A test part that is missing altogether is carved too:
    a fifth, the same for every seed. In a local folder the names of files tell the parts (``train-00000.parquet``).

    Args:
        name: such as "ylecun/mnist", or a folder.
        validation: images carved from the training part, or their fraction in (0, 1); unused where the set brings
            a validation part.
        seed: of the validation split, 0 to 2^63 - 1.
        config: of a set that has several.
        revision: branch, tag or commit on the hub; pass a commit where results must be repeatable.
        image: column of the images; None: the only one of that type.
        label: column of the labels; None: the only one of class labels.
        size, channels: as in `load_folder`.
        test: the part to test on, such as "validation" where the labels of "test" are withheld.

    Returns:
        Splits of uint8 ``[N, channels, H, W]``, top 255, mean and std of the train part.

    Raises:
        ImportError: `datasets` or Pillow is not installed, or `datasets` is older than 4.
        ValueError: a set that cannot be reached or read, columns that are not told, or an image that cannot be
            decoded.
    """
    check_form(WHERE, size, channels)
    datasets = need(WHERE, "datasets", "datasets", "datasets")
    need(WHERE, "PIL", "Pillow", "datasets")
    if int(datasets.__version__.split(".")[0]) < LEAST_VERSION:
        text = checks.message(WHERE, f"datasets must be >= {LEAST_VERSION}", datasets.__version__, "upgrade it")
        raise ImportError(text)
    local = Path(name).is_dir()
    with _reading(name, datasets):
        if local:  # streamed, so that no copy goes to the cache of `datasets`
            found = datasets.load_dataset("parquet", data_dir=str(name), streaming=True)
        else:
            found = datasets.load_dataset(name, config, revision=revision)
    chosen = choose_parts(WHERE, list(found), test)
    train = found[chosen["train"]]
    image = _column(train, "image", image, datasets.Image)
    label = _column(train, "label", label, datasets.ClassLabel)
    with _reading(name, datasets):
        raw = {part: list(_rows(found[key], image, label, datasets)) for part, key in chosen.items()}
    parts = {part: _decode(f"{WHERE} {name} {part}", rows, size, channels) for part, rows in raw.items()}
    feature = train.features[label]
    names = getattr(feature, "names", None)
    if names is None:
        names = [str(number) for number in range(1 + int(max(labels.max() for _, labels in parts.values())))]
    title = Path(name).resolve().name if local else name
    return assemble(title, tuple(names), parts, validation, seed)


@contextmanager
def _reading(name: str, datasets: Any) -> Iterator[None]:
    """Put the errors of `datasets` and pyarrow into the house form."""
    try:
        yield
    except (OSError, RuntimeError, LookupError, ValueError, TypeError, datasets.exceptions.DatasetsError) as error:
        got = (str(error) or type(error).__name__).splitlines()[0]
        todo = "check the name, the columns and the network, or pass a folder of parquet files"
        raise checks.bad_value(WHERE, f"{name} must be a set that datasets can read", got, todo) from error


def _column(part: Any, role: str, name: str | None, kind: type) -> str:
    """The column ``name``, or the only one of ``kind``."""
    features = part.features or {}
    fitting = [key for key, feature in features.items() if isinstance(feature, kind)]
    if name is None and len(fitting) == 1:
        return fitting[0]
    if name is not None and name in features:
        return name
    must = f"the set must have the column {name!r}" if name else f"the set must have one column of type {kind.__name__}"
    listed = ", ".join(f"{key} ({type(feature).__name__})" for key, feature in features.items()) or "no columns"
    raise checks.bad_value(WHERE, must, listed, f"pass {role}, the name of the column")


def _rows(part: Any, image: str, label: str, datasets: Any) -> Iterator[tuple[Any, Any]]:
    """(encoded image, label) of each sample."""
    if isinstance(part.features[image], datasets.Image):
        part = part.cast_column(image, datasets.Image(decode=False))
    for row in part.select_columns([image, label]):
        yield row[image], row[label]


def _decode(where: str, rows: list[tuple[Any, Any]], size: int | None, channels: int) -> Pair:
    """The images and labels of one part."""
    labels = [mark for _, mark in rows]
    if not all(type(mark) is int and mark >= 0 for mark in labels):
        odd = next(mark for mark in labels if not (type(mark) is int and mark >= 0))
        must = "labels must be ints >= 0 (-1 says that they are withheld)"
        raise checks.bad_value(where, must, repr(odd), "pass test, the name of a part with labels")
    encoded = ((f"image {number}", _bytes(where, number, value)) for number, (value, _) in enumerate(rows))
    return decode_images(where, encoded, len(rows), size, channels), torch.tensor(labels, dtype=torch.int64)


def _bytes(where: str, number: int, value: Any) -> bytes:
    """The contents of an image's file, which the row holds or names."""
    content = value.get("bytes") if isinstance(value, dict) else value
    path = value.get("path") if isinstance(value, dict) else None
    if content is None and path is not None and Path(path).is_file():
        content = Path(path).read_bytes()
    if not isinstance(content, bytes):
        must = "an image must be the bytes of its file"
        raise checks.bad_value(f"{where} image {number}", must, type(content).__name__, "pass image, another column")
    return content


def _at_place(root: str, validation: int | float, seed: int, **options: Any) -> Splits:
    """What is a folder for others is a name here."""
    return load_hub(root, validation, seed, **options)


OPTIONS = ("config", "revision", "image", "label", "size", "channels", "test")
HUB = DATASETS.register("hub")(Entry(_at_place, 0.1, options=OPTIONS, place="NAME"))

"""JPEG files packed in npz archives, as the 10-class sample of Tiny-ImageNet comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch

from bitspike.checks import bad_value
from bitspike.data.dataset import Splits
from bitspike.data.decode import check_form, decode_images
from bitspike.data.named_splits import Pair
from bitspike.data.npz import read_npz
from bitspike.data.split import make_splits

WHERE = "load_packed_jpeg"
MEMBERS = ("jpeg_bytes", "offsets", "labels", "class_names")


def load_packed_jpeg(
    root: str | os.PathLike[str],
    name: str = "tiny_imagenet10",
    validation: int | float = 500,
    seed: int = 0,
    *,
    size: int | None = None,
    channels: int = 3,
) -> Splits:
    """Load ``NAME_train.npz`` and ``NAME_val.npz``; the second is the test part, validation is carved from the first.

    Each holds ``jpeg_bytes`` (uint8, the files one after the other), ``offsets`` (of each file, and the end),
    ``labels`` and ``class_names`` (uint8, UTF-8, one a line: a name, or an identifier, a tab and a name).
    Source of the sample: Y. Le, X. Yang, "Tiny ImageNet Visual Recognition Challenge", CS 231N, Stanford, 2015.

    Args:
        root: the folder with the files, or its parent, where the folder is called ``tiny_imagenet`` or ``NAME``.
        name: the files' common name.
        validation: images carved from the training images, or their fraction in (0, 1).
        seed: of the validation split, 0 to 2^63 - 1.
        size, channels: as in `load_folder`; Tiny-ImageNet is 64×64 throughout.

    Returns:
        Splits of uint8 ``[N, channels, H, W]``, top 255, mean and std of the train part.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: missing or damaged files, members that disagree, or an image that cannot be decoded.
    """
    check_form(WHERE, size, channels)
    files = [f"{name}_{part}.npz" for part in ("train", "val")]
    folders = [Path(root) / below for below in (name, "tiny_imagenet", ".")]
    folder = next((place for place in folders if all((place / file).is_file() for file in files)), None)
    if folder is None:
        must = f"{root}, or {name} or tiny_imagenet in it, must hold {' and '.join(files)}"
        raise bad_value(WHERE, must, "not both", "copy them there or pass another root")
    (train, classes), (test, others) = (_read(folder / file, size, channels) for file in files)
    if classes != others:
        must = f"{' and '.join(files)} must name the same classes"
        raise bad_value(WHERE, must, f"{len(classes)} and {len(others)} that differ", "take both from one source")
    return make_splits(name, classes, 255, train, test, validation, seed)


def _read(path: Path, size: int | None, channels: int) -> tuple[Pair, tuple[str, ...]]:
    """The images and labels of one archive, and its class names."""
    where, members = f"{WHERE} {path}", read_npz(path, MEMBERS)
    stream, offsets, labels, text = (members[name] for name in MEMBERS)
    if any(array.ndim != 1 for array in members.values()) or stream.dtype != np.uint8 or text.dtype != np.uint8:
        got = ", ".join(f"{name} {array.dtype} {list(array.shape)}" for name, array in members.items())
        raise bad_value(where, "members must have one axis, bytes and names uint8", got, "pass a file in this layout")
    if any(array.dtype.kind not in "iu" for array in (offsets, labels)) or len(offsets) != len(labels) + 1:
        got = f"{offsets.dtype} {list(offsets.shape)} and {labels.dtype} {list(labels.shape)}"
        raise bad_value(where, "offsets and labels must be integers [N + 1] and [N]", got, "pass a file in this layout")
    edges = offsets.tolist()
    if edges[0] != 0 or edges[-1] != len(stream) or any(b < a for a, b in pairwise(edges)):
        must = f"offsets must rise from 0 to {len(stream)}, the number of bytes"
        raise bad_value(where, must, f"{edges[0]} to {edges[-1]}", "copy the file again from its source")
    images = decode_images(where, _files(stream, edges), len(labels), size, channels)
    return (images, torch.from_numpy(labels.astype(np.int64))), _names(where, text)


def _files(stream: np.ndarray, edges: list[int]) -> Iterator[tuple[str, bytes]]:
    """(name, contents) of each file."""
    for number, (start, end) in enumerate(pairwise(edges)):
        yield f"image {number}", stream[start:end].tobytes()


def _names(where: str, text: np.ndarray) -> tuple[str, ...]:
    """One class name a line, without the identifier before a tab."""
    try:
        lines = text.tobytes().decode("utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise bad_value(where, "class_names must be UTF-8 text", error, "copy the file again") from error
    return tuple(line.rpartition("\t")[2] for line in lines)

"""What a page needs to know of pictures: the network's own normalisation, and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from bitspike.checks import bad_value
from bitspike.data import ImageSet, load
from bitspike.runtime import Program

SIDES = (8, 28)
OWN = ("digits", "fashion_mnist")
"""Sets whose images may be shown to anybody."""
_WHERE = "export to page"


def unfit(program: Program) -> list[str]:
    """Why pictures drawn by hand cannot be what a program is fed with; nothing where they can."""
    given, info = program.spec.input, program.spec.info
    value = given.value
    found = []
    if value.shape not in [(1, side, side) for side in SIDES]:
        sides = " or ".join(f"1×{side}×{side}" for side in SIDES)
        found.append(f"input: it is {'×'.join(map(str, value.shape))}, one draws {sides}; train on such pictures")
    if not given.repeat:
        found.append("input: a sample is a sequence, one draws a still picture; use the encoder `repeat`")
    top, pixels = info.get("top"), info.get("pixels") is True
    known = type(top) is int and 1 <= top <= 255
    if pixels:
        if given.scale is not None or not known or (value.low, value.high) != (0, top):
            found.append(
                f"input: its range {value.low}..{value.high} must be that of info's top; compile the run again"
            )
    elif given.scale is None or not known or not all(_single(info.get(key)) for key in ("mean", "std")):
        found.append("input: the program must say top, mean and std of its pixels; compile a run, or with --pixels")
    elif info["std"][0] <= 0:
        found.append("input: std must be positive; compile the run again")
    return found


def _single(numbers: Any) -> bool:
    return isinstance(numbers, list | tuple) and len(numbers) == 1 and isinstance(numbers[0], int | float)


def levels(program: Program) -> list[int]:
    """Pixel 0 .. top → level of the input, through the very code that normalises the network's data."""
    info = program.spec.info
    pixels = torch.arange(info["top"] + 1, dtype=torch.uint8).reshape(-1, 1, 1, 1)
    if program.spec.input.scale is None:
        found: list[int] = pixels.flatten().tolist()
        return found
    mean, std = ((float(info[key][0]),) for key in ("mean", "std"))
    data = ImageSet(pixels, torch.zeros(len(pixels), dtype=torch.int64), ("any",), info["top"], mean, std, "pixels")
    return [int(level) for level in program.quantize(data.normalise(pixels).numpy()).reshape(-1)]


def examples(program: Program, asked: str) -> list[tuple[str, np.ndarray]]:
    """(name, uint8 [H, W]) of the pictures that a page offers.

    Args:
        asked: "auto": the first test image of each class, where the network's set is one of `OWN` and is here; "none";
            or an .npy file of uint8 [N, H, W] or [N, 1, H, W].

    Raises:
        ValueError: a file with other contents.
    """
    if asked == "none":
        return []
    if asked != "auto":
        return _read(program, Path(asked))
    name = str(program.spec.info.get("data", "")).partition("/")[0]
    if name not in OWN:
        return []
    try:
        test = load(name).test
    except (ImportError, ValueError, OSError):
        return []  # the set is not here
    if not isinstance(test, ImageSet) or test.images.shape[1:] != program.spec.input.value.shape:
        return []
    first = [int((test.labels == k).nonzero()[0]) for k in range(len(test.classes)) if (test.labels == k).any()]
    return [(test.classes[int(test.labels[i])], test.images[i, 0].numpy()) for i in first]


def _read(program: Program, path: Path) -> list[tuple[str, np.ndarray]]:
    if not path.is_file():
        raise bad_value(_WHERE, "examples must be auto, none or an .npy file", str(path), "check the path")
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise bad_value(_WHERE, "examples must be an .npy file", error, "save it with numpy.save") from None
    side, top = program.spec.input.value.shape[-1], program.spec.info["top"]
    images = found[:, 0] if found.ndim == 4 and found.shape[1] == 1 else found
    if images.dtype != np.uint8 or images.ndim != 3 or images.shape[1:] != (side, side) or not 1 <= len(images) <= 100:
        must = f"examples must be uint8 [N, {side}, {side}], N from 1 to 100"
        raise bad_value(_WHERE, must, f"{found.dtype} {list(found.shape)}", "reshape it")
    if int(images.max()) > top:
        raise bad_value(_WHERE, f"examples must lie in 0..{top}", int(images.max()), "scale them")
    return [(f"picture {i + 1}", image) for i, image in enumerate(images)]

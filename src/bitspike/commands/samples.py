"""What `bitspike run` feeds a program with: arrays and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from bitspike.checks import bad_value
from bitspike.data.decode import SUFFIXES, decode_images
from bitspike.runtime import Program
from bitspike.runtime.samples import as_frames, as_numbers, read_array, top_of


def read_samples(program: Program, path: Path) -> tuple[list[str], Any]:
    """(a name a sample, what the program is fed with).

    Raises:
        ValueError: no such file, or samples of another shape than the program takes.
    """
    if not path.exists():
        raise bad_value("--input", "it must be a file or a folder", str(path), "check the path")
    if path.suffix == ".npy":
        x = read_array(path)
        if program.spec.info.get("time"):
            frames = as_frames(program, x, str(path))
            return [f"{path.name}[{i}]" for i in range(frames.shape[1])], frames
        shape, lead = program.spec.input.value.shape, 1 if program.spec.input.repeat else 2
        x = np.expand_dims(x, lead - 1) if x.ndim == len(shape) + lead - 1 else x
        if x.ndim != len(shape) + lead or x.shape[lead:] != shape or 0 in x.shape:
            names = "[B, {}]" if lead == 1 else "[steps, B, {}]"
            must = f"its array must be {names.format(', '.join(map(str, shape)))}"
            raise bad_value(str(path), must, list(x.shape), "reshape it")
        return [f"{path.name}[{i}]" for i in range(x.shape[lead - 1])], as_numbers(program, x, str(path))
    if path.is_file() and path.suffix.lower() not in SUFFIXES:
        raise bad_value("--input", "it must be X.npy, a picture, or a folder of pictures", path.name, "save it as one")
    files = sorted(p for p in path.iterdir() if p.suffix.lower() in SUFFIXES) if path.is_dir() else [path]
    shape = program.spec.input.value.shape
    if len(shape) != 3 or shape[0] not in (1, 3) or not program.spec.input.repeat:
        raise bad_value("--input", "the program must take images of 1 or 3 channels", list(shape), "pass X.npy")
    size = None if shape[1] != shape[2] else shape[1]
    encoded = [(file.name, file.read_bytes()) for file in files]
    images = decode_images("--input", encoded, len(files), size, shape[0]).numpy()
    if images.shape[1:] != shape:
        raise bad_value("--input", f"pictures must be {shape[2]}x{shape[1]}", list(images.shape[1:]), "scale them")
    top = top_of(program)
    images = images if top == 255 else np.round(images.astype(np.float64) * top / 255).astype(np.uint8)
    return [file.name for file in files], as_numbers(program, images, "--input")

"""Samples in files, as the commands take them: numbers of the network, or raw images that its data set normalises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from .arithmetic import Array
from .errors import fault
from .program import Program

REAL = ("none", "repeat", "frames")
"""Encoders, as a program's info names them, behind which numbers are those of the samples."""


def read_array(path: Path) -> Array:
    """The one array of an .npy file.

    Raises:
        ProgramError: it is no such file, or a part of one. OSError: it cannot be read.
    """
    must, todo = "it must be an .npy file of numbers", "save it with numpy.save"
    try:
        found = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        got = "something else, a part of one, or objects"
        raise fault(str(path), must, got, todo) from error
    if not isinstance(found, np.ndarray):
        raise fault(str(path), "it must hold one array", type(found).__name__, todo)
    return found


def as_numbers(program: Program, x: Array, where: str) -> Array:
    """What a program is fed with for an array whose integers, where the network takes real numbers, are raw images.

    A program whose input has no scale takes x as it is. Otherwise real numbers are the network's, uint8 are images
    that are normalised as the data set says, ``(x/top − mean)/std`` in float32, and other integers are refused: they
    could be numbers of the network, pixels, or levels of the program. Behind an encoder of spikes with fractions,
    such as "phase", x must hold what it sends.

    Raises:
        ProgramError: other integers; pixels above ``top``; nothing says how images are normalised.
    """
    if program.spec.input.scale is not None and program.spec.info.get("encoder", "repeat") not in REAL:
        return _spikes(program, x, where)
    if program.spec.input.scale is None or x.dtype.kind not in "iu":
        return x
    if x.dtype != np.uint8:
        must = "its array must be float, the numbers that the network takes, or uint8 images"
        raise fault(where, must, x.dtype, "save it as float32 or uint8; Program in Python takes levels")
    top, mean, std = _constants(program, where)
    if x.size and int(x.max()) > top:
        raise fault(where, f"pixels must lie in 0..{top:g}, as those of its data", int(x.max()), "scale them")
    return (x.astype(np.float32) / np.float32(top) - mean) / std


def as_frames(program: Program, x: Array, where: str) -> Array:
    """Sequences [N, T, ...] or one [T, ...], as the data set holds them → [T, N, ...], with which a program is fed.

    Where sequences of the data set end at different steps, these may be fewer than those of the program.

    Raises:
        ProgramError: another shape; samples that an encoder reads first; fractions where the data set holds integers.
    """
    value, info = program.spec.input.value, program.spec.info
    if info.get("encoder", "frames") != "frames":
        must = "samples must be what the program is fed with"
        got = f"those that its encoder {info['encoder']!r} reads"
        raise fault(where, must, got, "encode them in Python: Program(...)(encoder(x).numpy())")
    x = x[None] if x.ndim == len(value.shape) + 1 else x
    least = 1 if info.get("ragged") else value.steps
    formed = x.ndim == len(value.shape) + 2 and x.shape[2:] == value.shape and x.size
    if not formed or not least <= x.shape[1] <= value.steps:
        sides, fewer = ", ".join(map(str, (value.steps, *value.shape))), " or fewer" * (least < value.steps)
        must = f"its array must be [N, {sides}], samples of {value.steps} steps{fewer}"
        raise fault(where, must, list(x.shape), "reshape it")
    if info.get("integers") and x.dtype.kind == "f" and bool((x != np.rint(x)).any()):
        must = f"samples must be integers as its data set holds them, of which {info.get('top', 1)} maps to 1"
        raise fault(where, must, "fractions", "do not divide them")
    frames = np.ascontiguousarray(np.moveaxis(x, 1, 0))
    return frames if program.spec.input.scale is None else frames.astype(np.float32) / np.float32(info.get("top", 1))


def _spikes(program: Program, x: Array, where: str) -> Array:
    """What an encoder sends; numbers between its levels are none of its spikes."""
    value, name = program.spec.input.value, program.spec.info["encoder"]
    levels = np.ldexp(x.astype(np.float64), value.exponent or 0) if x.dtype.kind == "f" else np.array([0.5])
    if not bool(((levels == np.rint(levels)) & (levels >= value.low) & (levels <= value.high)).all()):
        must = f"its array must be float and hold what the encoder {name!r} sends"
        raise fault(
            where, must, f"{x.dtype} of other numbers", f"encode samples first: multiples of 2^-{value.exponent}"
        )
    return x


def top_of(program: Program) -> float:
    """The brightest pixel of a program's images: that of its alphabet, or what its info names, else 255."""
    given, named = program.spec.input, program.spec.info.get("top")
    if given.scale is None and given.value.low == 0:
        return given.value.high
    return named if isinstance(named, (int, float)) and 0 < named <= 255 else 255


def _constants(program: Program, where: str) -> tuple[float, Array, Array]:
    """(top, mean, std) that the program's info names, for its channels."""
    info, channels = program.spec.info, program.spec.input.value.shape[0]
    if not {"top", "mean", "std"} <= set(info):
        raise fault(where, "the program must say how to normalise images", "no mean and std", "pass numbers")
    found = [_vector(info[key], channels) for key in ("top", "mean", "std")]
    if any(part is None for part in found) or found[0].size != 1 or not (found[0] > 0).all() or not found[2].all():
        must = f"the program must say top > 0, and mean and std, not 0, of {channels} channels"
        raise fault(where, must, {key: info[key] for key in ("top", "mean", "std")}, "pass numbers")
    return float(found[0].item()), found[1], found[2]


def _vector(given: Any, channels: int) -> Any:
    """A number, or one a channel, as float32 [1 or C, 1, 1]; None where it is neither."""
    items = given if isinstance(given, list) else [given]
    if len(items) not in (1, channels) or any(type(item) not in (int, float) for item in items):
        return None
    made = np.array(items, np.float32).reshape(-1, 1, 1)
    return made if np.isfinite(made).all() else None


__all__ = ["as_numbers", "read_array", "top_of"]

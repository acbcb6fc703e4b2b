"""Own arrays: an npz file, a folder of npy files or any iterable of (x, y), as the three sets of an experiment."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitspike.checks import bad_type, bad_value
from bitspike.data.array_set import ArraySet
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.named_splits import assemble, completed
from bitspike.data.npz import read_folder, read_npz
from bitspike.data.sequence_arrays import pad, sequence_splits

WHERE = "load_arrays"
PARTS = ("train", "validation", "test")
KINDS = ("x", "y", "lengths")
_SPELLINGS = ("train", "training", "validation", "val", "valid", "dev", "eval", "test", "testing")
_TELLING = {*KINDS} | {f"{kind}_{part}" for kind in KINDS for part in _SPELLINGS}
"""Members that somebody meant as samples, targets or lengths of a part, in small letters."""


def load_arrays(
    root: str | os.PathLike[str],
    validation: int | float = 0.1,
    seed: int = 0,
    *,
    time: bool = False,
    top: int | None = None,
) -> Splits:
    """Load samples and targets from an npz file, or from a folder with a file ``x_train.npy`` and so on.

    ``x_train`` and ``y_train`` (or ``x`` and ``y``) must be there; ``x_test``, ``y_test`` and ``x_validation``,
    ``y_validation`` may be. A part that is not there is carved from the training part, the test part (a fifth) alike
    for every seed. Other members are not looked at, but one that is called like a part and would not be read is refused
    (``x_val``, ``X_test``, ``lengths`` beside ``x_train``, lengths without ``time``).

    - uint8 x ``[N, H, W]`` or ``[N, C, H, W]`` with integer y ``[N]`` are images of classes, 0 to the greatest label:
      an `ImageSet`, normalised by mean and std of the train part, and augmented where the recipe asks for it.
    - float x ``[N, ...]`` are samples as they are, uint8 x with y of numbers or labels too (divided by 255):
      `ArraySet`, no augmentation.
    - with ``time``, x ``[N, T, ...]`` of integers or floats are sequences of T steps: a `SequenceSet`. Nothing is
      taken for a time axis without it. Where ``lengths_train`` (or ``lengths``) and so on are there, integers ``[N]``,
      a sequence ends after so many steps, and what stands behind them is not looked at.
    - integer y ``[N]`` are classes; float y ``[N]`` or ``[N, K]`` are numbers to be met (regression), whatever numbers
      they are; bool y ``[N, K]``, or uint8 of 0 and 1, says for each of K labels whether the sample has it.

    Args:
        root: the file or folder. validation: samples carved from the training part, or their fraction in (0, 1).
        seed: of the validation split, 0 to 2^63 - 1.
        time: whether the second axis of x is time. top: of sequences, the value that maps to 1.0; None: 1.

    Raises:
        ValueError: a missing or damaged file, a lacking member, shapes or kinds that do not fit, NaN or inf, numbers
            that do not fit into float32.

    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile(suffix=".npz") as file:
    ...     np.savez(file, x=np.zeros((20, 3), np.float32), y=np.linspace(0, 1, 20))
    ...     _ = file.seek(0)
    ...     load_arrays(file.name).train
    ArraySet('npz/train': 14 samples 3, 1 values)
    """
    named = _members(root)
    where = f"{WHERE} {os.fspath(root)}"
    _check_names(where, named, time)
    read = read_folder if Path(root).is_dir() else read_npz
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    lengths: dict[str, Tensor] = {}
    for part in PARTS:
        keys, ends = (f"x_{part}", f"y_{part}"), f"lengths_{part}"
        if part == "train" and not set(keys) & named:
            keys, ends = ("x", "y"), "lengths"
        if time and ends in named:
            lengths[part] = torch.from_numpy(native(read(root, (ends,))[ends]))
        if part == "train" or set(keys) & named:
            found = read(root, keys)
            pairs[part] = torch.from_numpy(native(found[keys[0]])), torch.from_numpy(native(found[keys[1]]))
    check_time_options(where, time, top)
    return splits_of(where, "npz", pairs, validation, seed, time=time, top=top, lengths=lengths)


def gather(
    train: Iterable[Any],
    validation: Iterable[Any] | int | float = 0.1,
    test: Iterable[Any] | None = None,
    seed: int = 0,
    name: str = "given",
    *,
    time: bool = False,
    top: int | None = None,
) -> Splits:
    """Read iterables of (x, y), such as data loaders or lists, once into memory, as the splits that training takes.

    Each item is a batch, x ``[B, ...]`` and y ``[B]`` or ``[B, K]``, or one sample where y is a number (x ``[...]``).
    Tensors, numpy arrays and numbers will do. Kinds are told as in `load_arrays`; what the iterable draws at random
    (its own augmentation) is drawn once.

    Args:
        train: to train on. validation: another iterable, or what to carve from ``train``, as in `load_arrays`.
        test: None: a fifth of ``train``, the same for every seed. seed: of the carving. name: for messages.
        time, top: as in `load_arrays`: x ``[B, T, ...]`` are sequences, items of which may differ in T; the x of a
            batch may be a list of arrays ``[T_i, ...]``.

    Raises:
        TypeError, ValueError: items of another form, shapes or kinds that do not fit, NaN or inf, nothing at all.

    >>> gather([(torch.zeros(8, 2), torch.arange(8) % 2)] * 4).train
    ArraySet('given/train': 23 samples 2, 2 classes)
    """
    where = f"gather {name}"
    check_time_options(where, time, top)
    pairs: dict[str, tuple[Tensor, Tensor]] = {}
    lengths: dict[str, Tensor] = {}
    parts: list[tuple[str, Iterable[Any] | None]] = [("train", train), ("test", test)]
    if not isinstance(validation, (int, float)):
        parts.append(("validation", validation))
        validation = 0.1
    for part, items in parts:
        if items is not None:
            own = where if part == "train" else f"{where} ({part})"
            x, y, ends = _read(own, items, time)
            pairs[part] = x, y
            lengths |= {} if ends is None else {part: ends}
    return splits_of(where, name, pairs, validation, seed, time=time, top=top, lengths=lengths, fill=time)


def as_splits(given: object, validation: float, time: bool = False, top: int | None = None) -> Splits:
    """`Splits` as they are; (train, validation) or (train, validation, test), or one iterable, through `gather`."""
    own: dict[str, Any] = {"time": time, "top": top}
    if isinstance(given, Splits):
        return given
    if isinstance(given, Mapping):
        extra = sorted(map(str, given.keys() - set(PARTS)))
        if extra or "train" not in given:
            todo = "name them train, validation and test"
            raise bad_value("fit", "the parts must be 'train' and at most 'validation', 'test'", list(given), todo)
        return gather(given["train"], given.get("validation", validation), given.get("test"), **own)
    if isinstance(given, tuple) and 2 <= len(given) <= 3 and not any(isinstance(part, Tensor) for part in given):
        return gather(*given, **own)
    if not isinstance(given, Iterable) or isinstance(given, (str, bytes, Tensor)):
        must = "the data must be Splits or iterables of (x, y)"
        raise bad_type("fit", must, type(given).__name__, "see bitspike.data.gather")
    return gather(given, validation, **own)


def _members(path: str | os.PathLike[str]) -> set[str]:
    """Names in an archive or folder; none of a file that is none, which `read_npz` then refuses."""
    if Path(path).is_dir():
        return {entry.stem for entry in Path(path).iterdir() if entry.suffix == ".npy"}
    try:
        with zipfile.ZipFile(path) as archive:
            return {entry.removesuffix(".npy") for entry in archive.namelist()}
    except (OSError, zipfile.BadZipFile):
        return set()


def _check_names(where: str, named: set[str], time: bool) -> None:
    """Raise where a member is called like samples, targets or lengths of a part and would not be read."""
    whole = not {"x_train", "y_train"} & named
    first = KINDS if whole else tuple(f"{kind}_train" for kind in KINDS)
    read = {*first, *(f"{kind}_{part}" for kind in KINDS for part in PARTS[1:])}
    stray = sorted(name for name in named - read if name.lower() in _TELLING)
    if stray:
        must = f"parts must be called {', '.join(first)}, and _validation or _test behind x, y and lengths"
        raise bad_value(where, must, ", ".join(map(repr, stray)), "rename them, or take them out")
    ends = sorted(name for name in named if name.startswith("lengths") and name in read)
    if ends and not time:
        must = "lengths must be left out where samples have no time axis"
        raise bad_value(where, must, ", ".join(map(repr, ends)), "set time too (data.time = true in a recipe)")
    lone = [name for name in ends if name != "lengths" and name.replace("lengths", "x", 1) not in named]
    if lone:
        must = "lengths must be those of a part that is there"
        raise bad_value(where, must, ", ".join(map(repr, lone)), "add its x and y, or take them out")


def native(array: np.ndarray) -> np.ndarray:
    """The array in a dtype that torch has."""
    array = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("="), copy=False))
    if array.dtype.kind == "u" and array.dtype != np.uint8:
        if array.dtype == np.uint64 and array.size and int(array.max()) >= 2**63:
            must = "integers must be below 2^63"
            raise bad_value("arrays", must, int(array.max()), "convert them; -1 as uint64 is such a number")
        return array.astype(np.int64)
    if array.dtype != np.longdouble or array.dtype == np.float64:
        return array
    most = np.finfo(np.float64).max
    return np.where(np.isinf(array), array, array.clip(-most, most)).astype(np.float64)


def _read(where: str, items: Iterable[Any], time: bool) -> tuple[Tensor, Tensor, Tensor | None]:
    """All items as one pair, and the lengths of sequences that differ in them."""
    samples, targets = [], []
    for item in items:
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise bad_type(where, "every item must be a pair (x, y)", type(item).__name__, "yield x, y")
        x, y = item
        y = _tensor(y)
        if time and y.dim() and isinstance(x, (list, tuple)) and all(np.ndim(row) for row in x):
            if len(x) != len(y):
                must = "a list of sequences must have as many targets"
                raise bad_value(where, must, f"{len(x)} and {len(y)}", "yield whole batches")
            samples += [_tensor(row).unsqueeze(0) for row in x]
            targets += list(y.split(1))
            continue
        x = _tensor(x)
        if y.dim() == 0:
            x, y = x.unsqueeze(0), y.unsqueeze(0)
        if x.dim() < 1 or len(x) != len(y):
            must = "a batch must have as many samples as targets"
            raise bad_value(where, must, f"x {list(x.shape)}, y {list(y.shape)}", "yield whole batches")
        samples.append(x)
        targets.append(y)
    if not samples:
        raise bad_value(where, "the iterable must yield something", "nothing", "pass one that is not used up")
    shapes = {(tuple(x.shape[1:]), tuple(y.shape[1:])) for x, y in zip(samples, targets, strict=True)}
    if time and len({(x[1:], y) for x, y in shapes}) == 1 and len(shapes) > 1:
        values, lengths = pad([row for x in samples for row in x])
        return values, torch.cat(targets), lengths
    if len(shapes) > 1:
        raise bad_value(where, "all samples must have one shape", sorted(map(str, shapes))[:2], "resize them")
    return torch.cat(samples), torch.cat(targets), None


def _tensor(part: Any) -> Tensor:
    """What an item holds, as a tensor on the CPU."""
    return (part if isinstance(part, Tensor) else torch.as_tensor(np.asarray(part))).detach().cpu()


def check_time_options(where: str, time: bool, top: int | None) -> None:
    """Raise if something is said of sequences where there are none."""
    if top is not None and not time:
        raise bad_value(where, "top must be left out where samples have no time axis", top, "set time too")


def splits_of(
    where: str,
    name: str,
    pairs: Mapping[str, tuple[Tensor, Tensor]],
    validation: int | float,
    seed: int,
    *,
    time: bool = False,
    top: int | None = None,
    classes: tuple[str, ...] | None = None,
    lengths: Mapping[str, Tensor] | None = None,
    fill: bool = False,
) -> Splits:
    """The sets, from what stands in a file, was gathered or made: in the order in which it comes.

    Args:
        where: what asks, for messages. name: of the data set. pairs: part → (x, y), "train" at least.
        validation, seed, time, top: as in `load_arrays`. classes: names of the classes or values; None: numbers.
        lengths: part → integers ``[N]``, the steps of its sequences. fill: sequences of a part without them all have
            T steps; else every part must have them where one has.

    Raises:
        ValueError: as `load_arrays`.
    """
    ends = _lengths(where, pairs, lengths or {}, fill)
    for part, (x, y) in pairs.items():
        _check(f"{where} ({part})", x, y, pairs["train"], time, bool(ends) or fill)
    if fill and not ends and len({x.shape[1] for x, _ in pairs.values()}) > 1:
        ends = {part: torch.full((len(x),), x.shape[1]) for part, (x, _) in pairs.items()}
    labels = pairs["train"][1]
    if labels.dim() == 1 and not labels.is_floating_point():
        most = max(int(y.max()) for _, y in pairs.values())
        if most >= 10**6:
            raise bad_value(where, "labels must be below 1000000", most, "number the classes from 0, or use float y")
        classes = tuple(str(k) for k in range(most + 1)) if classes is None else classes
        if most >= len(classes):
            must = f"labels must lie in [0, {len(classes) - 1}], as {len(classes)} classes are named"
            raise bad_value(where, must, most, "name every class or correct the labels")
        if pairs["train"][0].dtype == torch.uint8 and not time:
            images = {part: (x.unsqueeze(1) if x.dim() == 3 else x, y.long()) for part, (x, y) in pairs.items()}
            return assemble(name, classes, images, validation, seed)
    elif classes is None:
        classes = tuple(f"y{k}" for k in range(1 if labels.dim() == 1 else labels.shape[1]))
    if time:
        sequences = {part: (_floats(x) if x.is_floating_point() else x, _targets(y)) for part, (x, y) in pairs.items()}
        return sequence_splits(where, name, sequences, classes, 1 if top is None else top, validation, seed, ends)
    sets = {part: ArraySet(_floats(x), _targets(y), classes, f"{name}/{part}") for part, (x, y) in pairs.items()}
    return completed(name, sets, validation, seed)


def _lengths(
    where: str, pairs: Mapping[str, tuple[Tensor, Tensor]], given: Mapping[str, Tensor], fill: bool
) -> dict[str, Tensor]:
    """Part → lengths int64 ``[N]``, {} where there are none."""
    lacking = [part for part in pairs if part not in given]
    if given and lacking and not fill:
        must = "where a part has lengths, every part must have them"
        raise bad_value(where, must, f"none of {', '.join(lacking)}", f"add lengths_{lacking[0]}")
    for part, own in given.items():
        if own.is_floating_point() or own.is_complex() or own.dtype == torch.bool:
            raise bad_value(f"{where} ({part})", "lengths must be integers [N]", own.dtype, "convert them")
    return {part: own.long() for part, own in given.items()}


def _check(where: str, x: Tensor, y: Tensor, train: tuple[Tensor, Tensor], time: bool, unequal: bool) -> None:
    """Raise unless x and y are of a kind that is read, and of that of the training part."""
    if time:
        _check_sequences(where, x)
    else:
        _check_still(where, x)
    _check_targets(where, x, y)
    for part, values in (("x", x), ("y", y)):
        _fits(where, part, values)
    axis = 2 if time and unequal else 1  # the first one that parts must share
    alike = x.dtype.is_floating_point == train[0].dtype.is_floating_point and x.shape[axis:] == train[0].shape[axis:]
    if not (alike and y.is_floating_point() == train[1].is_floating_point() and y.shape[1:] == train[1].shape[1:]):
        got = f"x {x.dtype} {list(x.shape[1:])}, y {y.dtype} {list(y.shape[1:])}"
        raise bad_value(where, "x and y must be of the kind and shape of the training part", got, "convert them")


def _check_sequences(where: str, x: Tensor) -> None:
    if x.is_complex():
        raise bad_value(where, "x must be integers or floats", x.dtype, "convert it, e.g. with .astype('float32')")
    if x.dim() < 3 or not x.numel():
        must = "x with a time axis must be [N, T, ...], an axis behind the steps and none empty"
        raise bad_value(where, must, list(x.shape), "add the axis of features, e.g. with x[:, :, None]")


def _check_still(where: str, x: Tensor) -> None:
    sequences = "or declare time (data.time = true in a recipe) where the second axis is time"
    if not (x.is_floating_point() or x.dtype == torch.uint8):
        todo = f"convert it, e.g. with .astype('float32'), {sequences}"
        raise bad_value(where, "x must be floats, or uint8 images", x.dtype, todo)
    if x.dim() < 2 or not x.numel():
        raise bad_value(where, "x must be [N, ...] without an empty axis", list(x.shape), "add the axis of samples")
    if x.dtype == torch.uint8 and x.dim() not in (3, 4):
        must = "uint8 x must be images [N, H, W] or [N, C, H, W]"
        raise bad_value(where, must, list(x.shape), f"convert other samples to float32, {sequences}")
    if x.dtype == torch.uint8 and x.dim() == 4 and x.shape[1] > 4 >= x.shape[3]:
        todo = "move the channels, e.g. with numpy.moveaxis(x, 3, 1)"
        raise bad_value(where, "images must be [N, C, H, W]", list(x.shape), f"{todo}, {sequences}")


def _check_targets(where: str, x: Tensor, y: Tensor) -> None:
    axes = {torch.bool: (2,), torch.uint8: (1, 2)}.get(y.dtype, (1, 2) if y.is_floating_point() else (1,))
    if y.is_complex() or y.dim() not in axes:
        numbers, labels = "floats [N] or [N, K] (numbers to be met)", "bool or uint8 [N, K] (labels)"
        must = f"y must be integers [N] (classes), {numbers} or {labels}"
        raise bad_value(where, must, f"{y.dtype} {list(y.shape)}", "convert it, e.g. with .astype('int64')")
    if len(x) != len(y):
        raise bad_value(where, "x and y must be equally many", f"{len(x)} and {len(y)}", "pair them")
    if y.dtype == torch.uint8 and y.dim() == 2 and int(y.max()) > 1:
        todo = "pass integers [N] for classes, or floats for numbers"
        raise bad_value(where, "labels [N, K] must be 0 and 1", int(y.max()), todo)
    if y.dtype != torch.bool and not y.is_floating_point() and int(y.min()) < 0:
        raise bad_value(where, "labels must be >= 0", int(y.min()), "number the classes from 0")


def _fits(where: str, name: str, values: Tensor) -> None:
    """Raise where finite numbers would become inf in float32, in which networks compute."""
    if values.dtype != torch.float64:
        return
    wide = values[values.isfinite() & values.float().isinf()].abs()
    if len(wide):
        must = f"{name} must fit into float32, numbers up to 3.4e38"
        raise bad_value(where, must, f"{len(wide)} beyond, up to {float(wide.max()):.3g}", "scale them down")


def _floats(x: Tensor) -> Tensor:
    """Samples as float32; uint8 ones divided by 255."""
    return (x.float() / 255 if x.dtype == torch.uint8 else x.float()).contiguous()


def _targets(y: Tensor) -> Tensor:
    """Classes as int64, sets of labels as bool, or targets as float32 ``[N, K]``."""
    if not y.is_floating_point():
        return y.long() if y.dim() == 1 else y.bool()
    return (y.unsqueeze(1) if y.dim() == 1 else y).float().contiguous()


ARRAYS = DATASETS.register("npz")(Entry(load_arrays, 0.1, options=("time", "top"), place="FILE"))

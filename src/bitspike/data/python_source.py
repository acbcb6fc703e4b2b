"""Samples that a function of the user's own makes: "python:package.module:function"."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from bitspike.checks import bad_type, bad_value, one_of
from bitspike.data.arrays import PARTS, check_time_options, native, splits_of
from bitspike.data.dataset import Splits
from bitspike.data.entry import DATASETS, Entry
from bitspike.data.sequence_arrays import pad

F = TypeVar("F", bound=Callable[..., Any])

_MARK = "bitspike_source"
_KEYS = ("classes", "time", "top", *(f"{kind}_{part}" for part in PARTS for kind in ("x", "y", "lengths")))


def source(function: F) -> F:
    """Mark a function as a source of samples, so that a recipe may call it as "python:package.module:function".

    Without the mark a recipe cannot call it: a recipe that somebody else wrote names nothing but sources.

    The function gets ``root`` (``data.root`` of the recipe, or None) and returns a mapping:

    - "x_train", "y_train" and, where there are such parts, "x_validation", "y_validation", "x_test", "y_test": arrays
      or tensors as `bitspike.data.load_arrays` takes them. They are kept in their order; a part that is not there is
      carved from the training part.
    - "lengths_train" and so on, integers ``[N]``: the steps after which sequences end; or x is a list of arrays
      ``[T, ...]`` that differ in T.
    - "time": whether the second axis of x is time (default False). "top": of sequences, the value that maps to 1.0.
    - "classes": names, in the order of the labels, or of the values of a target (default: numbers).

    It is called once for every process of a run, and for every command on it; the digest of what it returns is a part
    of a run's identity, so it must return the same at every call.

    >>> @source
    ... def ramps(root=None):
    ...     x = np.arange(40, dtype=np.float32).reshape(20, 2, 1)
    ...     return {"x_train": x, "y_train": np.arange(20) % 2, "time": True, "classes": ("even", "odd")}
    >>> read_source("demo", ramps, None).train
    SequenceSet('demo/train': 14 sequences of 2 steps 1, 2 classes)
    """
    setattr(function, _MARK, True)
    return function


def load_python(
    root: str | os.PathLike[str] | None, validation: int | float = 0.1, seed: int = 0, *, place: str
) -> Splits:
    """Import a module, call a function in it that is marked as a `source`, and take what it returns.

    Args:
        root: handed to the function. validation, seed: of the parts that are carved, as in `load_arrays`.
        place: "package.module:function".

    Raises:
        ValueError: no such module or function, one without the mark, or what `read_source` refuses. TypeError: it
            returns no mapping.
    """
    where = f"python:{place}"
    module, colon, name = place.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise bad_value(where, "it must be python:package.module:function", repr(place), "write both names")
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise  # the module is there, and something that it imports is not
        todo = "check the name; PYTHONPATH must hold its folder"
        raise bad_value(where, f"the module {module!r} must be importable", str(error), todo) from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found) or getattr(found, _MARK, False) is not True:
        got = "no function of that name" if not callable(found) else "one without the mark"
        must = f"{module} must hold a function {name!r} that is marked as a source of samples"
        raise bad_value(where, must, got, "write @bitspike.data.source above it")
    return read_source(where, found, root, validation, seed)


def read_source(
    where: str,
    function: Callable[..., Any],
    root: str | os.PathLike[str] | None,
    validation: int | float = 0.1,
    seed: int = 0,
) -> Splits:
    """Call a source and check what it returns; see `source`.

    Raises:
        TypeError: no mapping, or a value of another kind. ValueError: an unknown or lacking key, or arrays that
            `load_arrays` would refuse: shapes, kinds, labels beyond the classes, NaN, sequences in two parts.
    """
    try:
        inspect.signature(function).bind(root=root)
    except TypeError as error:
        must = "a source must be callable with root alone"
        raise bad_type(where, must, str(error), "write def function(root=None)") from error
    given = function(root=None if root is None else os.fspath(root))
    if not isinstance(given, Mapping):
        raise bad_type(where, "a source must return a mapping", type(given).__name__, "see bitspike.data.source")
    for key in given:
        one_of(where, "a key of what a source returns", key, _KEYS)
    time, top, classes = given.get("time", False), given.get("top"), given.get("classes")
    if not isinstance(time, bool):
        raise bad_type(where, "'time' must be True or False", repr(time), "say whether the second axis of x is time")
    if top is not None and (isinstance(top, bool) or not isinstance(top, int)):
        raise bad_type(where, "'top' must be an integer", repr(top), "leave it out, or pass e.g. 255")
    if classes is not None and (isinstance(classes, str) or not all(isinstance(name, str) for name in classes)):
        raise bad_type(where, "'classes' must be names", repr(classes), "pass a tuple of strings")
    check_time_options(where, time, top)
    pairs, lengths = {}, {}
    for part in PARTS:
        keys = f"x_{part}", f"y_{part}"
        held = [key for key in keys if key in given]
        if held or part == "train":
            if len(held) < len(keys):
                must = f"a source must return both {keys[0]!r} and {keys[1]!r}"
                raise bad_value(where, must, ", ".join(map(str, given)) or "nothing", "return samples and targets")
            x, ends = given[keys[0]], f"lengths_{part}"
            if isinstance(x, (list, tuple)) and time:
                if ends in given:
                    must = f"{ends!r} must be left out where {keys[0]!r} is a list"
                    raise bad_value(where, must, "both", "leave it out")
                x, lengths[part] = pad([_tensor(where, f"{keys[0]}[{k}]", row) for k, row in enumerate(x)])
            elif ends in given:
                lengths[part] = _tensor(where, ends, given[ends])
            pairs[part] = _tensor(where, keys[0], x), _tensor(where, keys[1], given[keys[1]])
        elif f"lengths_{part}" in given:
            must = f"'lengths_{part}' must be left out where there is no {keys[0]!r}"
            raise bad_value(where, must, "it alone", "return samples and targets, too")
    if lengths and not time:
        raise bad_value(where, "lengths must be left out where samples have no time axis", "some", "set time too")
    names = None if classes is None else tuple(classes)
    name = where.removeprefix("python:").rpartition(":")[2]
    return splits_of(where, name, pairs, validation, seed, time=time, top=top, classes=names, lengths=lengths)


def _tensor(where: str, name: str, value: object) -> Tensor:
    """An array or tensor, as a tensor on the CPU."""
    if isinstance(value, Tensor):
        return value.detach().cpu()
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "biuf":
        got = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        must = f"{name!r} must be an array of numbers or a tensor"
        raise bad_type(where, must, got, "convert it, e.g. with numpy.asarray")
    return torch.from_numpy(native(value))


PYTHON = DATASETS.register("python")(Entry(load_python, 0.1, place="MODULE:FUNCTION", joined=False))

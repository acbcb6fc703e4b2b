"""HDF5 files, with errors in the house form."""

from __future__ import annotations

import os
from typing import Any

from bitspike.checks import bad_value


def open_hdf5(where: str, h5py: Any, path: str | os.PathLike[str]) -> Any:
    """A file of h5py, opened to read; `ValueError` in the house form."""
    try:
        return h5py.File(os.fspath(path), "r")
    except FileNotFoundError as error:
        raise bad_value(where, "the file must exist", "no such file", "check the path") from error
    except OSError as error:
        raise bad_value(where, "the file must be sound HDF5", error, "copy it again from its source") from error


def member(where: str, file: Any, name: str) -> Any:
    """A data set of a file."""
    if name not in file or not hasattr(file[name], "shape"):
        held = ", ".join(list(file)[:10]) or "nothing"
        raise bad_value(where, f"the file must hold {name!r}", held, "pass the right file")
    return file[name]

"""Packages that only some data needs: imported where they are used, and said to be missing where they are asked for."""

from __future__ import annotations

import importlib
from types import ModuleType

from bitspike.checks import message


def need(where: str, module: str, package: str, extra: str) -> ModuleType:
    """Import an optional module.

    Args:
        where: what needs it, for the message.
        module: its import name.
        package: the name its users know.
        extra: the extra of bitspike that installs it.

    Returns:
        The module.

    Raises:
        ImportError: it is not installed.

    >>> need("demo", "no_such_module", "Such", "such")
    Traceback (most recent call last):
        ...
    ImportError: demo: Such must be installed, got No module named 'no_such_module'; run `pip install bitspike[such]`.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        text = message(where, f"{package} must be installed", error, f"run `pip install bitspike[{extra}]`")
        raise ImportError(text) from error

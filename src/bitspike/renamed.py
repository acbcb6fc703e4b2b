"""Names of the last release, which warn and lead to the new ones: modules by an import hook, functions, attributes.

Remove an entry one release after it came; `tests/test_renamed.py` tries every one.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_UPGRADE = "build check inplace layers mapping over_time report roles sites trace translate"
_ANN2SNN = "build calibrate rectifier refit report thresholds tune"

MODULES: dict[str, tuple[str, ...]] = {
    "convert": ("fold", "upgrade", "ann2snn"),
    "convert.ann2snn": ("ann2snn.conversion",),
    **{f"convert.ann2snn_{name}": (f"ann2snn.{name}",) for name in _ANN2SNN.split()},
    "convert.expand": ("fold.expand",),
    "convert.fold": ("fold.folding",),
    "convert.fold_factors": ("fold.factors",),
    "convert.fold_norm": ("fold.norms",),
    "convert.surgery": ("graph.surgery",),
    "convert.traced": ("graph.traced",),
    "convert.upgrade": ("upgrade.upgrading",),
    **{f"convert.upgrade_{name}": (f"upgrade.{name}",) for name in _UPGRADE.split()},
    "convert.verify": ("fold.verify",),
    "data.parts": ("data.named_splits",),
    "layers.codec": ("layers.encoders", "layers.encoders.noise", "layers.readout"),
    "models.parts": ("models.components", "models.residual_block"),
    "neurons.parts": ("neurons.membrane", "neurons.emission"),
    "heap": ("process_memory",),
    "testing.bench": ("testing.expectations",),
    "training.allocation": ("allocation.config",),
    "training.averages": ("allocation.averages",),
    "training.boards": ("training.tensorboard_log",),
    "training.budget": ("allocation.budget",),
    "training.controller": ("allocation.controller",),
    "training.files": ("files",),
    "training.forecast": ("allocation.forecast",),
    "training.harm": ("allocation.sensitivity",),
    "training.pressure": ("allocation.lagrangian",),
    "training.repair": ("allocation.repair",),
    "training.schema": ("schema",),
    "training.verdict": ("allocation.check",),
    "training.widths": ("allocation.widths",),
}
"""Module as it was called → the modules that hold its names now, all below ``bitspike``."""

_ROOT = __name__.rpartition(".")[0]


class OldNames(MetaPathFinder, Loader):
    """Finds the modules of `MODULES` under their old names."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec for an old name, else None."""
        root, _, name = fullname.partition(".")
        return ModuleSpec(fullname, self, is_package=name == "convert") if root == _ROOT and name in MODULES else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """An ordinary module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and look names up in the new modules."""
        homes = [f"{_ROOT}.{name}" for name in MODULES[module.__name__.partition(".")[2]]]
        _warn(module.__name__, ", ".join(homes), 2)

        def lookup(name: str) -> object:
            for home in map(importlib.import_module, homes):
                if not name.startswith("__") and hasattr(home, name):
                    return getattr(home, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}; look into {', '.join(homes)}")

        module.__getattr__ = lookup  # type: ignore[method-assign]


def renamed(module: str, names: dict[str, str], name: str) -> object:
    """For a module's ``__getattr__``: what stands elsewhere now, with a warning.

    Args:
        module: full name of the old home. name: what is asked for.
        names: name → full name of the new home, with ":name" behind it where the name has changed.

    Raises:
        AttributeError: a name that is not among them.
    """
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    home = names[name]
    home, _, own = home.partition(":")
    _warn(f"{module}.{name}", f"{home}.{own or name}", 3)
    return getattr(importlib.import_module(home), own or name)


def _warn(old: str, new: str, level: int) -> None:
    text = f"{old} is now {new}; the old name goes with the next release"
    warnings.warn(text, DeprecationWarning, stacklevel=level + 1)


def old_argument(where: str, old: str, new: str) -> None:
    """Warn that an argument has another name; called from the (sealed, so wrapped) constructor that takes it."""
    _warn(f"{where}({old}=...)", f"{new}=...", 4)


def old_method(old: str, new: str) -> Callable[..., Any]:
    """A method under its old name, which calls the new one."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        _warn(f"{type(self).__name__}.{old}", new, 2)
        return getattr(self, new)(*args, **kwargs)

    method.__name__ = old
    return method


def old_attribute(old: str, new: str) -> property:
    """An attribute under its old name, which reads and writes the new one."""

    def read(self: Any) -> Any:
        _warn(f"{type(self).__name__}.{old}", new, 2)
        return getattr(self, new)

    def write(self: Any, value: Any) -> None:
        _warn(f"{type(self).__name__}.{old}", new, 2)
        setattr(self, new, value)

    return property(read, write)


def adopt_old_hooks(cls: type, hooks: Mapping[str, str]) -> None:
    """Let what a subclass defines under an old name count as the new hook, which would else be ignored in silence.

    Args:
        cls: a class that is just being made. hooks: old name → new name.
    """
    for old, new in hooks.items():
        if old in cls.__dict__:
            _warn(f"{cls.__name__}.{old}", new, 3)
            setattr(cls, new, cls.__dict__[old])
            delattr(cls, old)


if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
    sys.meta_path.append(OldNames())

"""Old names of modules, importable for one release: an import hook that warns and looks their names up where they are.

Remove an entry one release after it came; `tests/test_renamed.py` imports every one.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

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
        text = f"{module.__name__} is now {', '.join(homes)}; the old name goes with the next release"
        warnings.warn(text, DeprecationWarning, stacklevel=2)

        def lookup(name: str) -> object:
            for home in map(importlib.import_module, homes):
                if not name.startswith("__") and hasattr(home, name):
                    return getattr(home, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}; look into {', '.join(homes)}")

        module.__getattr__ = lookup  # type: ignore[method-assign]


def renamed(module: str, names: dict[str, str], name: str) -> object:
    """For a module's ``__getattr__``: what stands elsewhere now, with a warning.

    Args:
        module: full name of the old home. names: name → full name of the new home. name: what is asked for.

    Raises:
        AttributeError: a name that is not among them.
    """
    if name not in names:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    home = names[name]
    text = f"{module}.{name} is now {home}.{name}; the old name goes with the next release"
    warnings.warn(text, DeprecationWarning, stacklevel=3)
    return getattr(importlib.import_module(home), name)


if not any(isinstance(finder, OldNames) for finder in sys.meta_path):
    sys.meta_path.append(OldNames())

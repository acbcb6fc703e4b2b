"""The one dispatch point: (operation, device) → kernels in order of preference, the reference last.

An automatic choice may fall back, and `explain` says why. A choice made with `using` never falls back: it raises
with the reason. While a model is exported or traced (`is_exported`) the reference is always taken, and inside
forward-mode differentiation, of which registered operators would lose the tangents without a word. The table is public
(`table()`), so that tests and benchmarks loop over it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.autograd import forward_ad

from bitspike.checks import bad_type, bad_value, one_of

REFERENCE = "reference"


@dataclass(frozen=True)
class Kernel:
    """One implementation of an operation.

    Args:
        operation: e.g. "scan".
        name: e.g. "reference"; unique per operation.
        device: device type it runs on, or "any".
        function: the callable.
        refuses: facts → None if it can run and differentiate them, else the reason.
        half: whether it takes half-precision currents with float32 membranes.
        on_request: another device type, on which it runs only where `using` demands it (an interpreter); "" for none.
    """

    operation: str
    name: str
    device: str
    function: Callable[..., Any]
    refuses: Callable[[object], str | None]
    half: bool = False
    on_request: str = ""

    def home(self) -> str:
        """A device type for tests of this kernel."""
        return self.on_request or ("cpu" if self.device == "any" else self.device)


_KERNELS: dict[str, dict[str, Kernel]] = {}
_OVERRIDE: dict[str, str] = {}


def _runs_everything(_: object) -> None:
    return None


def register(
    operation: str,
    name: str,
    function: Callable[..., Any],
    device: str = "any",
    refuses: Callable[[object], str | None] = _runs_everything,
    half: bool = False,
    on_request: str = "",
) -> None:
    """Add a kernel; those registered later are preferred, the reference last.

    At import only.

    Raises:
        ValueError: the name is taken.
    """
    known = _KERNELS.get(operation, {})
    if name in known:
        raise bad_value("dispatch", f"a kernel of {operation!r} is registered once", repr(name), "choose another name")
    kernel = Kernel(operation, name, device, function, refuses, half, on_request)
    _KERNELS[operation] = {name: kernel, **known} if name == REFERENCE else {**known, name: kernel}


def choose(operation: str, device: str, facts: object = None) -> Kernel:
    """The kernel that runs ``operation`` on ``device`` for these facts.

    Raises:
        ValueError: the operation is unknown, or a kernel demanded with `using` is for another device or refuses the
            facts.
    """
    known = _kernels(operation)
    if is_exported():
        return known[REFERENCE]
    wanted = _OVERRIDE.get(operation)
    if wanted is not None:
        reason = _objection(known[wanted], device, facts, demanded=True)
        if reason:
            raise bad_value(f"dispatch {operation}", f"kernel {wanted!r} must run here", reason, "use 'reference'")
        return known[wanted]
    for kernel in reversed(known.values()):
        if _objection(kernel, device, facts) is None:
            return kernel
    raise bad_value(f"dispatch {operation}", "a kernel must exist", device, "register a reference")


def explain(operation: str, device: str, facts: object = None) -> str:
    """Which kernel would run and why the preferred ones would not, a line each.

    Args:
        operation: e.g. "scan". device: its type, e.g. "cpu" (of a tensor: ``x.device.type``).
        facts: what kernels decide on, for "scan" a `ScanFacts`; without them some say that they lack them.

    Raises:
        TypeError: the device is no text. ValueError: as `choose`.

    >>> import bitspike.ops.scan
    >>> explain("scan", "cpu").splitlines()[-1]
    'reference: taken'
    """
    if not isinstance(device, str):
        must = "the device must be the name of its type"
        raise bad_type("explain", must, type(device).__name__, 'e.g. "cpu", or x.device.type')
    taken = choose(operation, device, facts)
    lines = []
    for kernel in reversed(_kernels(operation).values()):
        if kernel is taken:
            lines.append(f"{kernel.name}: taken")
            break
        lines.append(f"{kernel.name}: {_objection(kernel, device, facts) or 'overridden'}")
    return "\n".join(lines)


@contextmanager
def using(name: str, operation: str = "scan") -> Iterator[None]:
    """Within the block, ``operation`` runs this kernel or raises; "all" are those that have a kernel of this name.

    >>> import bitspike.ops.scan
    >>> with using("reference"):
    ...     choose("scan", "cpu").name
    'reference'
    """
    if operation == "all":
        chosen = [each for each, known in _KERNELS.items() if name in known]
        known_names = {kernel.name: None for kernel in table()}
    else:
        chosen, known_names = [operation], dict.fromkeys(_kernels(operation))
    one_of(f"using({operation})", "the kernel", name, tuple(known_names))
    before = dict(_OVERRIDE)
    _OVERRIDE.update(dict.fromkeys(chosen, name))
    try:
        yield
    finally:
        for each in chosen:
            _OVERRIDE.pop(each)
            if each in before:
                _OVERRIDE[each] = before[each]


def table() -> list[Kernel]:
    """Every registered kernel."""
    return [kernel for known in _KERNELS.values() for kernel in known.values()]


def is_exported() -> bool:
    """Whether what runs is written down for use elsewhere, so that operators of ours must not be in it.

    True within `torch.export`, `torch._dynamo.export`, `torch.jit.trace` and with it the older ONNX exporter, and
    ``make_fx``; not within `torch.compile`, which runs here.
    """
    if torch.compiler.is_exporting() or torch.compiler.is_compiling():
        return torch.compiler.is_exporting()
    proxies = sys.modules.get("torch.fx.experimental.proxy_tensor")  # slow to import, and in use only if it is there
    return torch.jit.is_tracing() or (proxies is not None and proxies.get_proxy_mode() is not None)


def _kernels(operation: str) -> dict[str, Kernel]:
    if operation not in _KERNELS:
        one_of("dispatch", "the operation", operation, tuple(_KERNELS))
    return _KERNELS[operation]


def _objection(kernel: Kernel, device: str, facts: object, demanded: bool = False) -> str | None:
    if kernel.device not in ("any", device) and not (demanded and kernel.on_request == device):
        return f"it runs on {kernel.device}, the tensor is on {device}"
    if kernel.name != REFERENCE and forward_ad._current_level >= 0:
        return "it has no forward-mode derivative"
    return kernel.refuses(facts)

"""What a user has to meet: names and units of budgets, read strictly."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from bitspike.checks import bad_type, bad_value, one_of, suggestion

COUNTS = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9}
"""Units of counts."""

SIZES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
"""Units of sizes; a plain number is one of bytes."""

TIMES = {"us": 1e-3, "ms": 1.0, "s": 1e3}
"""Units of times; a plain number is one of milliseconds."""

BUDGETS: dict[str, Mapping[str, float]] = {
    "bit-budget": COUNTS,
    "s-ace": COUNTS,
    "ns-ace": COUNTS,
    "size": {"": 1, **SIZES},
    "activations": {"": 1, **SIZES},
    "latency": {"": 1, **TIMES},
}
"""Name of a budget → its units. ``size`` is `Cost.size_bytes`, ``activations`` the peak of `activations`, in bytes;
``latency`` what the program takes for one sample, in ms."""

MOVES = ("ns-ace", "latency")
"""What fine-tuning moves, through spikes: it is measured again, and a repair leaves a margin."""

_FORM = re.compile(r"(\d+(?:\.\d+)?(?:[eE][+-]?\d+)?) ?([A-Za-z]*)")


def parse_limit(where: str, name: str, given: object) -> float:
    """A limit from a number, or from a text of a number and a unit; whole numbers come back as int.

    Raises:
        ValueError: an unknown name or unit, or a limit that is not positive. TypeError: neither number nor text.

    >>> parse_limit("budget", "s-ace", "2.5M"), parse_limit("budget", "size", "2KiB"), parse_limit("budget", "size", 9)
    (2500000, 2048, 9)
    >>> parse_limit("budget", "size", "300k")
    Traceback (most recent call last):
        ...
    ValueError: budget: the unit of size must be one of 'B', 'kB', 'MB', 'GB', 'KiB', 'MiB', 'GiB', got 'k'; did you \
mean 'kB'?
    """
    units = BUDGETS[one_of(where, "the budget", name, BUDGETS)]
    listed = [unit for unit in units if unit]
    if isinstance(given, str):
        read = _FORM.fullmatch(given.strip())
        if read is None:
            todo = f"write for example {name}=50{listed[-1]}"
            raise bad_value(where, f"the limit of {name} must be a number and a unit", repr(given), todo)
        if read[2] not in units:
            must = f"the unit of {name} must be one of {', '.join(map(repr, listed))}"
            raise bad_value(where, must, repr(read[2]), suggestion(read[2], listed))
        value = float(f"{float(read[1]) * units[read[2]]:.15g}")  # 2.01 kB are 2010 B, not a little less
    elif isinstance(given, (int, float)) and not isinstance(given, bool):
        value = float(given)
    else:
        raise bad_type(where, f"the limit of {name} must be a number or a text", type(given).__name__, "e.g. '50M'")
    if not 0 < value < float("inf"):
        raise bad_value(where, f"the limit of {name} must be positive and finite", given, "raise it")
    return int(value) if value.is_integer() else value


def parse_limits(where: str, given: Mapping[str, object]) -> dict[str, float]:
    """The limits of a table, by name in the order of `BUDGETS`.

    >>> parse_limits("budget", {"size": "1kB", "s-ace": "5M"})
    {'s-ace': 5000000, 'size': 1000}
    """
    read = {name: parse_limit(where, name, value) for name, value in given.items()}
    return {name: read[name] for name in BUDGETS if name in read}


def budget_sets(texts: Iterable[str], where: str = "--budget") -> tuple[str, ...]:
    """``name=limit`` texts of a command line as ``key=value`` texts over a recipe.

    >>> budget_sets(["s-ace=50M"])
    ('allocation.budget.s-ace=50000000',)
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise bad_value(where, "it must read name=limit", repr(text), "write for example s-ace=50M")
        if name in found:
            raise bad_value(where, "every budget must be given once", name, "remove one of them")
        found[name] = parse_limit(where, name, value)
    return tuple(f"allocation.budget.{name}={value}" for name, value in found.items())


def shown(name: str, value: float) -> str:
    """A figure for people.

    >>> shown("s-ace", 48211968), shown("size", 271104), shown("bit-budget", 12.3456), shown("latency", 0.04)
    ('48,211,968', '271,104 B', '12.346', '0.0400 ms')
    """
    if name == "latency":
        return f"{value:.3g} ms" if value >= 1000 else f"{value:#.3g} ms"
    number = f"{value:,.0f}" if float(value).is_integer() or value >= 1000 else f"{value:.3f}"
    return number + (" B" if "B" in BUDGETS[name] else "")

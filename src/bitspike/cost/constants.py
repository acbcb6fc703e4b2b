"""Energy constants: what one operation takes, with source, node and unit, read from TOML."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from bitspike.checks import bad_value, suggestion

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OPERATIONS = ("add", "shift", "multiply", "mac", "compare", "divide", "sram", "dram")
"""What a set may give an energy for; sram and dram are per bit moved."""
_UNITS = {"fJ": 1e-3, "pJ": 1.0, "nJ": 1e3}
_KEYS = {"value", "unit", "node_nm", "source", "confirmed"}


@dataclass(frozen=True)
class Constant:
    """Energy of one operation.

    Attributes:
        value, unit: as printed; the unit is fJ, pJ or nJ, for memory "/ N bit".
        node_nm: process in nm, None if unknown. source: where it is from.
        confirmed: whether the figure and its use were seen in print. note: remarks.
    """

    value: float
    unit: str
    node_nm: int | None
    source: str
    confirmed: bool
    note: str = ""

    @property
    def pj(self) -> float:
        """pJ per operation or bit.

        >>> Constant(100.0, "pJ / 64 bit", 45, "a table", True).pj
        1.5625
        """
        unit, bits = _unit(self.unit)
        return self.value * unit / bits


@dataclass(frozen=True)
class Constants:
    """A named set. Attributes: name, title, and operation → `Constant`."""

    name: str
    title: str
    values: Mapping[str, Constant]

    def charge(self, counts: Mapping[str, float]) -> float:
        """``Σ_op count_op · e_op`` in pJ, over the operations that the set has a constant for.

        >>> counts = {"mac": 3.54e6, "add": 71.20e6, "compare": 0.11e6}  # printed for the binary network
        >>> round(energy_constants("ternary_paper").charge(counts) / 1e6, 2)  # µJ
        50.14
        """
        return sum(count * self.values[name].pj for name, count in counts.items() if name in self.values)

    def not_charged(self, counts: Mapping[str, float]) -> dict[str, float]:
        """The counts for which the set has no constant."""
        return {name: count for name, count in counts.items() if count and name not in self.values}

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"name": self.name, "title": self.title, "values": {k: asdict(v) for k, v in self.values.items()}}


def builtin_constants() -> dict[str, Constants]:
    """The sets that come with the package, by name."""
    text = (resources.files("bitspike") / "cost" / "energy.toml").read_text(encoding="utf-8")
    return _read(text, "energy.toml")


def energy_constants(name: str | Path) -> Constants:
    """A set that comes with the package, or the only set of a TOML file of the same form.

    Args:
        name: "float32_45nm", "int8_45nm", "ternary_paper", or the path of a file.

    Raises:
        ValueError: no such set or file, or a file that is not of that form.

    >>> energy_constants("float32_45nm").values["mac"].pj
    4.6
    """
    if Path(name).is_file():
        found = _read(Path(name).read_text(encoding="utf-8"), str(name))
        if len(found) != 1:
            raise bad_value(str(name), "a file of constants must hold one set", len(found), "split it")
        return next(iter(found.values()))
    known = builtin_constants()
    if str(name) not in known:
        must = f"it must be a file or one of {', '.join(known)}"
        raise bad_value("energy constants", must, repr(str(name)), suggestion(str(name), known))
    return known[str(name)]


def _read(text: str, where: str) -> dict[str, Constants]:
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise bad_value(where, "it must be TOML", error, "see energy.toml of the package") from error
    return {name: _set(where, name, table) for name, table in tables.items()}


def _set(where: str, name: str, table: Any) -> Constants:
    if not isinstance(table, dict) or not isinstance(table.get("title"), str):
        raise bad_value(where, f"[{name}] must be a table with a title", table, "see energy.toml of the package")
    entries = {key: value for key, value in table.items() if key != "title"}
    return Constants(
        name, table["title"], {op: _constant(f"{where} [{name}.{op}]", op, e) for op, e in entries.items()}
    )


def _constant(where: str, operation: str, entry: Any) -> Constant:
    if operation not in OPERATIONS:
        must = f"the operation must be one of {', '.join(OPERATIONS)}"
        raise bad_value(where, must, operation, suggestion(operation, OPERATIONS))
    if not isinstance(entry, dict) or not _KEYS <= set(entry) <= _KEYS | {"note"}:
        raise bad_value(where, f"it must hold {', '.join(sorted(_KEYS))} and at most a note", entry, "add what lacks")
    node = entry["node_nm"]
    if node != "unknown" and (not isinstance(node, int) or node <= 0):
        raise bad_value(where, 'node_nm must be a whole number of nm or "unknown"', repr(node), "state the process")
    value = entry["value"]
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < float("inf"):
        raise bad_value(where, "the value must be a finite number >= 0", repr(value), "check it")
    if not isinstance(entry["source"], str) or not entry["source"].strip():
        raise bad_value(where, "the source must be named", repr(entry["source"]), "say where the figure is from")
    if not isinstance(entry["confirmed"], bool):
        raise bad_value(where, "confirmed must be true or false", repr(entry["confirmed"]), "say whether it was seen")
    per_bit = " / " in _checked_unit(where, entry["unit"])
    if per_bit != (operation in ("sram", "dram")):
        raise bad_value(where, "memory is given per bit, the rest per operation", entry["unit"], 'e.g. "pJ / 64 bit"')
    return Constant(float(value), entry["unit"], None if node == "unknown" else node, *_rest(entry))


def _rest(entry: dict[str, Any]) -> tuple[str, bool, str]:
    return entry["source"], entry["confirmed"], str(entry.get("note", ""))


def _checked_unit(where: str, unit: Any) -> str:
    if not isinstance(unit, str) or not re.fullmatch(r"[fpn]J( / [1-9]\d* bit)?", unit):
        raise bad_value(where, 'the unit must be fJ, pJ or nJ, or one of them "/ N bit"', repr(unit), "convert it")
    return unit


def _unit(unit: str) -> tuple[float, int]:
    """(pJ, bits)."""
    energy, _, bits = unit.partition(" / ")
    return _UNITS[energy], int(bits.removesuffix(" bit")) if bits else 1

"""Energy: counts times constants, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from bitspike.cost.constants import Constants
from bitspike.cost.record import SCOPES, Cost, LayerCost


@dataclass(frozen=True)
class LayerEnergy:
    """Energy of one row, per sample. Attributes: name, kind, role of the row; operations_pj, memory_pj."""

    name: str
    kind: str
    role: str
    operations_pj: float
    memory_pj: float

    @property
    def energy_pj(self) -> float:
        """Operations and memory."""
        return self.operations_pj + self.memory_pj


@dataclass(frozen=True)
class Energy:
    """Energy of a network, per sample.

    Attributes:
        constants: name of the set. rows: one per row of the `Cost`, in order.
        not_charged: operation → count for which the set has no constant.
    """

    constants: str
    rows: list[LayerEnergy] = field(default_factory=list)
    not_charged: dict[str, float] = field(default_factory=dict)

    def total_pj(self, without: Iterable[str] = ()) -> float:
        """Energy in pJ, leaving out synapses of the given roles."""
        return self.operations_pj(without) + self.memory_pj(without)

    def operations_pj(self, without: Iterable[str] = ()) -> float:
        """The share of the operations."""
        left_out = set(without)
        return sum(row.operations_pj for row in self.rows if row.role not in left_out)

    def memory_pj(self, without: Iterable[str] = ()) -> float:
        """The share of the memory."""
        left_out = set(without)
        return sum(row.memory_pj for row in self.rows if row.role not in left_out)

    def as_dict(self) -> dict[str, Any]:
        """Totals with and without first, last and down-sampling layers, and the rows."""
        return {
            "constants": self.constants,
            **{name: _split(self.operations_pj(roles), self.memory_pj(roles)) for name, roles in SCOPES.items()},
            "not_charged": dict(self.not_charged),
            "rows": [{**asdict(row), "energy_pj": row.energy_pj} for row in self.rows],
        }


def operation_counts(row: LayerCost) -> dict[str, float]:
    """What a row is charged for, in the words of the constants.

        add = adds + shift_adds + side_adds        shift = shift_adds + shifts        compare = comparisons
        mac = multiplications of a synapse         multiply = all other multiplications
        divide = divisions, each with the root in front of it
        sram, dram = bits moved on chip, off chip

    >>> row = LayerCost("a", "synapse", "hidden", 1, shift_adds=3.0, multiplications=2.0, weight_bytes=1.0)
    >>> {name: count for name, count in operation_counts(row).items() if count}
    {'add': 3.0, 'shift': 3.0, 'mac': 2.0, 'sram': 8.0}
    """
    synapse = row.kind == "synapse"
    return {
        "add": row.adds + row.shift_adds + row.side_adds,
        "shift": row.shift_adds + row.shifts,
        "mac": row.multiplications if synapse else 0.0,
        "multiply": row.side_multiplications + (0.0 if synapse else row.multiplications),
        "compare": row.comparisons,
        "divide": row.divisions,
        "sram": 8 * (row.moved_bytes - row.dram_bytes),
        "dram": 8 * row.dram_bytes,
    }


def energy(counted: Cost, constants: Constants) -> Energy:
    """``E = Σ_rows Σ_op count · e_op``, linear in every constant and every count.

    Source: ours; the sum of counts times constants is the practice of the field. Static power, control, routing and
    clocks are not in it.

    Args:
        counted: from `cost`. constants: a set of `energy_constants`.

    Returns:
        `Energy` per sample.
    """
    rows, missing = [], dict[str, float]()
    for row in counted.rows:
        counts = operation_counts(row)
        memory = {name: counts.pop(name) for name in ("sram", "dram")}
        operations_pj, memory_pj = constants.charge(counts), constants.charge(memory)
        rows.append(LayerEnergy(row.name, row.kind, row.role, operations_pj, memory_pj))
        for name, count in constants.not_charged(counts | memory).items():
            missing[name] = missing.get(name, 0.0) + count
    return Energy(constants.name, rows, missing)


def _split(operations_pj: float, memory_pj: float) -> dict[str, float]:
    return {"operations_pj": operations_pj, "memory_pj": memory_pj, "energy_pj": operations_pj + memory_pj}

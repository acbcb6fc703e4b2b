"""The density of spikes at which the spiking network costs as much energy as the quantized ANN beside it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from bitspike.cost.ann import at_density, quantized_ann
from bitspike.cost.constants import Constants
from bitspike.cost.energy import Energy, energy
from bitspike.cost.record import Cost, LayerCost


@dataclass(frozen=True)
class BreakEven:
    """One comparison, of a layer or of the network.

    Attributes:
        name: of the layer, or "network", or "network, operations only".
        density: share of non-zero spikes now, over all synapses behind spikes, weighted by multiply-accumulates.
        snn_pj, ann_pj: energies now. silent_pj: of the SNN without any spike.
        break_even: density at which both are equal; None where energy does not depend on it. Above 1: the SNN
            takes less at any density; below 0: it takes more even without spikes.
    """

    name: str
    density: float
    snn_pj: float
    ann_pj: float
    silent_pj: float
    break_even: float | None

    @property
    def verdict(self) -> str:
        """In words.

        >>> BreakEven("a", 0.2, 3.0, 4.0, 1.0, 0.3).verdict, BreakEven("b", 0.2, 3.0, 4.0, 1.0, 1.3).verdict
        ('wins below 30.0 %', 'wins at any density')
        """
        if self.break_even is None:
            return "wins at any density" if self.snn_pj < self.ann_pj else "wins at no density"
        if self.break_even > 1:
            return "wins at any density"
        return f"wins below {100 * self.break_even:.1f} %" if self.break_even > 0 else "wins at no density"

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "verdict": self.verdict}


@dataclass(frozen=True)
class Comparison:
    """SNN and ANN under one set of constants.

    Attributes:
        snn, ann: their energies. network: the comparison. operations: the same without memory.
        layers: each synapse behind spikes, with the bytes that it moves.
    """

    snn: Energy
    ann: Energy
    network: BreakEven
    operations: BreakEven
    layers: list[BreakEven]

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "snn": self.snn.as_dict(),
            "ann": self.ann.as_dict(),
            "network": self.network.as_dict(),
            "operations": self.operations.as_dict(),
            "layers": [layer.as_dict() for layer in self.layers],
        }


def compare_with_ann(counted: Cost, constants: Constants, ann: Cost | None = None) -> Comparison:
    """Energies of both networks and the density at which the SNN stops winning.

    Energy is linear in the density ρ (all rates move together, `at_density`):

        E(ρ) = E_silent + ρ/ρ_now · (E_now − E_silent)        ρ* = ρ_now · (E_ANN − E_silent) / (E_now − E_silent)

    Source: ours.

    Args:
        counted: the spiking network. constants: a set of `energy_constants`; what it lacks is charged to neither.
        ann: the other side, default `quantized_ann`.
    """
    other = quantized_ann(counted) if ann is None else ann
    now, silent, beside = (energy(c, constants) for c in (counted, at_density(counted, 0.0), other))
    spiking = [row for row in counted.synapses if row.spiking]
    ann_pj = {row.name: row.energy_pj for row in beside.rows if row.kind == "synapse"}
    both = zip(now.rows, silent.rows, strict=True)
    pairs = {a.name: (a.energy_pj, b.energy_pj) for a, b in both if a.kind == "synapse"}
    layers = [_solve(row.name, [row], *pairs[row.name], ann_pj[row.name]) for row in spiking]
    network = _solve("network", spiking, now.total_pj(), silent.total_pj(), beside.total_pj())
    worked = (now.operations_pj(), silent.operations_pj(), beside.operations_pj())
    return Comparison(now, beside, network, _solve("network, operations only", spiking, *worked), layers)


def _solve(name: str, rows: list[LayerCost], now: float, silent: float, ann: float) -> BreakEven:
    density = sum(row.events for row in rows) / max(sum(row.macs * row.T for row in rows), 1)
    slope = now - silent
    return BreakEven(name, density, now, ann, silent, density * (ann - silent) / slope if slope > 0 else None)

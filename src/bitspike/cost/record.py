"""What is counted of one layer and of a network: plain records with the formulas that need nothing but them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from bitspike.cost.memory import Memory

APART = ("first", "last", "downsample")
"""Roles that papers leave out of their totals."""

SCOPES: dict[str, tuple[str, ...]] = {"all": (), "without_first": ("first",), "hidden_only": APART}
"""Name of a total → roles of synapses left out of it."""

QUANTITIES = (
    *("macs", "events", "adds", "shift_adds", "shifts", "multiplications", "divisions"),
    *("side_adds", "side_multiplications", "comparisons", "updates"),
    *("parameters", "weights", "size_bits", "ace", "s_ace", "ns_ace", "sops", "payload_bits"),
    *("weight_bytes", "spike_bytes", "membrane_bytes", "moved_bytes", "dram_bytes"),
)
"""What can be summed over layers; see `LayerCost`."""


@dataclass
class LayerCost:
    """Cost of one node of the graph, per sample, all time steps together.

    Attributes:
        name: graph node. kind: "synapse", "affine", "gain", "norm", "amplitude", "attention", "product"; among the
            elements "neuron", "add", "pool", "squeeze", "windows", "readout" or "rectifier". role: of a synapse.
        T: time steps. input_bits, weight_bits: bits of an incoming value (of a neuron: of what it sends; the widest
            where steps differ) and of a weight (32 where real).
        rate: share of non-zero incoming values. set_bits: mean set bits of an incoming integer (0 where real).
        macs: multiply-accumulates of one step if nothing were silent.
        adds, shift_adds, multiplications: operations of all steps in synapses, affine maps, norms, gains, amplitudes.
        divisions: by what came in, each behind a square root (norms that measure their input).
        parameters: weights and biases. size_bits: as packed, scales and biases as 32-bit numbers.
        parts: where a concatenation brings alphabets of other widths together: (inputs, bits at each step) of each.
        part_rates: share of non-zero spikes of each part; where there are none, all have the rate of the row.
        path: name of the module. inputs, outputs: values of one step. weights: without biases.
        step_bits: bits of an incoming value at each step. sum_bits: bits of the sum of all steps of one incoming
            spike (32 where real). spiking: the input is made of spikes. weight_adds: weights are ±1 or ternary.
        weight_shifts: weights are 0 or ± powers of two.
        train_steps: steps of the spikes that a synapse reads in T passes, as their sum or mean; 0 where they are T.
        spike_rate: share of non-zero spikes of that train; None where ``rate`` is it.
        fixed_adds: share of ``adds`` that does not depend on spikes (biases).
        shifts: shifts without an addition. updates: neuron-steps.
        side_adds, side_multiplications, comparisons: operations of neurons, residual sums and pools.
        payload_bits: bits of the non-zero incoming spikes.
        weight_bytes, spike_bytes, membrane_bytes: moved, see `Memory`. dram_bytes: how many of them are off chip.
    """

    name: str
    kind: str
    role: str
    T: int
    input_bits: int = 32
    weight_bits: int = 32
    rate: float = 1.0
    set_bits: float = 0.0
    macs: int = 0
    adds: float = 0.0
    shift_adds: float = 0.0
    multiplications: float = 0.0
    parameters: int = 0
    size_bits: int = 0
    path: str = ""
    inputs: int = 0
    outputs: int = 0
    weights: int = 0
    step_bits: tuple[int, ...] = ()
    parts: tuple[tuple[int, tuple[int, ...]], ...] = ()
    part_rates: tuple[float, ...] = ()
    sum_bits: int = 32
    spiking: bool = False
    weight_adds: bool = False
    weight_shifts: bool = False
    train_steps: int = 0
    spike_rate: float | None = None
    fixed_adds: float = 0.0
    divisions: float = 0.0
    shifts: float = 0.0
    updates: int = 0
    side_adds: float = 0.0
    side_multiplications: float = 0.0
    comparisons: float = 0.0
    payload_bits: float = 0.0
    weight_bytes: float = 0.0
    spike_bytes: float = 0.0
    membrane_bytes: float = 0.0
    dram_bytes: float = 0.0

    @property
    def steps(self) -> int:
        """Time steps of the spikes, which a sum or mean over time may have made fewer passes."""
        return self.train_steps or self.T

    @property
    def trains(self) -> tuple[tuple[int, tuple[int, ...]], ...]:
        """(inputs, bits at each step) of every part of the input; one where all are alike."""
        return self.parts or ((self.inputs, self.step_bits or (self.input_bits,) * self.T),)

    @property
    def time_bits(self) -> float:
        """``Σ_t b_s^t``: bits of one input over all steps; the mean over inputs where they differ."""
        if self.parts:
            return sum(inputs * sum(bits) for inputs, bits in self.parts) / self.inputs
        return sum(self.step_bits) if self.step_bits else self.T * self.input_bits

    @property
    def bit_budget(self) -> float:
        """``BB = Σ_t b_s^t · b_w``, which is ``T·b_w·b_s`` where all steps are alike; 0 but for synapses.

        Source: Shen et al. (CVPR 2024), through two public notes; over time: adaptive bit allocation (arXiv
        2506.23717), code.
        """
        return self.time_bits * self.weight_bits if self.kind == "synapse" else 0

    @property
    def s_ace(self) -> int:
        """``S-ACE = macs · Σ_t b_s^t · b_w``. Source: as `bit_budget`."""
        return round(self.macs * self.bit_budget)

    @property
    def ace(self) -> float:
        """``ACE = macs · b_s · b_w`` of one step (mean over steps). Source: PokeBNN (arXiv 2112.00133), not re-read."""
        return self.s_ace / max(self.steps, 1)

    @property
    def ns_ace(self) -> float:
        """``NS-ACE = S-ACE · rate`` of the spikes, part by part. Source: as `bit_budget`."""
        if self.part_rates:
            bits = [n * sum(b) * rate for (n, b), rate in zip(self.parts, self.part_rates, strict=True)]
            return self.macs * self.weight_bits * sum(bits) / self.inputs
        return self.s_ace * (self.rate if self.spike_rate is None else self.spike_rate)

    @property
    def sops(self) -> int:
        """``macs · min(Σ_t b_s^t, b_w)``: SOPs of adaptive bit allocation, code; for others they are `events`."""
        return round(self.macs * min(self.time_bits, self.weight_bits))

    @property
    def events(self) -> float:
        """``macs · T · rate``: pairs of a spike and a weight, the SOPs of most papers."""
        return self.macs * self.T * self.rate

    @property
    def moved_bytes(self) -> float:
        """Weights, spikes and membranes moved."""
        return self.weight_bytes + self.spike_bytes + self.membrane_bytes

    def as_dict(self) -> dict[str, Any]:
        """All fields and formulas."""
        formulas = ("bit_budget", "ace", "s_ace", "ns_ace", "sops", "events", "moved_bytes")
        return {**asdict(self), "step_bits": list(self.step_bits), **{key: getattr(self, key) for key in formulas}}


@dataclass
class Cost:
    """Layer costs and their totals.

    Attributes:
        samples: number of samples the rates were measured on. layers: what has weights or factors, one row each.
        elements: neurons, residual sums, pools, rectifiers, sums and means over time.
        uncounted: layers and functions that no rule covers. memory: the hierarchy that bytes were counted for.
    """

    samples: int
    layers: list[LayerCost] = field(default_factory=list)
    elements: list[LayerCost] = field(default_factory=list)
    uncounted: list[str] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)

    @property
    def rows(self) -> list[LayerCost]:
        """Layers, then elements."""
        return [*self.layers, *self.elements]

    @property
    def synapses(self) -> list[LayerCost]:
        """The rows of synapses."""
        return [row for row in self.layers if row.kind == "synapse"]

    def total(self, quantity: str, without: Iterable[str] = ()) -> float:
        """Sum of one quantity over the rows, leaving out synapses of the given roles."""
        left_out = set(without)
        return sum(float(getattr(row, quantity)) for row in self.rows if row.role not in left_out)

    @property
    def size_bytes(self) -> float:
        """Weights as packed, with their scales, biases and affine maps, in bytes."""
        return self.total("size_bits") / 8

    def as_dict(self) -> dict[str, Any]:
        """Totals with and without the first, last and down-sampling layers, and the rows."""
        kinds = ("adds", "shift_adds", "multiplications", "macs", "parameters")
        return {
            "samples": self.samples,
            "size_bytes": self.size_bytes,
            **{kind: self.total(kind) for kind in kinds},
            "hidden_only": {kind: self.total(kind, APART) for kind in kinds},
            "layers": [row.as_dict() for row in self.layers],
            "elements": [row.as_dict() for row in self.elements],
            "totals": {name: {q: self.total(q, roles) for q in QUANTITIES} for name, roles in SCOPES.items()},
            "uncounted": list(self.uncounted),
            "memory": asdict(self.memory),
        }

"""What lowering did: bits, exponents, proofs of accumulators, what was rounded, what was clamped on data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class LayerReport:
    """One layer of the folded network.

    Attributes:
        name: node. kind: "synapse" or "neuron".
        weight_bits: stored bits of a weight; 0 without weights. weight_error: greatest root mean squared error of an
            output channel's weights, relative to their own; 0 where they were integers.
        spike_bits: bits of what comes in (synapse) or goes out (neuron).
        accumulator_bits: 16, 32 or 64; low, high: the range proved for every partial sum.
        fraction_bits: of the membrane, in units of its step (a threshold is a power of two).
        unit: value of that step in the folded network (the greatest, where channels differ).
        safe: whether no membrane can be clamped in a window, whatever the input; else they are counted.
        level: what a level of its spikes is worth in the folded network; 1 unless spikes are real.
        axes, order: where neurons lie in the program: the value's numbers as [axes], and which of these axes are the
            network's, outermost first; empty: as in the network.
        rounding: greatest relative error of thresholds, spacings, charges and start values; of the decay absolutely.
    """

    name: str
    kind: str
    weight_bits: int = 0
    weight_error: float = 0.0
    spike_bits: int = 0
    accumulator_bits: int = 0
    low: int = 0
    high: int = 0
    fraction_bits: int = 0
    unit: float = 0.0
    safe: bool = True
    level: float = 1.0
    rounding: float = 0.0
    axes: list[int] = field(default_factory=list)
    order: list[int] = field(default_factory=list)


@dataclass
class CompileReport:
    """What lowering did, also in ``program.spec.info["compile"]``, from where `of` reads it.

    Attributes:
        samples: calibration samples. input_error: greatest |x − its level's value| on them, within the range.
        layers: one record a synapse and neuron. rescales: operation → [greatest relative error of its factors, greatest
            absolute error of its biases in units of its output].
        clamped: operation → numbers clamped on the calibration data.
        agreement: share of calibration samples with the class (or set of labels) of the folded network; None for
            numbers, and where the program is fed with something else than they are, so that it was not run on them.
            max_logit_difference: on them. Of outputs with names the lowest, and the greatest.
        outputs: both for each of them, by name.
        notes: what a reader has to know, one sentence each.
    """

    samples: int = 0
    input_error: float = 0.0
    layers: list[LayerReport] = field(default_factory=list)
    rescales: dict[str, list[float]] = field(default_factory=dict)
    clamped: dict[str, int] = field(default_factory=dict)
    agreement: float | None = None
    max_logit_difference: float = 0.0
    notes: list[str] = field(default_factory=list)
    outputs: dict[str, dict[str, float | None]] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; without "outputs" where none has a name."""
        found = asdict(self)
        return found if self.outputs else {key: value for key, value in found.items() if key != "outputs"}

    @classmethod
    def of(cls, program: Any) -> CompileReport:
        """The report that a compiled (or loaded) program carries; an empty one where it has none."""
        found = program.spec.info.get("compile")
        if not isinstance(found, Mapping):
            return cls()
        given = dict(found)
        given["layers"] = [LayerReport(**layer) for layer in given.get("layers", ())]
        return cls(**given)

    def table(self) -> list[list[str]]:
        """Rows for `bitspike.report.as_text`, titles first."""
        rows = [["layer", "weights", "spikes", "sums", "range", "membrane", "may clamp", "rounding"]]
        for layer in self.layers:
            synapse = layer.kind == "synapse"
            rows.append(
                [
                    layer.name,
                    f"{layer.weight_bits} bit" if synapse else "",
                    f"{layer.spike_bits} bit",
                    f"{layer.accumulator_bits} bit" if synapse else "",
                    f"{layer.low}..{layer.high}" if synapse else "",
                    "" if synapse else f"{layer.unit:.4g}·2^-{layer.fraction_bits}",
                    "" if layer.safe else "yes",
                    f"{layer.weight_error if synapse else layer.rounding:.2g}",
                ]
            )
        return rows

    def __str__(self) -> str:
        ran = (
            ""
            if self.agreement is None
            else (
                f": agreement {self.agreement:.2%}, max logit difference {self.max_logit_difference:.3g}, "
                f"{sum(self.clamped.values())} numbers clamped"
            )
        )
        shares = [(name, each["agreement"]) for name, each in self.outputs.items()]
        ran += "".join(f"; {name} {share:.2%}" for name, share in shares if share is not None)
        notes = "".join(f"; {note}" for note in self.notes)
        return f"compile: {len(self.layers)} layers, calibrated on {self.samples} samples{ran}{notes}"

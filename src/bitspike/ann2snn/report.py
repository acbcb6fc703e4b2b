"""What a conversion did and how close the spiking network is, layer by layer, on the calibration data."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from bitspike.formats import SpikeFormat


@dataclass
class LayerConversion:
    """One neuron.

    Attributes:
        path: the user's name. activation: what it replaces. error: root of Σ(mean spike − activation)² / Σ activation².
        rate: share of neuron-steps with a spike. saturation: share at the highest level (0 for binary spikes).
        ceiling_least, ceiling_greatest: value of the highest level, over the channels.
        slope: greatest |slope − 1| of the correction. correction: root mean square of its shift, in units of the ANN.
        multiplies: gains in front of it, where spikes are added to a current (a multiplication a spike each).
        weights: |ΔW|/|W| of the layer in front of it; 0 where its weights are not fitted.
    """

    path: str
    activation: str
    error: float
    rate: float
    saturation: float
    ceiling_least: float
    ceiling_greatest: float
    slope: float
    correction: float
    multiplies: int
    weights: float = 0.0


@dataclass
class ConversionReport:
    """A conversion on its calibration data.

    Attributes:
        samples, T: of the calibration. format: of the spikes. threshold, sharing, initial, correction: options.
        layers: node → `LayerConversion`.
        logit_error: root of Σ(SNN − ANN)² / Σ ANN² over the logits. agreement: share of samples with the same class
            (1 where there are no classes); of several outputs both are over all of them.
        first_step: the first step whose logits count. tuning: logit error on judging samples before and after fine-
            tuning, (0, 0) without; thresholds changed only if it fell.
        analog: the user's name of an operation that stays as it is, with analog values → what it is; `cost` leaves them
            uncounted by name. outside: a softmax at the end of the model, which the network leaves to its caller.
        time_s: seconds that calibration took.
    """

    samples: int
    T: int
    format: str
    threshold: str
    sharing: str
    initial: float
    correction: str
    layers: dict[str, LayerConversion] = field(default_factory=dict)
    logit_error: float = 0.0
    agreement: float | None = 1.0
    first_step: int = 0
    tuning: tuple[float, float] = (0.0, 0.0)
    analog: dict[str, str] = field(default_factory=dict)
    outside: str = ""
    time_s: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Plain values for a JSON file."""
        return asdict(self)

    def table(self) -> list[list[str]]:
        """Rows for a person, the heading first."""
        head = ["layer", "was", "error", "rate", "saturated", "highest level", "slope ±", "shift", "weights ±", "gains"]
        rows = [
            [
                layer.path,
                layer.activation,
                f"{layer.error:.4f}",
                f"{layer.rate:.3f}",
                f"{layer.saturation:.4f}",
                f"{layer.ceiling_least:.3g} to {layer.ceiling_greatest:.3g}",
                f"{layer.slope:.2g}",
                f"{layer.correction:.2g}",
                f"{layer.weights:.2g}",
                str(layer.multiplies),
            ]
            for layer in self.layers.values()
        ]
        return [head, *rows]

    def __str__(self) -> str:
        worst = max(self.layers.values(), key=lambda layer: layer.error)
        analog = (
            f"; analog: {', '.join(f'{name} ({what})' for name, what in self.analog.items())}" if self.analog else ""
        )
        outside = f"; left outside: {self.outside}" if self.outside else ""
        agreement = "" if self.agreement is None else f"agreement {self.agreement:.2%}, "
        return (
            f"ann2snn: {len(self.layers)} neurons {self.format}, T = {self.T}, {self.threshold} per {self.sharing}; on "
            f"{self.samples} samples: logit error {self.logit_error:.3g}, {agreement}worst layer "
            f"{worst.path} (error {worst.error:.3g}){analog}{outside}"
        )


def relative(got: Tensor, wanted: Tensor) -> float:
    """Root of Σ(got − wanted)² / Σ wanted² (Σ wanted² at least the smallest normal number)."""
    size = wanted.double().square().sum().clamp_min(torch.finfo(torch.float32).tiny)
    return float(((got.double() - wanted.double()).square().sum() / size).sqrt())


def shares(levels: Tensor, record: SpikeFormat) -> tuple[float, float]:
    """(share of non-zero levels, share at the highest level of a graded format)."""
    rate = float((levels != 0).double().mean())
    return rate, 0.0 if record.adds else float((levels == record.high).double().mean())

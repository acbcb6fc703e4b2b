"""The membrane potential of another layer's neurons, as a signal of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from bitspike.checks import bad_value, time_first
from bitspike.layers.base import TimeLayer
from bitspike.neurons import Neuron
from bitspike.neurons.membrane import Membrane
from bitspike.ops.spec import GRADED, REAL, TERNARY, ScanSpec


class Potential(TimeLayer):
    """Gives the membrane of a neuron before it fired, e.g. as the signal of an attention.

    Membrane before firing, from what charged a neuron and what it sent.

        u_t = decay·v_{t−1} + I_t        k_t = s_t/(value of one level)        v_t: u_t reset by k_t

    It fires nothing itself, so it is the potential behind these very spikes, forced ones included. On hardware the
    number is there already: it costs nothing. Gradients reach I, and s where the neuron does not detach its reset.

    Source: ours; equations of the neuron.

    Args:
        neuron: whose potential; its numbers are copied, so none of them may be learned.

    Raises:
        ValueError: real spikes, a learned decay, amplitude or step size.

    >>> from bitspike.neurons import LIF
    >>> neuron, x = LIF(decay=0.5, reset="soft"), torch.tensor([0.75, 1.0, 0.0]).reshape(3, 1, 1)
    >>> Potential(neuron)(x, neuron(x)).flatten().tolist()
    [0.75, 1.375, 0.1875]
    """

    stateful = True

    def __init__(self, neuron: Neuron) -> None:
        super().__init__()
        spec, old = followed(neuron), neuron.membrane
        if isinstance(spec, str):
            raise bad_value("Potential", "the neuron must emit levels and learn none of its numbers", spec, "fix them")
        self.membrane: Membrane = Membrane(old.fixed_decay, False, old.reset_kind, old.detach_reset, old.initial)
        self.charge: float = spec.numbers[2]
        self.level: float = spec.numbers[4]
        self.of: str = type(neuron).__name__
        self.graded: bool = spec.codes[0] == GRADED
        self.signed: bool = spec.codes[0] == TERNARY

    def forward(self, x: Tensor, s: Tensor) -> Tensor:
        """Currents and spikes [T, B, ...] → potentials [T, B, ...], from a fresh state."""
        time_first("Potential", x)
        time_first("Potential (spikes)", s)
        return self.stream_step(x, s, None)[0]

    def stream_step(self, x: Tensor, s: Tensor, state: Tensor | None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        """One chunk [t, B, ...] of both, and the membrane after the last reset."""
        v = torch.full_like(x[0], self.membrane.initial) if state is None else state
        seen = []
        for current, sent in zip(x.unbind(0), s.unbind(0), strict=True):
            u = self.membrane.charge(v, current)
            k = sent / self.level
            k = k + (k.round() - k).detach()
            v = self.membrane.reset(u, k, self.charge, graded=self.graded, signed=self.signed)
            seen.append(u)
        return torch.stack(seen), v

    def extra_repr(self) -> str:
        return f"of={self.of}"


def followed(neuron: Neuron) -> ScanSpec | str:
    """The numbers of a neuron that `Potential` can follow, or why it cannot."""
    spec, name = neuron.fused(), type(neuron).__name__
    if isinstance(spec, str):
        return spec
    if not isinstance(spec, ScanSpec):
        return f"{name}, whose step sizes are learned"
    if spec.codes[0] == REAL:
        return f"{name} with real spikes"
    if spec.decay is not None or spec.amplitude is not None:
        return f"{name} with a learned {'decay' if spec.amplitude is None else 'amplitude'}"
    return spec

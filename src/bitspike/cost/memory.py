"""The memory hierarchy that bytes are counted for."""

from __future__ import annotations

from dataclasses import dataclass

from bitspike.checks import integer, one_of


@dataclass(frozen=True)
class Memory:
    """The memory model of energy figures: what is fetched from where, and how often.

    Registers (free) – one on-chip buffer – DRAM; every operand is fetched once per pass and kept in registers.

    So the bytes are the least that must move; a design with less reuse moves more. Differs: measured designs fetch a
    weight once per event or per tile.

    - Weights (as packed, with scales and biases): one pass per sample in order "layer", one per time step in order
      "step". On chip if those of the whole network fit into the buffer together, else from DRAM.
    - Spikes (dense, at their stored bits; real values at 32): a neuron writes its train once, every synapse reads its
      input once, a residual sum reads one operand. On chip if the train (all steps; one step in order "step") fits.
    - Membranes: one read and one write between any two steps, none at T = 1. On chip if those of the layer fit.

    Args:
        buffer_bytes: size of the buffer, default 1 MiB. membrane_bits: stored bits of a membrane, default 32.
        order: "layer": all steps of a layer before the next layer; "step": all layers before the next step.
    """

    buffer_bytes: int = 2**20
    membrane_bits: int = 32
    order: str = "layer"

    def __post_init__(self) -> None:
        integer("Memory", "buffer_bytes", self.buffer_bytes, 0, 2**50)
        integer("Memory", "membrane_bits", self.membrane_bits, 1, 64)
        one_of("Memory", "order", self.order, ("layer", "step"))

    def passes(self, steps: int) -> int:
        """How often the weights of a layer of that many steps are fetched.

        >>> Memory().passes(4), Memory(order="step").passes(4)
        (1, 4)
        """
        return 1 if self.order == "layer" else steps

    def membrane_bytes(self, neurons: int, steps: int) -> float:
        """``2·(T − 1)·neurons·membrane_bits/8``.

        >>> Memory().membrane_bytes(10, 4), Memory().membrane_bytes(10, 1)
        (240.0, 0.0)
        """
        return 2 * (steps - 1) * neurons * self.membrane_bits / 8

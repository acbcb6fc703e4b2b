"""sinabs: `LIF` over [B, T, ...], its own order of axes, without its trainable time constant."""

from __future__ import annotations

import math

import torch
from sinabs.activation import MembraneReset, MembraneSubtract, SingleSpike
from sinabs.layers import LIF
from torch import Tensor

from workers.protocol import Prepared, Spec, serve
from workers.scan import scan_case


def build(spec: Spec) -> Prepared:
    """A neuron, alone or behind a linear map. Its time constant gets no gradient, as nobody else's does."""
    layer = LIF(
        tau_mem=-1 / math.log(spec["decay"]),
        spike_threshold=torch.tensor(spec["threshold"]),
        spike_fn=SingleSpike,
        reset_fn=MembraneReset() if spec["reset"] == "hard" else MembraneSubtract(),
        norm_input=False,
    ).requires_grad_(False)

    def forward(x: Tensor) -> Tensor:
        layer.reset_states()
        return layer(x)

    how = "hard reset, detached" if spec["reset"] == "hard" else "soft reset, not detached"
    computes = (
        f"LIF: threshold={spec['threshold']:g}, decay={spec['decay']:g}, {how}, surrogate SingleExponential "
        "(its default), one spike a step, input [B, T, ...]; eager"
    )
    return scan_case(spec, forward, computes, arrange=lambda x: x.transpose(0, 1))


if __name__ == "__main__":
    serve(("sinabs",), build)

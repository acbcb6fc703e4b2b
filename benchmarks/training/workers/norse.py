"""Norse: `LIFBoxCell` (bitspike's dynamics) stepped over time, or `LIF` (with a synaptic current) over a sequence."""

from __future__ import annotations

import norse.torch as norse
import torch
from torch import Tensor

from workers.protocol import Prepared, Spec, serve
from workers.scan import scan_case

DT = 1e-3


def build(spec: Spec) -> Prepared:
    """A neuron, alone or behind a linear map. Norse divides the input by its time constant, so it gets more of it."""
    leak = torch.as_tensor((1 - spec["decay"]) / DT)
    threshold = torch.as_tensor(spec["threshold"])
    gain = 1 / (1 - spec["decay"])
    if spec["model"] == "box":
        cell = norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=leak, v_th=threshold), dt=DT)

        def forward(x: Tensor) -> Tensor:
            state, spikes = None, []
            for step in x.unbind(0):
                fired, state = cell(step, state)
                spikes.append(fired)
            return torch.stack(spikes)

        kind = "LIFBoxCell, a Python loop over time"
    else:
        # tau_syn = dt: the synaptic current of a step is gone in the next one
        parameters = norse.LIFParameters(
            tau_mem_inv=leak, tau_syn_inv=torch.as_tensor(1 / DT), v_th=threshold, v_leak=torch.as_tensor(0.0)
        )
        layer = norse.LIF(parameters, dt=DT)

        def forward(x: Tensor) -> Tensor:
            return layer(x)[0]

        kind = "LIF with a synaptic current that lasts one step, over the sequence"
    computes = (
        f"{kind}: threshold={spec['threshold']:g}, decay={spec['decay']:g}, hard reset not detached, surrogate "
        "SuperSpike (its default), eager"
    )
    return scan_case({**spec, "gain": gain}, forward, computes)


if __name__ == "__main__":
    serve(("norse",), build)

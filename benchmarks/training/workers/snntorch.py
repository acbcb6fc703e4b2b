"""snnTorch: `Leaky`, stepped over time."""

from __future__ import annotations

from functools import partial

import snntorch
import torch
from torch import Tensor, nn

from workers.protocol import Prepared, Spec, serve
from workers.resnet import HeResNet20, merged_conv, merged_linear, merged_norm, seeded
from workers.scan import scan_case
from workers.training import step_case


class Loop(nn.Module):
    """A `Leaky` over [T, B, ...], from a discharged membrane."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        reset = "zero" if spec["reset"] == "hard" else "subtract"
        self.leaky = snntorch.Leaky(beta=spec["decay"], threshold=spec["threshold"], reset_mechanism=reset)

    def forward(self, x: Tensor) -> Tensor:
        """Currents → spikes."""
        membrane = torch.zeros_like(x[0])
        spikes = []
        for step in x.unbind(0):
            fired, membrane = self.leaky(step, membrane)
            spikes.append(fired)
        return torch.stack(spikes)


def said(spec: Spec) -> str:
    """What the neuron computes, in words."""
    return (
        f"Leaky: threshold={spec['threshold']:g}, beta={spec['decay']:g}, {spec['reset']} reset with its delay of one "
        "step (detached), surrogate atan (its default); a Python loop over time, eager"
    )


def build(spec: Spec) -> Prepared:
    """A case of any kind."""
    if spec["kind"] != "network":
        return scan_case(spec, Loop(spec), said(spec))
    net = seeded(
        lambda: HeResNet20(spec["T"], spec["width"], merged_conv, merged_norm, partial(Loop, spec), merged_linear)
    )
    return step_case(spec, net, (Loop,), said(spec))


if __name__ == "__main__":
    serve(("snntorch",), build)

"""SpikingJelly: multi-step nodes, eager (its torch reference on a CPU) or under torch.compile."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import Any

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

from workers.protocol import Prepared, Spec, serve
from workers.resnet import HeResNet20, seeded
from workers.scan import scan_case
from workers.training import step_case

SURROGATES = {
    "atan": partial(surrogate.ATan, 2.0),
    "rectangle": partial(surrogate.Rect, 1.0),
    "triangle": partial(surrogate.PiecewiseQuadratic, 1.0),
    "sigmoid": partial(surrogate.Sigmoid, 4.0),
}
KINDS = (neuron.LIFNode, neuron.TernaryLIFNode, neuron.ILIFNode)
NODES = {"lif": neuron.LIFNode, "ternary": neuron.TernaryLIFNode}


def node(spec: Spec) -> nn.Module:
    """The node of a spec: decay 1 − 1/tau; the input is divided by tau only with decay_input."""
    tau = 1 / (1 - spec["decay"])
    if spec["node"] == "integer":
        counts = surrogate.MultiLevelSpikeCount(spec["D"])
        return neuron.ILIFNode(tau, spec["threshold"], counts, spec["detach_reset"], "m")
    return NODES[spec["node"]](
        tau,
        spec.get("decay_input", False),
        spec["threshold"],
        0.0 if spec["reset"] == "hard" else None,
        SURROGATES[spec["surrogate"]](),
        spec["detach_reset"],
        "m",
    )


def said(spec: Spec) -> str:
    """What a node computes, in words."""
    kind = {"lif": "LIFNode", "ternary": "TernaryLIFNode", "integer": f"ILIFNode, D={spec.get('D')}"}[spec["node"]]
    given = {"integer": "window"}.get(spec["node"], spec.get("surrogate"))
    how = "under torch.compile" if spec.get("compile") else "eager"
    reset = f"{spec.get('reset', 'soft')} reset, detach_reset={spec['detach_reset']}"
    charge = f"threshold={spec['threshold']:g}, decay={spec['decay']:g}, decay_input={spec.get('decay_input', False)}"
    return f"{kind}: {charge}, {reset}, surrogate {given}; multi-step, {how}"


def build(spec: Spec) -> Prepared:
    """A case of any kind."""
    if spec["kind"] == "network":
        return network_case(spec)
    own = node(spec)
    forward: Any = torch.compile(own) if spec.get("compile") else own

    def run(x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(own)
        return forward(x)

    gain = 1 / (1 - spec["decay"]) if spec.get("decay_input") else 1.0
    return scan_case({**spec, "gain": gain}, run, said(spec))


def conv(inputs: int, outputs: int, stride: int) -> nn.Module:
    """SpikingJelly's multi-step convolution."""
    return layer.Conv2d(inputs, outputs, 3, stride, 1, bias=False, step_mode="m")


def network_case(spec: Spec) -> Prepared:
    """One training step of ResNet-20 or Spikformer out of SpikingJelly's multi-step layers."""
    if spec.get("network") == "spikformer":
        from workers.spikingjelly_former import Former  # its package needs h5py

        given = spec["options_of_network"]
        net = seeded(
            lambda: Former(spec["T"], spec["width"], given["depth"], given["heads"], lambda **_kind: node(spec))
        )
        return step_case(spec, net, KINDS, said(spec), reset=partial(functional.reset_net, net))
    net = seeded(
        lambda: HeResNet20(
            spec["T"],
            spec["width"],
            conv,
            partial(layer.BatchNorm2d, step_mode="m"),
            partial(node, spec),
            partial(layer.Linear, step_mode="m"),
        )
    )
    return step_case(spec, net, KINDS, said(spec), reset=partial(functional.reset_net, net))


if __name__ == "__main__":
    logging.getLogger("torch._library.triton").setLevel(logging.ERROR)  # silences 'no Triton' at every call
    from loguru import logger

    logger.remove()
    logger.add(sys.stderr, level="WARNING")
    serve(("spikingjelly",), build)

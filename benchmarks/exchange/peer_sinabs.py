"""Sinabs' side: reads a file of NIR and runs it, or makes one; called by ``nir_readers.py`` in Sinabs' environment.

    python peer_sinabs.py read FILE.nir INPUT.npy OUT.npz [plain]
    python peer_sinabs.py make FOLDER

Its reader takes every spiking node for one with a soft reset and several spikes a step, and τ for a number of steps.
`mapped` sets what NIR means; with "plain" nothing is set.
"""

from __future__ import annotations

import sys

import nir
import numpy as np
import sinabs.layers as sl
import torch
from peer import case_inputs, layers_of, record, seeded, write_case
from sinabs.activation import MembraneReset, SingleSpike
from sinabs.nir import from_nir, to_nir


def mapped(net: torch.nn.Module, graph: nir.NIRGraph, dt: float) -> None:
    """Give its layers the reset, the threshold and the decay that the nodes of NIR have."""
    for name, layer in layers_of(net, sl.IAFSqueeze, sl.LIFSqueeze).items():
        node = graph.nodes[name.split(".")[-1]]
        layer.spike_fn, layer.reset_fn, layer.min_v_mem = SingleSpike, MembraneReset(), None
        # it fires at >=, NIR at >: the next float above is the same
        above = np.nextafter(node.v_threshold, np.float32(np.inf))
        layer.spike_threshold.data = torch.as_tensor(above)
        if isinstance(node, nir.LIF):
            decay = 1 - np.float32(dt) / node.tau
            layer.train_alphas = True  # the factor itself, not exp(-1/tau)
            layer.alpha_mem, layer.alpha_syn = torch.nn.Parameter(torch.as_tensor(decay)), None


def read(path: str, inputs: str, out: str, how: str = "mapped") -> None:
    """All samples at once; time and batch are one axis of its layers."""
    graph = nir.read(path)
    x = torch.from_numpy(np.load(inputs))
    batch = x.shape[1]
    if how == "mapped":
        for node in graph.nodes.values():
            if isinstance(node, nir.LIF):
                node.v_leak = node.v_leak.reshape(-1)  # it looks at one axis
    net = from_nir(graph, batch_size=batch)
    if how == "mapped":
        mapped(net, graph, float(np.asarray(graph.metadata.get("dt", 1e-4))))
    layers = layers_of(net, sl.IAFSqueeze, sl.LIFSqueeze)
    for layer in layers.values():
        layer.reset_states()
    record(net, x, lambda: None, lambda step, state: net(step), layers, out, batched=True)


def make(folder: str) -> None:
    """Networks of its own, each as a file, with inputs and the spikes of every step."""

    def iaf(n: int) -> sl.IAFSqueeze:
        return sl.IAFSqueeze(batch_size=16)

    def lif(n: int) -> sl.LIFSqueeze:
        tau, threshold = torch.full((n,), 2.0), torch.full((n,), 1.0)
        return sl.LIFSqueeze(tau_mem=tau, spike_threshold=threshold, batch_size=16, norm_input=False)

    for name, cell in {"iaf": iaf, "lif": lif, "conv": iaf}.items():
        seeded()
        if name == "conv":
            first = [torch.nn.Conv2d(1, 4, 3, padding=1), cell(4), sl.SumPool2d(2), torch.nn.Flatten()]
            net, x = torch.nn.Sequential(*first, torch.nn.Linear(64, 10), cell(10)), case_inputs(1, 8, 8)
        else:
            net = torch.nn.Sequential(torch.nn.Linear(64, 32), cell(32), torch.nn.Linear(32, 10), cell(10))
            x = case_inputs(64)
        x = x * 4
        steps = []
        with torch.no_grad():
            for step in x:
                steps.append(net(step).numpy())
        graph = to_nir(net, x[0])
        graph.infer_types()  # a Flatten without a shape cannot be written
        write_case(folder, f"sinabs_{name}", graph, x, np.stack(steps))


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"read": read, "make": make}[sys.argv[1]](*sys.argv[2:])

"""Norse's side: reads a file of NIR and runs it, or makes one; called by ``nir_readers.py`` in Norse's environment.

python peer_norse.py read FILE.nir INPUT.npy OUT.npz
python peer_norse.py make FOLDER
"""

from __future__ import annotations

import sys

import nir
import norse.torch as norse
import numpy as np
import torch
from norse.torch.module.iaf import IAFCell
from norse.torch.module.lif_box import LIFBoxCell
from peer import case_inputs, layers_of, record, seeded, write_case

DT = 2.0**-10


def read(path: str, inputs: str, out: str) -> None:
    """Samples one by one, without a batch axis, since its Flatten counts axes as NIR does."""
    net = norse.from_nir(nir.read(path), dt=DT)
    x = torch.from_numpy(np.load(inputs))
    record(net, x, lambda: None, lambda step, state: net(step, state), layers_of(net, IAFCell, LIFBoxCell), out)


def make(folder: str) -> None:
    """Networks of its own, each as a file, with inputs and the spikes of every step."""

    def lif(n: int) -> LIFBoxCell:
        tau = torch.full((n,), 1 / 0.002)
        return LIFBoxCell(norse.LIFBoxParameters(tau, v_th=torch.full((n,), 0.25), v_leak=torch.zeros(n)))

    def leaking(n: int) -> LIFBoxCell:
        tau = torch.full((n,), 1 / 0.01)
        return LIFBoxCell(norse.LIFBoxParameters(tau, v_th=torch.full((n,), 0.125), v_leak=torch.full((n,), 0.0625)))

    def iaf(n: int) -> IAFCell:
        return IAFCell(norse.IAFParameters(v_th=torch.full((n,), 0.5)))

    for name, cell in {"lif": lif, "leaking": leaking, "iaf": iaf}.items():
        seeded()
        net = norse.SequentialState(torch.nn.Linear(64, 32), cell(32), torch.nn.Linear(32, 10), cell(10))
        x = case_inputs(64)
        graph = norse.to_nir(net, x[0, 0], dt=0.001)
        state, steps = None, []
        with torch.no_grad():
            for step in x:
                value, state = net(step, state)
                steps.append(value.numpy())
        write_case(folder, f"norse_{name}", graph, x, np.stack(steps))


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"read": read, "make": make}[sys.argv[1]](*sys.argv[2:])

"""snnTorch's side: reads a file of NIR and runs it, or makes one; ``nir_readers.py`` calls it in its environment.

python peer_snntorch.py read FILE.nir INPUT.npy OUT.npz
python peer_snntorch.py make FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import nir
import numpy as np
import snntorch as snn
import torch
from peer import case_inputs, layers_of, record, seeded, write_case
from snntorch.export_nir import export_to_nir
from snntorch.import_nir import import_from_nir


def read(path: str, inputs: str, out: str) -> None:
    """Samples one by one, without a batch axis, since its Flatten counts axes as NIR does."""
    graph = nir.read(path)
    net = import_from_nir(graph)
    x = torch.from_numpy(np.load(inputs))  # [T, B, ...]

    def fresh() -> None:
        for module in net.modules():
            if isinstance(module, snn.Leaky):
                module.reset_mem()

    record(net, x, fresh, lambda step, state: net(step, state), layers_of(net, snn.Leaky), out)


def leaky(shape: tuple[int, ...], beta: float, reset: str = "zero", delay: bool = False) -> snn.Leaky:
    """A layer of a threshold of 0.25."""
    options = {"reset_mechanism": reset, "reset_delay": delay, "init_hidden": True}
    return snn.Leaky(torch.full(shape, beta), torch.full(shape, 0.25), **options)


def make(folder: str) -> None:
    """Networks of its own, each as a file, with inputs and the spikes of every step; β must have the neurons' shape."""
    kinds = {"zero": ("zero", False), "zero_delayed": ("zero", True), "subtract": ("subtract", False)}
    for name, (reset, delay) in kinds.items():
        seeded()

        first = [torch.nn.Linear(64, 32), leaky((32,), 0.75, reset, delay)]
        _write(
            torch.nn.Sequential(*first, torch.nn.Linear(32, 10, bias=False), leaky((10,), 0.5, reset, delay)),
            folder, f"snntorch_{name}", case_inputs(64),
        )  # fmt: skip
    seeded()
    images = [torch.nn.Conv2d(1, 4, 3, padding=1), leaky((4, 8, 8), 0.5), torch.nn.AvgPool2d(2)]
    last = [torch.nn.Flatten(0), torch.nn.Linear(64, 10), leaky((10,), 0.9)]
    _write(torch.nn.Sequential(*images, *last), folder, "snntorch_conv", case_inputs(1, 8, 8))


def _write(net: torch.nn.Sequential, folder: str, name: str, x: torch.Tensor) -> None:
    """Samples one by one: what it exports has the shapes of one."""
    graph = export_to_nir(net, x[0, 0])
    found = []
    with torch.no_grad():
        for sample in x.unbind(1):
            for module in net:
                if isinstance(module, snn.Leaky):
                    module.reset_mem()
            found.append(torch.stack([net(step) for step in sample]).numpy())
    write_case(folder, name, graph, x, np.stack(found, 1))


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"read": read, "make": make}[sys.argv[1]](*sys.argv[2:])
    assert Path(sys.argv[-1]).exists()

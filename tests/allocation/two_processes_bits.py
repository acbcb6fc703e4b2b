"""Run under torchrun by test_widths.py: steps of training across flips, on a share of one batch each."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file

from bitspike.allocation.averages import Averages
from bitspike.allocation.config import AllocationConfig
from bitspike.allocation.widths import Allocation
from bitspike.layers import Refined
from bitspike.models import study_cnn
from bitspike.neurons import Adaptive
from bitspike.quantizers import LearnedBits
from bitspike.training.distributed import world
from bitspike.training.penalty import WithPenalty

CONFIG = AllocationConfig(
    weight_target=1.0, spike_target=1.0, steps_target=1.0, weight_pull=30.0, spike_pull=30.0, steps_pull=5.0
)


def main() -> None:
    """Write the state of the network after four steps, one file per number of processes."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    x, labels = torch.randn(8, 1, 8, 8, dtype=torch.float64), torch.arange(8)
    with world() as together:
        torch.manual_seed(0)
        neuron = Refined(Adaptive(4, sharing="channel"), T=2, learn_T=True)
        model = study_cnn(neuron, LearnedBits(4, scale="output"), T=1, shape=(1, 8, 8), width=4).double()
        allocation = Allocation(model, CONFIG)
        averages = Averages(allocation, torch.zeros(1, 1, 8, 8, dtype=torch.float64))
        network = together.wrap(WithPenalty(model, None, averages))
        optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        size = together.share(8)
        part = slice(together.rank * size, (together.rank + 1) * size)
        model.train()
        allocation.start(x[part])
        for _ in range(4):
            logits, penalty = network(x[part])
            optimiser.zero_grad(set_to_none=True)
            (torch.nn.functional.cross_entropy(logits, labels[part]) + penalty).backward()
            optimiser.step()
            allocation.settle(x[part], optimiser)
        if together.writes:
            state = {name: value.clone() for name, value in model.state_dict().items()}
            save_file(state, Path(sys.argv[1]) / f"{together.size}.safetensors")


if __name__ == "__main__":
    main()

"""Run under torchrun by test_distributed.py: gradients of a share of one batch, reduced over the processes."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file

from bitspike.models import study_cnn
from bitspike.neurons import MultiBit, Ternary
from bitspike.quantizers import Sign, Uniform
from bitspike.training.distributed import world

ARMS = {
    "joint": lambda: study_cnn(Ternary(train_amplitude="channel"), Uniform(3), width=4),
    "per_step": lambda: study_cnn(MultiBit(1, 1), Sign("input"), width=4, norm="per_step"),
    "threshold": lambda: study_cnn(Ternary(learn_decay=True), width=4, norm="threshold"),
}


def expect_no_threads() -> None:
    """The group's threads have ended: one that outlives the interpreter may abort the process."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in names if "gloo" in name], names


def main() -> None:
    """Write the gradients and running statistics of every arm, one file per number of processes."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    torch.manual_seed(1)
    x, labels = torch.randn(8, 1, 28, 28, dtype=torch.float64), torch.arange(8)
    found: dict[str, torch.Tensor] = {}
    with world() as together:
        for arm, build in ARMS.items():
            torch.manual_seed(0)
            model = build().double()
            network = together.wrap(model)
            size = together.share(8)
            part = slice(together.rank * size, (together.rank + 1) * size)
            torch.nn.functional.cross_entropy(network(x[part]), labels[part]).backward()
            found |= {f"{arm}.{name}.grad": p.grad for name, p in model.named_parameters() if p.grad is not None}
            found |= {f"{arm}.{name}": b.clone() for name, b in model.named_buffers()}
        if together.writes:
            save_file(found, Path(sys.argv[1]) / f"{together.size}.safetensors")
    expect_no_threads()


if __name__ == "__main__":
    main()

"""Parameters and operations of every builder beside what its paper or code states: one JSON, on the meta device.

Usage: python benchmarks/models/counts.py [--out FILE]

Then `python tools/readme_table.py docs/results.md` writes the table. Nothing is allocated or trained; a second or two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from bitspike.files import write_json_atomic
from bitspike.graph import Node, trace
from bitspike.layers import PairProduct, Synapse
from bitspike.models import MODELS
from bitspike.neurons import LIF, Neuron

GREY, CIFAR, IMAGENET = (1, 28, 28), (3, 32, 32), (3, 224, 224)
OUT = Path(__file__).parent / "results" / "counts.json"


@dataclass(frozen=True)
class Case:
    """One network.

    Args:
        builder: a name of `MODELS`. shape: of a sample. classes: K. options: of the builder. label: in its paper.
        published: its parameters in millions, as stated; None: not seen. source: where they are stated.
        left_out: parameters of the stated network that ours does not have, counted from its code.
    """

    builder: str
    shape: tuple[int, int, int]
    classes: int
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    published: float | None = None
    source: str = ""
    left_out: int = 0


def driven(width: int, depth: int) -> int:
    """Biases of four convs 1×1 with 6·width channels a block, and a map of 8 heads that is never called."""
    return depth * (6 * width + 64)


def staged(width: int, *depths: int) -> int:
    """The same biases in the blocks of three stages."""
    return sum(6 * depth * width * 2**stage // 4 for stage, depth in enumerate(depths))


HE, QK = "He et al., table 6", "QKFormer, README"
CASES = (
    Case("study_cnn", GREY, 10),
    Case("mlp", GREY, 10),
    Case("conv1d", (1, 40, 100), 10),
    Case("he_resnet20", CIFAR, 10, label="ResNet-20", published=0.27, source=HE),
    Case("he_resnet32", CIFAR, 10, label="ResNet-32", published=0.46, source=HE),
    Case("resnet20", CIFAR, 10, label="ResNet20 of Ternary Spike"),
    Case("resnet19", CIFAR, 10, label="ResNet-19"),
    Case("wide_resnet20", CIFAR, 10, label="wide ResNet-20"),
    Case("resnet18_cifar", CIFAR, 10, label="ResNet-18"),
    Case("resnet18", IMAGENET, 1000, label="ResNet-18"),
    Case("resnet34", IMAGENET, 1000, {"sew": True}, label="SEW ResNet-34"),
    Case("vgg11", CIFAR, 10, label="VGG-11"),
    Case("vggsnn", (2, 48, 48), 10, label="VGGSNN"),
    Case("spikformer", CIFAR, 10, {}, "Spikformer-4-384", 9.32, "Spikformer, code", 4 * 9 * 384),
    Case("spike_driven_transformer", CIFAR, 10, {}, "Spike-driven Transformer-2-512", left_out=driven(512, 2)),
    Case(
        "spike_driven_transformer",
        IMAGENET,
        1000,
        {"depth": 8, "patch": 16},
        "Spike-driven Transformer-8-512",
        left_out=driven(512, 8),
    ),
    Case(
        "spike_driven_transformer",
        IMAGENET,
        1000,
        {"depth": 8, "width": 768, "patch": 16},
        "Spike-driven Transformer-8-768",
        66.34,
        "later papers' tables",
        driven(768, 8),
    ),
    Case("qkformer", CIFAR, 10, {}, "QKFormer HST-4-384", left_out=staged(384, 1, 1, 2)),
    Case("qkformer", CIFAR, 100, {}, "QKFormer HST-4-384", 6.74, "later papers' tables", staged(384, 1, 1, 2)),
    *(
        Case(
            "qkformer",
            IMAGENET,
            1000,
            {"depths": (1, 2, 7), "width": width, "heads": width // 64, "patch": 4},
            f"QKFormer HST-10-{width}",
            published,
            QK,
            staged(width, 1, 2, 7),
        )
        for width, published in ((384, 16.47), (512, 29.08), (768, 64.96))
    ),
)


def counted(case: Case) -> dict[str, Any]:
    """A case with its counts of one sample and step."""
    with torch.device("meta"):
        net = MODELS[case.builder](LIF(), shape=case.shape, classes=case.classes, T=1, **case.options).eval()
        x = torch.zeros(1, *case.shape)
    found = {"macs": 0, "pairs": 0, "neurons": 0}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, Synapse):
            found["macs"] += node.module.macs(tuple(value.shape))
        if isinstance(node.module, PairProduct):
            found["pairs"] += value.numel() * node.module.summands(args[0].shape, args[1].shape)
        if isinstance(node.module, Neuron):
            found["neurons"] += value.numel()
        return value

    with torch.no_grad():
        trace(net).run(x, handler=note)
    return {**asdict(case), "parameters": sum(p.numel() for p in net.parameters()), **found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=OUT)
    missing = set(MODELS) - {case.builder for case in CASES}
    if missing:
        raise SystemExit(f"no case for the builders {', '.join(sorted(missing))}; add them to CASES")
    write_json_atomic(parser.parse_args().out, [counted(case) for case in CASES])


if __name__ == "__main__":
    main()

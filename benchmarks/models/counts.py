"""Parameters and operations of every builder beside what its paper or code states: one JSON, on the meta device.

Usage: python benchmarks/models/counts.py [--out FILE]

Then `python tools/readme_table.py docs/results.md` writes the tables. Nothing is allocated or trained; a second or two.
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
class Stated:
    """What a paper, its code or a later paper states.

    Args:
        parameters_m: millions, with the digits given. source: where.
        operations_g: of one sample, all steps, 10^9: additions by spikes, or multiply-adds where T is 1 and the network
            analog. energy_mj: of one sample, by 4.6 pJ a multiply-accumulate and 0.9 pJ an addition.
        T: steps of both. operations_source: where. None: not seen.
    """

    parameters_m: str | None = None
    source: str = ""
    operations_g: float | None = None
    energy_mj: float | None = None
    T: int | None = None
    operations_source: str = ""


@dataclass(frozen=True)
class Case:
    """One network.

    Args:
        builder: a name of `MODELS`. shape: of a sample. classes: K. options: of the builder. label: in its paper.
        stated: about the published network. left_out: parameters of it that ours does not have, counted from its code.
    """

    builder: str
    shape: tuple[int, int, int]
    classes: int
    options: dict[str, Any] = field(default_factory=dict)
    label: str = ""
    stated: Stated = Stated()
    left_out: int = 0


def driven(width: int, depth: int) -> int:
    """Biases of four convs 1×1 with 6·width channels a block, and a map of 8 heads that is never called."""
    return depth * (6 * width + 64)


def staged(width: int, *depths: int) -> int:
    """The same biases in the blocks of three stages."""
    return sum(6 * depth * width * 2**stage // 4 for stage, depth in enumerate(depths))


def pyramid(width: int, last: int, depths: tuple[int, int] = (6, 2)) -> int:
    """Biases of the convs between stages, and of the perceptrons of tokens, 5·C a block."""
    return width // 2 + width * 7 + last + 5 * (depths[0] * 4 * width + depths[1] * last)


def mixed(width: int, kernels: tuple[int, int], *depths: int) -> int:
    """Biases of depthwise convs (C), perceptrons (5·C) and projections of attention (C) in three stages."""
    per_block = (5 + bool(kernels[0]), 5 + bool(kernels[1]), 6)
    return sum(
        n * depth * width * 2**stage // 4 for stage, (n, depth) in enumerate(zip(per_block, depths, strict=True))
    )


HE, TORCHVISION, QK = "He et al., table 6", "torchvision, documentation", "QKFormer, README"
LATER, SDT = "tables of later papers", "Spike-driven Transformer, README"
SPIKFORMER, MAX, E_CODE = "Spikingformer, README", "Max-Former, tables 2 and 3", "E-SpikeFormer, code"
MIXER_OPTIONS: dict[str, Any] = {"kernels": (7, 5), "depths": (1, 2, 7), "patch": 4}
CASES = (
    Case("study_cnn", GREY, 10),
    Case("mlp", GREY, 10),
    Case("conv1d", (1, 40, 100), 10),
    Case("he_resnet20", CIFAR, 10, label="ResNet-20", stated=Stated("0.27", HE)),
    Case("he_resnet32", CIFAR, 10, label="ResNet-32", stated=Stated("0.46", HE)),
    Case("resnet20", CIFAR, 10, label="ResNet20 of Ternary Spike"),
    Case("resnet19", CIFAR, 10, label="ResNet-19"),
    Case("wide_resnet20", CIFAR, 10, label="wide ResNet-20"),
    Case("resnet18_cifar", CIFAR, 10, label="ResNet-18"),
    Case("resnet18", IMAGENET, 1000, {}, "ResNet-18", Stated("11.69", TORCHVISION, 1.81, None, 1, TORCHVISION)),
    Case("resnet34", IMAGENET, 1000, {}, "ResNet-34", Stated("21.80", TORCHVISION, 3.66, None, 1, TORCHVISION)),
    Case("resnet34", IMAGENET, 1000, {"sew": True}, "SEW ResNet-34", Stated("21.79", LATER, None, 4.04, 4, LATER)),
    Case("vgg11", CIFAR, 10, label="VGG-11"),
    Case("vggsnn", (2, 48, 48), 10, label="VGGSNN"),
    Case("spikformer", CIFAR, 10, {}, "Spikformer-4-384", Stated("9.32", "Spikformer, code"), 4 * 9 * 384),
    *(
        Case(
            "spikformer",
            IMAGENET,
            1000,
            {"depth": 8, "width": width, "heads": heads, "patch": 16},
            f"Spikformer-8-{width}",
            Stated(parameters, SPIKFORMER, operations, energy, 4, f"{SPIKFORMER}; mJ: {LATER}"),
            8 * 6 * width,
        )
        for width, heads, parameters, operations, energy in (
            (384, 6, "16.81", 6.82, 7.73),
            (512, 8, "29.68", 11.09, 11.58),
            (768, 12, "66.34", 22.09, 21.48),
        )
    ),
    *(
        Case(
            "spike_driven_transformer",
            CIFAR,
            classes,
            {},
            "Spike-driven Transformer-2-512",
            Stated("10.28", LATER) if classes == 100 else Stated(),
            driven(512, 2),
        )
        for classes in (10, 100)
    ),
    *(
        Case(
            "spike_driven_transformer",
            IMAGENET,
            1000,
            {"depth": 8, "width": width, "patch": 16},
            f"Spike-driven Transformer-8-{width}",
            Stated(parameters, LATER, None, energy, 4, SDT),
            driven(width, 8),
        )
        for width, parameters, energy in ((384, "16.81", 3.90), (512, "29.68", 4.50), (768, "66.34", 6.09))
    ),
    Case("qkformer", CIFAR, 10, {}, "QKFormer HST-4-384", left_out=staged(384, 1, 1, 2)),
    Case("qkformer", CIFAR, 100, {}, "QKFormer HST-4-384", Stated("6.74", LATER), staged(384, 1, 1, 2)),
    *(
        Case(
            "qkformer",
            IMAGENET,
            1000,
            {"depths": (1, 2, 7), "width": width, "heads": width // 64, "patch": 4},
            f"QKFormer HST-10-{width}",
            Stated(parameters, QK, None, energy, 4, LATER),
            staged(width, 1, 2, 7),
        )
        for width, parameters, energy in ((384, "16.47", 15.13), (512, "29.08", 21.99), (768, "64.96", 38.91))
    ),
    *(
        Case(
            "e_spikeformer",
            IMAGENET,
            1000,
            {"width": width, "last_width": last},
            f"E-SpikeFormer {parameters.partition('.')[0]}M",
            Stated(parameters, E_CODE),
            pyramid(width, last),
        )
        for width, last, parameters in ((48, 240, "10.0"), (64, 360, "19.0"))
    ),
    *(
        Case(
            "maxformer",
            CIFAR,
            classes,
            {},
            "Max-Former-4-384",
            Stated(parameters, MAX),
            mixed(384, (0, 3), 1, 1, 2),
        )
        for classes, parameters in ((10, "6.57"), (100, "6.60"))
    ),
    *(
        Case(
            "maxformer",
            IMAGENET,
            1000,
            {**MIXER_OPTIONS, "width": width, "heads": width // 64},
            f"Max-Former-10-{width}",
            Stated(parameters, MAX, None, energy, 4, MAX),
            mixed(width, (7, 5), 1, 2, 7),
        )
        for width, parameters, energy in ((384, "16.23", 4.89), (512, "28.65", 7.49), (768, "63.99", 14.87))
    ),
)


def counted(case: Case) -> dict[str, Any]:
    """A case with its counts of one sample and step."""
    with torch.device("meta"):
        net = MODELS[case.builder](LIF(), shape=case.shape, classes=case.classes, T=1, **case.options).eval()
        x = torch.zeros(1, *case.shape)
    found = {"macs": 0, "first_macs": 0, "pairs": 0, "neurons": 0}

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        value = call()
        if isinstance(node.module, Synapse):
            macs = node.module.macs(tuple(value.shape))
            found["macs"] += macs
            found["first_macs"] += macs if node.module.role == "first" else 0
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

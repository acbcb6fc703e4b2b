"""What is in the zoo, and what the data and weights behind it are published under."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SLICE = 16
"""Samples whose predictions a card holds, evenly spread over the test split."""


@dataclass(frozen=True)
class Source:
    """What a program derives from.

    Args:
        what: data or weights, and by whom. licence: as stated at their source. file: notice that goes with copies.
        text: path of that notice in the folder of the data; "" where it is committed.
    """

    what: str
    licence: str
    file: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Data:
    """A data set. Args: about: in words. source: what it is published under. inside: whether a slice may be copied."""

    about: str
    source: Source
    inside: bool = False


FASHION = Source(
    "Fashion-MNIST, H. Xiao, K. Rasul, R. Vollgraf, 2017, copyright 2017 Zalando SE",
    "MIT",
    "LICENSE-fashion-mnist.txt",
    "fashion_mnist/LICENSE-fashion-mnist.txt",
)
DATA = {
    "digits": Data(
        "handwritten digits, 8×8",
        Source(
            "Optical Recognition of Handwritten Digits, E. Alpaydin, C. Kaynak, 1998, as in scikit-learn", "CC BY 4.0"
        ),
        inside=True,
    ),
    "fashion_mnist": Data("pictures of clothes, 28×28", FASHION, inside=True),
    "fsdd": Data(
        "spoken digits, spectra",
        Source("Free Spoken Digit Dataset, Z. Jackson et al.", "CC BY-SA 4.0"),
    ),
    "nmnist": Data(
        "digits seen by an event camera, frames of 34×34",
        Source(
            "N-MNIST (1,000 training recordings), G. Orchard et al., 2015", "CC BY-SA 4.0, as its authors publish it"
        ),
    ),
    "cifar10": Data(
        "photographs of 10 kinds of things, 32×32",
        Source("CIFAR-10, A. Krizhevsky, 2009", "none stated; cite the report"),
    ),
}
WEIGHTS = Source(
    "weights of ResNet-20, github.com/akamaster/pytorch_resnet_cifar10, Y. Idelbayev, 2018",
    "BSD-2-Clause",
    "LICENSE-akamaster-resnet.txt",
    "checkpoints/LICENSE-akamaster-resnet.txt",
)


@dataclass(frozen=True)
class Entry:
    """A program.

    Args:
        name: DATA/KIND. spikes: in words. about: a sentence. row: TABLE/ARM of `bitspike reproduce`, whose seed 0 it
            is; "" of a conversion.
        convert: of a conversion, neuron, T and ``key=value`` texts of `bitspike convert`.
        results: of a conversion, the committed JSON of every draw of calibration images.
        network: whether the float network is kept too.
    """

    name: str
    spikes: str
    about: str
    row: str = ""
    convert: tuple[str, int, tuple[str, ...]] = ("", 0, ())
    results: tuple[str, ...] = ()
    network: bool = True


def _trained(data: str, kind: str, spikes: str, about: str, arm: str = "", network: bool = True) -> Entry:
    return Entry(f"{data}/{kind}", spikes, about, f"{data}/{arm or kind}", network=network)


def _converted(kind: str, neuron: str, spikes: str, T: int, stem: str, sets: tuple[str, ...]) -> Entry:
    draws = tuple(f"results/conversion/he_resnet20-{stem}{draw}.json" for draw in ("", "-draw1", "-draw2"))
    about = "He's ResNet-20, the published ANN, as a spiking network; nothing was trained, ranges were calibrated"
    return Entry(f"cifar10/{kind}", spikes, about, convert=(neuron, T, sets), results=draws, network=False)


CNN = "convolutions with residual blocks"
ENTRIES = (
    _trained("digits", "binary", "binary", f"{CNN}, leaky integrate-and-fire"),
    _trained("digits", "ternary", "ternary", f"{CNN}, spikes −1, 0, 1 with a trained amplitude a channel"),
    _trained("digits", "multibit", "multi-bit (1, 1)", f"{CNN}, spikes 0, ½, 1, 1½"),
    _trained("digits", "reverb", "ReverB", f"{CNN}, real spikes and weights of ±1"),
    _trained("fashion_mnist", "binary", "binary", f"{CNN}, leaky integrate-and-fire"),
    _trained("fashion_mnist", "ternary", "ternary", f"{CNN}, spikes −1, 0, 1"),
    _trained("fashion_mnist", "multibit", "multi-bit (1, 1)", f"{CNN}, spikes 0, ½, 1, 1½"),
    _trained("fashion_mnist", "reverb", "ReverB", f"{CNN}, real spikes and weights of ±1"),
    _trained("fsdd", "binary", "binary", "a perceptron over 8 steps of spectra, leaky integrate-and-fire"),
    _trained("fsdd", "ternary", "ternary", "a perceptron over 8 steps of spectra, spikes −1, 0, 1", network=False),
    _trained("fsdd", "multibit", "multi-bit (1, 1)", "a perceptron over 8 steps of spectra", network=False),
    _trained("fsdd", "reverb", "ReverB", "a perceptron over 8 steps of spectra, weights of ±1", network=False),
    _trained("nmnist", "binary", "binary", f"{CNN} over 5 frames of events"),
    _trained("nmnist", "ternary", "ternary", f"{CNN} over 5 frames of events", network=False),
    _trained("nmnist", "multibit", "multi-bit (1, 1)", f"{CNN} over 5 frames of events", arm="multibit-T5-b2"),
    _converted(
        "resnet20-T1",
        "multibit",
        "multi-bit (2, 2)",
        1,
        "multibit22-T1-mse-channel-line-512",
        ("convert.correction=line",),
    ),
    _converted(
        "resnet20-T2",
        "multibit",
        "multi-bit (2, 2)",
        2,
        "multibit22-T2-mse-channel-line-512",
        ("convert.correction=line",),
    ),
)

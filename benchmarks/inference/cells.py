"""What is measured: networks, peers, and the cells in the order in which they matter."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

SHORT = {"threshold": "percentile", "percentile": 97.0, "correction": "mean"}  # see docs/conversion.md
LATE = {"readout": "settled"}
FITTED = {"correction": "weights"}


@dataclass(frozen=True)
class Network:
    """A network of the benchmark.

    Args:
        label: for the tables. arch: name of the model. neuron: "binary", "ternary", "multibit22" or "levels255"; of an
            arm also "levels" or "real", which is no neuron of any peer.
        T: steps. options: of `bitspike.ann2snn`. trained: published weights; False: drawn ones, for speed only.
        arm: of `cifar10_engine_study`, the job that trained it; "": converted, not trained.
    """

    label: str
    arch: str
    neuron: str
    T: int
    options: dict[str, Any] = field(default_factory=dict)
    trained: bool = True
    arm: str = ""

    @property
    def reference(self) -> str:
        """The arm without a penalty on spikes, at T = 2, to which the accuracy is held."""
        return self.arm.rpartition("-T")[0] + "-free-T2"


CONVERTED = {
    "binary-T4": Network("binary spikes", "he_resnet20", "binary", 4, FITTED | LATE),
    "binary-T2": Network("binary spikes", "he_resnet20", "binary", 2, SHORT | LATE),
    "binary-T1": Network("binary spikes", "he_resnet20", "binary", 1, SHORT),
    "ternary-T4": Network("ternary spikes", "he_resnet20", "ternary", 4, LATE),
    "ternary-T2": Network("ternary spikes", "he_resnet20", "ternary", 2, LATE),
    "ternary-T1": Network("ternary spikes", "he_resnet20", "ternary", 1, SHORT),
    "multibit22-T1": Network("4-bit spikes", "he_resnet20", "multibit22", 1, FITTED),
    "multibit22-T2": Network("4-bit spikes", "he_resnet20", "multibit22", 2, FITTED),
    "levels255-T1": Network("the ANN with 8-bit activations", "he_resnet20", "levels255", 1),
    "wide-binary-T1": Network("binary spikes", "resnet20", "binary", 1, SHORT, trained=False),
    "wide-binary-T4": Network("binary spikes", "resnet20", "binary", 4, SHORT, trained=False),
}

ARMS = {
    "binary": ("binary spikes × 8-bit weights", "binary"),
    "ternary": ("ternary spikes × 8-bit weights", "ternary"),
    "ternary-1": ("ternary spikes × ±1 weights", "ternary"),
    "2bit-4": ("2-bit spikes × 4-bit weights", "levels"),
    "real-1": ("8-bit real spikes × ±1 weights", "real"),
    "learned": ("learned spikes × learned weights", "levels"),
}
TRAINED = {
    f"trained-{arm}-T{T}": Network(f"trained: {label}", "he_resnet20", neuron, T, arm=f"{arm}-T{T}")
    for arm, (label, neuron) in ARMS.items()
    for T in (4, 2, 1)
}
NETWORKS = CONVERTED | TRAINED
LEAST = 0.02
"""A time of a trained network counts only where its accuracy is no further than this below its reference's."""

OURS = "bitspike"
LABELS = {
    "openvino-int8": "OpenVINO int8, best setting",
    "openvino-int8-f32": "OpenVINO int8, float32 between",
    "openvino-ann-int8": "OpenVINO int8, the ReLU network",
    "openvino-fp32": "OpenVINO float32",
    "onnxruntime-int8": "ONNX Runtime int8",
    "onnxruntime-fp32": "ONNX Runtime float32",
    "executorch-int8": "ExecuTorch (XNNPACK) int8, currents too",
    "executorch-fp32": "ExecuTorch (XNNPACK) float32",
    "torch-compile": "torch.compile",
    "torch-eager": "torch eager",
    "spikingjelly": "SpikingJelly, eval",
    "snntorch": "snnTorch, eval",
}
GOALS = {("openvino-int8", 4, 1): 2.5, ("openvino-int8", 1, 1): 1.5, ("spikingjelly", 4, 1): 30.0}
"""(peer, T, batch) → times its speed that are asked for with two threads; batch 64: at least as fast."""


@dataclass(frozen=True)
class Cell:
    """Some peers beside bitspike, alternating."""

    network: str
    batch: int
    threads: int
    peers: tuple[str, ...]

    @property
    def name(self) -> str:
        """For progress and ``--only``."""
        return f"{self.network}-b{self.batch}-t{self.threads}"


def peers_of(network: str) -> tuple[str, ...]:
    """Who can run it: SpikingJelly and snnTorch have integrate-and-fire neurons with binary spikes only.

    Real spikes are rounded by the program alone.
    """
    found = [peer for peer in LABELS if peer != "openvino-ann-int8" or NETWORKS[network].trained]
    if NETWORKS[network].neuron == "real":
        return ("openvino-ann-int8",)
    if NETWORKS[network].neuron != "binary":
        found = [peer for peer in found if peer not in ("spikingjelly", "snntorch")]
    return tuple(found)


def goal_of(peer: str, network: str, batch: int, threads: int) -> float | None:
    """Times the peer's speed that are asked for; None where nothing is."""
    kind = NETWORKS[network]
    if threads != 2 or not kind.trained or kind.neuron not in ("binary", "ternary"):
        return None
    if kind.arm and peer not in peers_of(network):
        return None
    if batch == 64:
        return 1.0 if peer == "openvino-int8" and kind.T in (1, 4) else None
    return GOALS.get((peer, kind.T, batch))


def cells() -> Iterator[Cell]:
    """Goals first, then the ANN, then all peers, one thread, and the wide network."""
    goals = ("binary-T4", "ternary-T4", "binary-T1", "ternary-T1", "multibit22-T1")
    first = ("openvino-int8", "openvino-ann-int8", "spikingjelly")
    seen: set[tuple[str, int, int, str]] = set()

    def cell(network: str, batch: int, threads: int, wanted: tuple[str, ...]) -> Iterator[Cell]:
        kept = [p for p in wanted if p in peers_of(network) and (network, batch, threads, p) not in seen]
        seen.update((network, batch, threads, p) for p in kept)
        if kept:
            yield Cell(network, batch, threads, tuple(kept))

    every = tuple(LABELS)
    quick = tuple(p for p in every if p != "torch-compile")
    for batch in (1, 64):
        for network in goals:
            yield from cell(network, batch, 2, first)
        for network in TRAINED:
            yield from cell(network, batch, 2, first)
    for network in ("levels255-T1", "multibit22-T2", "binary-T2", "ternary-T2"):
        yield from cell(network, 1, 2, first)
    for network in goals:
        yield from cell(network, 1, 2, quick)
    for network in ("wide-binary-T4", "wide-binary-T1"):
        yield from cell(network, 1, 2, first)
    for network in (*goals, *TRAINED):
        yield from cell(network, 1, 1, first)
    for network in NETWORKS:
        yield from cell(network, 1, 2, quick)
    for network in goals:
        yield from cell(network, 64, 1, first)
        yield from cell(network, 1, 2, every)
    for network in NETWORKS:
        for batch, threads in ((1, 2), (64, 2), (1, 1), (64, 1)):
            yield from cell(network, batch, threads, every)

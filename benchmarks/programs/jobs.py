"""The queue: every job is a network, how it is compiled, and where its result stands."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bitspike.files import read_json

RESULTS = Path("results/programs")
SPIKE_BITS = (4, 8, 16)


@dataclass(frozen=True)
class Job:
    """One program; the fields decide its result.

    Args:
        network: "STUDY/ARM" of a built-in study (seed 0), "converted/NEURON-T" of `networks.CONVERSIONS`, or
            "untrained/NAME" of `networks.UNTRAINED`, of which only the size is taken.
        weight_bits, spike_bits, input_bits: of `bitspike.compile`.
    """

    network: str
    weight_bits: int = 8
    spike_bits: int = 8
    input_bits: int = 8

    @property
    def name(self) -> str:
        """File name: the network, and what differs from the defaults."""
        parts = [self.network.replace("/", "-")]
        for label, bits in (("w", self.weight_bits), ("s", self.spike_bits), ("i", self.input_bits)):
            parts += [] if bits == 8 else [f"{label}{bits}"]
        return "-".join(parts)

    @property
    def key(self) -> str:
        """Hash of the fields."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


def jobs() -> list[Job]:
    """Cheap and important ones first: digits, CIFAR-10 at few steps, Fashion-MNIST, CIFAR-10 at eight steps.

    Real spikes are compiled at three widths. Behind them the same networks with fewer roundings, to tell causes apart.
    """
    digits = [Job(f"digits_demo/{arm}") for arm in ("binary", "ternary", "multibit")]
    digits += [Job("digits_demo/reverb", spike_bits=bits) for bits in SPIKE_BITS]
    digits.append(Job("digits_budgets/medium"))
    sizes = [Job(f"untrained/{kind}") for kind in ("float", "ternary", "sign")]
    few = [Job(f"converted/{name}") for name in ("multibit22-1", "multibit22-2", "binary-4", "ternary-4")]
    fashion = [Job(f"fashion_mnist_study/{arm}") for arm in ("binary", "ternary", "multibit")]
    fashion += [Job("fashion_mnist_study/reverb", spike_bits=bits) for bits in SPIKE_BITS]
    fashion += [Job(f"fashion_mnist_adaptive_study/{arm}") for arm in ("learned-4-4-2", "learned-3-3-1")]
    many = [Job(f"converted/{name}") for name in ("binary-8", "ternary-8")]
    return [*digits, *sizes, *few, *fashion, *many, *causes(), *recordings(), *transformers()]


def recordings() -> list[Job]:
    """Networks of spoken digits and of N-MNIST, whose input is another one in every step."""
    spoken = ("binary", "ternary", "multibit", "reverb", "adaptive", "multibit-strangers")
    events = ("binary", "ternary", "multibit-T5-b2", "reverb", "adaptive")
    return _twice([f"fsdd_study/{arm}" for arm in spoken] + [f"nmnist_study/{arm}" for arm in events])


def transformers() -> list[Job]:
    """Spikformers of two blocks on Fashion-MNIST."""
    arms = ("binary", "ternary", "multibit", "reverb", "adaptive")
    return _twice([f"fashion_spikformer_study/{arm}" for arm in arms])


def _twice(names: list[str]) -> list[Job]:
    """With 8 bits, and with 16 bits everywhere."""
    sharp = {"weight_bits": 16, "spike_bits": 16, "input_bits": 16}
    return [job for name in names for job in (Job(name), Job(name, **sharp))]


def causes() -> list[Job]:
    """Networks compiled again with 16-bit weights, with 16-bit inputs, and with both."""
    names = [f"fashion_mnist_study/{arm}" for arm in ("binary", "ternary", "multibit")]
    names += [f"digits_demo/{arm}" for arm in ("binary", "ternary", "multibit")]
    names += ["converted/multibit22-1", "converted/multibit22-2", "converted/ternary-4"]
    bits = ((16, 8), (8, 16), (16, 16))
    return [Job(name, weight_bits=w, input_bits=i) for name in names for w, i in bits]


def stored(folder: Path, job: Job) -> dict[str, Any] | None:
    """The result of a job, if its file is one of this very job."""
    path = folder / f"{job.name}.json"
    document = read_json(path) if path.exists() else None
    return document if isinstance(document, dict) and document.get("key") == job.key else None

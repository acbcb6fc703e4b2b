"""Every registered encoder passes the public suite with each of its options, and broken ones do not."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from bitspike.formats import SpikeFormat
from bitspike.layers import ENCODERS, Encoder, Poisson, Repeat
from bitspike.layers.encoders.noise import Noise, content_seeds, uniform_noise
from bitspike.testing import ConformanceError, check_encoder

OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "poisson": ({"seed": 11}, {"noise": "fixed"}),
    "delta": ({"threshold": 0.25}, {"threshold": 0.2, "follow": "step"}, {"ragged": True, "threshold": 0.5}),
    "frames": ({"ragged": True},),
    "phase": ({"bits": 3}, {"bits": 1}),
    "latency": ({"jitter": 1.5}, {"jitter": 1.0, "noise": "fixed", "seed": 3}, {"threshold": 0.3}),
}
"""Options of every encoder beside none; one that is not listed is tested as its constructor makes it."""

CASES = [(name, given) for name, _ in ENCODERS.items() for given in ({}, *OPTIONS.get(name, ()))]


@pytest.mark.parametrize(("name", "given"), CASES, ids=lambda value: str(value))
def test_registered_encoders_conform(name: str, given: dict[str, Any]) -> None:
    for T in (1, 5):
        check_encoder(ENCODERS[name](max(T, 2) if given else T, **given), compiled=T == 5)  # type: ignore[call-arg]


class Broken(Encoder):
    """Rate coding with one fault."""

    intensities = True

    def __init__(self, fault: str) -> None:
        super().__init__()
        self.T, self.format, self.fault, self.noise = 4, SpikeFormat(), fault, Noise("Broken")
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        if self.fault == "nothing is checked":
            x = x.to(torch.float32) if not x.is_floating_point() else x
        else:
            self._check(x)
        seeds = self.noise(x)
        if self.fault == "one noise for all":
            seeds = seeds.sum().expand(len(seeds))
        elif self.fault == "place in the batch":
            seeds = torch.arange(len(seeds), device=x.device)
        elif self.fault == "frozen":
            seeds = content_seeds(x, 0)
        elif self.fault == "counts calls":
            self.calls += 1
            seeds = seeds + self.calls
        elif self.fault == "global draws":
            seeds = seeds + torch.randint(9, (1,), device=x.device)
        y = (uniform_noise(seeds, self.T, tuple(x.shape[1:])) < x).to(x.dtype)
        if self.fault == "another T":
            return y[:3]
        if self.fault == "another dtype":
            return y.float()
        if self.fault == "another alphabet":
            return 2 * y
        if self.fault == "writes":
            x.clamp_(0.1, 0.9)
        return y


FAULTS = {
    "one noise for all": "size of the batch|order of the batch|two samples",
    "place in the batch": "must have different noise|must not matter",
    "frozen": "two calls in training must have different noise",
    "counts calls": "leave parameters, buffers and attributes",
    "global draws": "generator must be left alone",
    "another T": "must be [T, B, ...]",
    "another dtype": "dtype",
    "another alphabet": "alphabet",
    "writes": "must not write",
    "nothing is checked": "must raise",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_encoder_is_found(fault: str) -> None:
    with pytest.raises(ConformanceError) as found:
        check_encoder(Broken(fault), compiled=False)
    assert any(words in str(found.value) for words in FAULTS[fault].split("|")), found.value


def test_the_sound_one_is_not() -> None:
    check_encoder(Broken("none"), compiled=False)


class Branches(Encoder):
    """It looks at values, which no compiled graph can."""

    T = 2

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return torch.stack([x, x]) if x.device.type == "meta" or float(x.sum()) >= 0 else torch.stack([x, -x])


class Liar(Encoder):
    """It claims to repeat and does not."""

    T, repeats = 2, True

    def forward(self, x: Tensor) -> Tensor:
        self._check(x)
        return torch.stack([x, x / 2])


def test_what_does_not_compile_is_found() -> None:
    check_encoder(Branches(), compiled=False)
    with pytest.raises(ConformanceError, match="compiling in one graph"):
        check_encoder(Branches())


def test_a_false_claim_to_repeat_is_found() -> None:
    with pytest.raises(ConformanceError, match="every step must be the sample"):
        check_encoder(Liar(), compiled=False)


def test_the_encoder_itself_is_left_alone() -> None:
    for encoder in (Poisson(2), Repeat(2).eval()):
        mode = encoder.training
        check_encoder(encoder, compiled=False)
        assert encoder.training is mode and not list(encoder.buffers())

"""The suite for quantizers rejects quantizers that break one promise each, and names it; their sound twins pass."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike.formats import WeightFormat
from bitspike.functional import round_half, scale_gradient
from bitspike.quantizers import Float, Quantizer
from bitspike.testing import ConformanceError, check_quantizer


class Rounds(Quantizer):
    """Plain rounding to integers −3 .. 3 with a unit scale; each subclass has one fault."""

    def __init__(self) -> None:
        super().__init__()
        self.format = WeightFormat(-3, 3, scale="layer")

    def initialise(self, w: Tensor) -> None:
        pass

    def levels(self, w: Tensor) -> Tensor:
        return (8 * w).round().clamp(-3, 3)

    def scale(self, w: Tensor) -> Tensor:
        return torch.full([1] * w.dim(), 0.125, dtype=w.dtype)

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return self.levels(w.detach()), self.scale(w)

    def forward(self, w: Tensor) -> Tensor:
        return (self.levels(w.detach()) + w - w.detach()) * self.scale(w)


class Sound(Rounds):
    """Straight-through without rounding error in the sum."""

    def forward(self, w: Tensor) -> Tensor:
        ratio = self.ratio(w, self.scale(w))
        return (self.levels(w.detach()) + (ratio - ratio.detach())) * self.scale(w)


class Floors(Sound):
    def levels(self, w: Tensor) -> Tensor:
        return (8 * w).floor().clamp(-3, 3)


class Overflows(Sound):
    def levels(self, w: Tensor) -> Tensor:
        return (8 * w).round()


class Halves(Sound):
    def levels(self, w: Tensor) -> Tensor:
        return (16 * w).round().clamp(-6, 6) / 2


class Shrinks(Sound):
    def levels(self, w: Tensor) -> Tensor:
        return (6 * w).round().clamp(-3, 3)


class Folds(Sound):
    def levels(self, w: Tensor) -> Tensor:
        return torch.where(w.abs() > 0.7, 1.0, 3.0).to(w.dtype) * w.sign() * (w.abs() > 0.05)


class Negative(Sound):
    def scale(self, w: Tensor) -> Tensor:
        return -super().scale(w)


class Disagrees(Sound):
    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return self.levels(w.detach()), self.scale(w) * 2


class LeaksGradient(Sound):
    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return self.levels(w.detach()), nn.Parameter(self.scale(w))


class Lies(Sound):
    @property
    def bits(self) -> int:
        return 2


class Remembers(Sound):
    def forward(self, w: Tensor) -> Tensor:
        self.last = w.detach()
        return super().forward(w)


class Writes(Sound):
    def forward(self, w: Tensor) -> Tensor:
        result = super().forward(w)
        w.data.mul_(0.5)
        return result


class KeepsState(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(1))


class Cuts(Sound):
    def forward(self, w: Tensor) -> Tensor:
        return self.levels(w.detach()) * self.scale(w)


class Explodes(Sound):
    def forward(self, w: Tensor) -> Tensor:
        return super().forward(w) + 0 * (w - w).sqrt()


class Random(Sound):
    def levels(self, w: Tensor) -> Tensor:
        return (8 * w + torch.rand_like(w)).round().clamp(-3, 3)


class Shares(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(0.125))

    def replicate(self, w: Tensor) -> Quantizer:
        return self


class Widens(Sound):
    def forward(self, w: Tensor) -> Tensor:
        return super().forward(w).double()


class LosesTheTypeOfItsLevels(Sound):
    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        k, scale = super().to_int(w)
        return k.long(), scale


class LosesTheTypeOfItsScale(Sound):
    def scale(self, w: Tensor) -> Tensor:
        return super().scale(w).float()


class WritesInToInt(Sound):
    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        pair = super().to_int(w)
        w.data.mul_(0.5)
        return pair


class DiffersInEvaluation(Sound):
    def levels(self, w: Tensor) -> Tensor:
        return super().levels(w if self.training else 2 * w)


class DrawsForNothing(Sound):
    def forward(self, w: Tensor) -> Tensor:
        torch.rand(1)
        return super().forward(w)


class Centres(Sound):
    """Its levels are those of another weight."""

    def levels(self, w: Tensor) -> Tensor:
        return super().levels(w - w.mean())


class Constant(Sound):
    def levels(self, w: Tensor) -> Tensor:
        return torch.zeros_like(w)


class Branches(Sound):
    def forward(self, w: Tensor) -> Tensor:
        return super().forward(w if w.max() < 1e6 else w.clamp(max=1e6))


class Learned(Rounds):
    """Sound, with a trained scale; each subclass has one fault of its gradient."""

    weight_factor, scale_factor = 1.0, 1.0

    def initialise(self, w: Tensor) -> None:
        self.alpha = nn.Parameter(torch.full([1] * w.dim(), 0.25, dtype=w.dtype))

    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return round_half((w / self.alpha).detach().clamp(-3, 3)), self.alpha.detach()

    def through(self, w: Tensor) -> Tensor:
        return self.ratio(w, self.alpha)

    def forward(self, w: Tensor) -> Tensor:
        k = self.to_int(w)[0]
        through = self.through(w)
        return (k + self.weight_factor * (through - through.detach())) * self.alpha


class SevenTimes(Learned):
    weight_factor = 7.0


class WrongSign(Learned):
    weight_factor = -1.0


class SlightlyOff(Learned):
    weight_factor = 1.0001


class NoScaleGradient(Learned):
    """Right for the weight; of the scale only the part that comes through the ratio."""

    def forward(self, w: Tensor) -> Tensor:
        k = self.to_int(w)[0]
        through = self.through(w)
        return k * self.alpha.detach() + (through - through.detach()) * self.alpha


class ScaleWithoutGradient(Learned):
    def forward(self, w: Tensor) -> Tensor:
        through = self.ratio(w, self.alpha.detach())
        return (self.to_int(w)[0] + (through - through.detach())) * self.alpha.detach()


class NothingStops(Learned):
    def through(self, w: Tensor) -> Tensor:
        return w / self.alpha


class StopsEarly(Learned):
    def through(self, w: Tensor) -> Tensor:
        return (w / self.alpha).clamp(-1, 1)


class ClaimsSevenTimes(SevenTimes):
    """Its ratio agrees with the gradient, and with no level."""

    def ratio(self, w: Tensor, scale: Tensor) -> Tensor:
        return (7 * w / scale).clamp(-3, 3)

    weight_factor = 1.0


class Gained(Learned):
    """A gradient scale of its own, that the suite leaves out and then compares."""

    scale_gradient, gain, weight_gain = True, 0.25, 1.0

    def forward(self, w: Tensor) -> Tensor:
        on = self.scale_gradient
        alpha = scale_gradient(self.alpha, torch.tensor(self.gain if on else 1.0))
        w = scale_gradient(w, torch.tensor(self.weight_gain if on else 1.0))
        through = self.ratio(w, alpha)
        return (self.to_int(w)[0].detach() + (through - through.detach())) * alpha


class GainedByArgument(Gained):
    """Its argument is sealed, and the suite turns it off all the same."""

    def __init__(self, scale_gradient: bool = True) -> None:
        super().__init__()
        self.scale_gradient = scale_gradient


class GainedWrongly(Gained):
    gain = -0.25


class GainsTheWeight(Gained):
    weight_gain = 0.5


class Frozen(Learned):
    def initialise(self, w: Tensor) -> None:
        super().initialise(w)
        self.alpha.requires_grad_(False)


class Trains(Learned):
    """It moves its scale when it is called."""

    def forward(self, w: Tensor) -> Tensor:
        with torch.no_grad():
            self.alpha.mul_(1.01)
        return super().forward(w)


class InitialisesThePrototype(Learned):
    def replicate(self, w: Tensor) -> Quantizer:
        self.initialise(w.detach())
        return copy.deepcopy(self)


class WritesToWhatItStartsFrom(Learned):
    def initialise(self, w: Tensor) -> None:
        super().initialise(w)
        w.data.mul_(0.5)


class ReturnsThree(Sound):
    def to_int(self, w: Tensor) -> tuple[Tensor, Tensor]:
        return *super().to_int(w), torch.zeros(1)  # type: ignore[return-value]


class SaysNone(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.format = WeightFormat(-3, 3)


class SaysOutput(Sound):
    def __init__(self) -> None:
        super().__init__()
        self.format = WeightFormat(-3, 3, scale="output")


class HasNoFormat(Sound):
    def __init__(self) -> None:
        super().__init__()
        del self.format


class Stumbles(Sound):
    def forward(self, w: Tensor) -> Tensor:
        return super().forward(w) if w.is_contiguous() else torch.zeros(())[w.shape]


class RealSevenTimes(Float):
    def forward(self, w: Tensor) -> Tensor:
        return w + 6 * (w - w.detach())


class NotQuiteReal(Float):
    def forward(self, w: Tensor) -> Tensor:
        return w.bfloat16().to(w.dtype)


@pytest.mark.parametrize(
    ("quantizer", "words"),
    [
        (Rounds(), "forward must equal k·scale"),
        (Floors(), "q(−w) must be −q(w)"),
        (Overflows(), "levels must be on the grid"),
        (Halves(), "levels must be on the grid"),
        (Shrinks(), "quantizing twice"),
        (Folds(), "levels must not fall"),
        (Negative(), "scale must be positive"),
        (Disagrees(), "forward must equal k·scale"),
        (LeaksGradient(), "to_int must carry no gradient"),
        (Lies(), "must hold every level"),
        (Remembers(), "leave parameters, buffers and attributes"),
        (Writes(), "must not write to its arguments"),
        (KeepsState(), "state_dict must hold parameters"),
        (Cuts(), "the weight must get a gradient"),
        (Explodes(), "gradient of the weight must be finite"),
        (Random(), "two calls must give equal bits"),
        (Shares(), "every replica must own its parameters"),
        (Widens(), "must keep shape, dtype and device"),
        (LosesTheTypeOfItsLevels(), "the integers must keep shape, dtype and device, got dtype torch.int64"),
        (LosesTheTypeOfItsScale(), "the scale must keep dtype and device, got torch.float32 on cpu for torch.float64"),
        (WritesInToInt(), "must not write to its arguments, got changes of the weight"),
        (DiffersInEvaluation(), "`train(False)` must give equal bits"),
        (DrawsForNothing(), "must not draw from torch's generator"),
        (Centres(), "one of the two that enclose its ratio"),
        (Trains(), "leave parameters, buffers and attributes"),
        (InitialisesThePrototype(), "`replicate` must leave the prototype as it is"),
        (WritesToWhatItStartsFrom(), "`replicate` must leave the weight as it is"),
        (Constant(), "at least two levels"),
        (SevenTimes(), "the gradient of the weight must be the difference of the relaxed quantizer"),
        (WrongSign(), "the gradient of the weight must be the difference of the relaxed quantizer"),
        (SlightlyOff(), "the gradient of the weight must be the difference of the relaxed quantizer"),
        (NothingStops(), "the gradient of the weight must be the difference of the relaxed quantizer"),
        (StopsEarly(), "the gradient of the weight must be the difference of the relaxed quantizer"),
        (NoScaleGradient(), "the gradient of alpha must be the difference of the relaxed quantizer"),
        (ScaleWithoutGradient(), "alpha must get a gradient"),
        (ClaimsSevenTimes(), "one of the two that enclose its ratio"),
        (GainedWrongly(), "the gradient of alpha must be scaled by a positive number"),
        (GainsTheWeight(), "the gradient of the weight must not be scaled"),
        (Frozen(), "alpha must get a gradient, got a parameter with requires_grad=False"),
        (ReturnsThree(), "to_int must return two tensors, got tuple (Tensor, Tensor, Tensor)"),
        (SaysNone(), "the scale must be 1 where format.scale is 'none', got 0.125"),
        (SaysOutput(), "the scale must have the shape [7, 1]"),
        (HasNoFormat(), "`format` must be there"),
        (Stumbles(), "`calls_agree` must run to its end, got IndexError"),
        (RealSevenTimes(), "the gradient of full-precision weights"),
        (NotQuiteReal(), "full-precision weights must pass unchanged"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Quantizer) else "",
)
def test_a_broken_quantizer_is_rejected(quantizer: Quantizer, words: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_quantizer(quantizer, compiled=False)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    "sound", [Sound(), Learned(), Gained(), GainedByArgument()], ids=lambda value: type(value).__name__
)
def test_the_sound_twins_of_the_broken_ones_pass(sound: Quantizer) -> None:
    check_quantizer(sound)


def test_an_error_names_the_first_offender_and_what_to_do() -> None:
    with pytest.raises(ConformanceError) as caught:
        check_quantizer(SevenTimes(), compiled=False)
    text = str(caught.value)
    assert text.startswith("check_quantizer(SevenTimes) on random [7, 5]: the gradient of the weight must be")
    assert re.search(r"got -?[\d.]+ for -?[\d.]+, -?[\d.]+ at \[\d, \d\] \(\d+ of 35 values\); let forward", text)


def test_one_that_does_not_compile_is_rejected() -> None:
    check_quantizer(Branches(), compiled=False)
    with pytest.raises(ConformanceError, match="compiling in one graph"):
        check_quantizer(Branches())


def test_a_check_is_skipped_by_name_only(refuses: Any) -> None:
    check_quantizer(Floors(), skip={"odd": "floor is not odd", "idempotent": "ties"}, compiled=False)
    with refuses("check_quantizer", "['oddd']"):
        check_quantizer(Floors(), skip={"oddd": "a typing error"})

"""A neuron of two states, one seeded fault a variant: the suite rejects each and says what is wrong."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bitspike.functional import fire
from bitspike.neurons import Neuron
from bitspike.testing import ConformanceError, check_neuron
from neurons.alif import ALIF, ALIFState

State = tuple[Tensor, ALIFState]


class WritesToTheInput(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        x.data.add_(0.001)
        return super().step(x, state)


class WritesToTheSecondState(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        s, after = super().step(x, state)
        return s, ALIFState(after.v, state.a.data.mul_(self.fall) + s)


class SwapsTheState(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        s, after = super().step(x, state)
        return s, ALIFState(after.a, after.v)


class KeepsTheSecondState(ALIF):
    a: Tensor | None = None

    def step(self, x: Tensor, state: ALIFState) -> State:
        known = self.a is not None and self.a.shape == x.shape and self.a.dtype == x.dtype
        s, after = super().step(x, ALIFState(state.v, self.a if known else torch.zeros_like(x)))
        self.a = after.a.detach()
        return s, ALIFState(after.v, state.a)


class LosesTheTypeOfTheSecondState(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        s, after = super().step(x, state)
        return s, ALIFState(after.v, after.a.float())


class StartsInFloat32(ALIF):
    def initial_state(self, x: Tensor) -> ALIFState:
        return ALIFState(torch.zeros_like(x), torch.zeros(x.shape, device=x.device))


class Narrows(ALIF):
    """It counts in float32, whatever it is given."""

    def step(self, x: Tensor, state: ALIFState) -> State:
        s, after = super().step(x.float(), ALIFState(*(part.float() for part in state)))
        return s.to(x.dtype), ALIFState(*(part.to(x.dtype) for part in after))


class StartsAfresh(ALIF):
    def run(self, x_seq: Tensor, state: Any | None = None) -> tuple[Tensor, Any]:
        return super().run(x_seq, None)


class ForgetsTheSecondState(ALIF):
    def run(self, x_seq: Tensor, state: Any | None = None) -> tuple[Tensor, Any]:
        return super().run(x_seq, None if state is None else ALIFState(state.v, torch.zeros_like(state.a)))


class IsNoisy(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        return super().step(x + 0.1 * torch.rand_like(x), state)


class IsNoisyInEvaluation(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        return super().step(x if self.training else x + 0.1 * torch.rand_like(x), state)


class DiffersInEvaluation(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        return super().step(x if self.training else 2 * x, state)


class DrawsForNothing(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        torch.rand(1)
        return super().step(x, state)


class SharesTheSecondState(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        s, after = super().step(x, state)
        return s, ALIFState(after.v, after.a.mean(0, keepdim=True).expand_as(x))


class Rises(ALIF):
    """Sound, with a rise of its own for every channel; each subclass has one fault."""

    def __init__(self) -> None:
        super().__init__()
        self.rises = nn.Parameter(torch.linspace(0.25, 1.0, 5))

    def ratio(self, a: Tensor) -> Tensor:
        return 1 + a * self.rises.reshape(-1, *[1] * (a.dim() - 2))

    def threshold_scale_at(self, state: Any) -> Tensor | float:
        return self.ratio(state.a)

    def step(self, x: Tensor, state: ALIFState) -> State:
        u = self.membrane.charge(state.v, x)
        scale = self.ratio(state.a)
        k = fire(u / scale, self.stairs, self.surrogate)
        v = self.membrane.reset(u, k, self.threshold * scale, False, False)  # type: ignore[arg-type]
        return self.emission(k), ALIFState(v, self.fall * state.a + k)


class RisesAlongTheLastAxis(Rises):
    def ratio(self, a: Tensor) -> Tensor:
        return 1 + a * self.rises


class RisesByData(Rises):
    def ratio(self, a: Tensor) -> Tensor:
        return 1 + a * self.rises.data.reshape(-1, *[1] * (a.dim() - 2))


class IsFrozen(Rises):
    def __init__(self) -> None:
        super().__init__()
        self.rises.requires_grad_(False)


class GainsInTheBackwardPass(Rises):
    """The gradient of its rise is doubled."""

    def ratio(self, a: Tensor) -> Tensor:
        rises = self.rises + (self.rises - self.rises.data)
        return 1 + a * rises.reshape(-1, *[1] * (a.dim() - 2))


class CutsTheSecondState(ALIF):
    """By `.data`, which no tape sees."""

    def step(self, x: Tensor, state: ALIFState) -> State:
        return super().step(x, ALIFState(state.v, state.a.data.clone()))


class OffTheAlphabet(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        s, after = super().step(x, state)
        return s * (1 + 0.1 * state.a), after


class IgnoresTheReset(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        s, after = super().step(x, state)
        return s, ALIFState(self.membrane.charge(state.v, x), after.a)


class RisesByTheAmplitude(ALIF):
    def __init__(self) -> None:
        super().__init__(train_amplitude="layer")
        self.emission.raw_amplitude.data.fill_(0.3)  # type: ignore[union-attr]

    def step(self, x: Tensor, state: ALIFState) -> State:
        s, after = super().step(x, state)
        return s, ALIFState(after.v, self.fall * state.a + s)


class FiresAboveOnly(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        s, _ = super().step(x * 0.9999, state)
        u = self.membrane.charge(state.v, x)
        v = u - s * self.threshold * (1 + self.rise * state.a)
        return s, ALIFState(v, self.fall * state.a + s)


class ForgetsToSay(ALIF):
    """Its threshold moves, and no hook says so."""

    def threshold_scale_at(self, state: Any) -> Tensor | float:
        return 1.0


class SaysTheNext(ALIF):
    """It says the threshold of the step after."""

    def threshold_scale_at(self, state: Any) -> Tensor | float:
        return 1 + self.rise * self.fall * state.a


class ResetsByTheFixedOne(ALIF):
    def step(self, x: Tensor, state: ALIFState) -> State:
        u = self.membrane.charge(state.v, x)
        s, after = super().step(x, state)
        return s, ALIFState(u - s * self.threshold, after.a)


class WritesWhenNormalised(ALIF):
    def normalised(self) -> Neuron:
        self.was_normalised = True
        return super().normalised()


@pytest.mark.parametrize(
    ("neuron", "words"),
    [
        (WritesToTheInput(), "must not write to its arguments, got changes of the input"),
        (WritesToTheSecondState(), "must not write to its arguments, got changes of state[1]"),
        (WritesWhenNormalised(), "leave parameters, buffers and attributes"),
        (KeepsTheSecondState(), "leave parameters, buffers and attributes"),
        (SwapsTheState(), "a silent neuron must keep its membrane"),
        (LosesTheTypeOfTheSecondState(), "spikes and state must keep shape, dtype and device, got dtype torch.float32"),
        (StartsInFloat32(), "spikes and state must keep shape, dtype and device, got dtype torch.float32"),
        (Narrows(), "one below must not fire"),
        (StartsAfresh(), "pieces of (1, 5) steps and the whole must give equal bits"),
        (ForgetsTheSecondState(), "pieces of (1, 5) steps and the whole must give equal bits"),
        (IsNoisy(), "two calls must give equal bits"),
        (IsNoisyInEvaluation(), "training and evaluation must give equal bits"),
        (DiffersInEvaluation(), "training and evaluation must give equal bits"),
        (DrawsForNothing(), "must not draw from torch's generator"),
        (SharesTheSecondState(), "the size of the batch must not matter"),
        (RisesAlongTheLastAxis(), "channels must lie on axis 2 of values with places"),
        (RisesByData(), "rises must get a gradient, got none"),
        (IsFrozen(), "rises must get a gradient, got a parameter with requires_grad=False"),
        (GainsInTheBackwardPass(), "the gradient of rises must be the difference of the relaxed neuron"),
        (CutsTheSecondState(), "the gradient of the input must be the difference of the relaxed neuron"),
        (OffTheAlphabet(), "every value must be on the alphabet {0,1}"),
        (IgnoresTheReset(), "v + 1·level must equal u (soft reset)"),
        (RisesByTheAmplitude(), "the normalised neuron must have the same membrane"),
        (FiresAboveOnly(), "a membrane at the threshold must fire"),
        (ForgetsToSay(), "must be that of decay·v + x"),
        (ForgetsToSay(reset="hard"), "must be that of decay·v + x"),
        (SaysTheNext(), "must be that of decay·v + x"),
        (ResetsByTheFixedOne(), "·level must equal u (soft reset)"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Neuron) else "",
)
def test_a_fault_is_named(neuron: ALIF, words: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_neuron(neuron, compiled=False)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"check_neuron({type(neuron).__name__}): ")


@pytest.mark.parametrize(
    "neuron", [ForgetsToSay(), SaysTheNext(), ResetsByTheFixedOne()], ids=lambda n: type(n).__name__
)
def test_a_threshold_that_nothing_tells_of_is_met_with_the_name_of_the_hook(neuron: ALIF) -> None:
    with pytest.raises(ConformanceError, match="threshold_scale_at"):
        check_neuron(neuron, compiled=False)


@pytest.mark.parametrize(
    "neuron",
    [
        ALIF(),
        ALIF(detach_reset=True, threshold=0.7, surrogate="atan"),
        ALIF(reset="hard", train_amplitude="channel"),
        ALIF(rise=0.0),
        Rises(),
    ],
)
def test_the_sound_ones_pass(neuron: ALIF) -> None:
    check_neuron(neuron, compiled=False)


def test_they_compile() -> None:
    check_neuron(ALIF())
    check_neuron(Rises())

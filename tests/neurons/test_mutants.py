"""The suite for neurons rejects neurons that break one promise each, and names it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from bitspike import native
from bitspike.formats import SpikeFormat
from bitspike.functional import Rectangle, Stairs, fire
from bitspike.neurons import LIF, Adaptive, Emission, MembraneState, MultiBit, Neuron, Real, Ternary
from bitspike.ops import ScanSpec
from bitspike.testing import ConformanceError, check_neuron

State = tuple[Tensor, MembraneState]
built = pytest.mark.skipif(native.library() is None, reason="not run: the native library is not built")


class Remembers(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        s, state = super().step(x, state)
        self.last = s.detach()
        return s, state


class RemembersInItsClass(LIF):
    seen: list[int] = []  # noqa: RUF012 (the fault)

    def step(self, x: Tensor, state: MembraneState) -> State:
        self.seen.append(len(x))
        return super().step(x, state)


class KeepsTheMembrane(LIF):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("v", torch.zeros(1))


class WritesToTheState(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        state.v.mul_(0.5)
        return super().step(x, MembraneState(state.v * 2))


class WritesToTheInput(LIF):
    def run(self, x_seq: Tensor, state: MembraneState | None = None) -> State:
        result = super().run(x_seq, state)
        x_seq.data.zero_()
        return result


class OffTheGrid(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        s, state = super().step(x, state)
        return s * 0.9, state


class FiresAboveOnly(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        u = self.membrane.charge(state.v, x)
        k = fire(u, Stairs(self.stairs.first * 1.0001, 1.0), self.surrogate)
        return self.emission(k), MembraneState(u * (1 - k))


class FiresEarly(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        u = self.membrane.charge(state.v, x)
        k = fire(u, Stairs(self.stairs.first * 0.9999, 1.0), self.surrogate)
        return self.emission(k), MembraneState(u * (1 - k))


class SeesTheBatch(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        return super().step(x + 0.01 * torch.arange(len(x)).to(x).reshape(-1, *[1] * (x.dim() - 1)), state)


class SeesTheGreatest(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        return super().step(x - 0.1 * x.amax(0), state)


class FusesAnotherReset(LIF):
    def fused(self) -> ScanSpec | str:
        spec = super().fused()
        assert isinstance(spec, ScanSpec)
        alphabet, count, soft, detach, *rest = spec.codes
        return spec._replace(codes=(alphabet, count, soft, 1 - detach, *rest))


class FusesAnotherDecay(LIF):
    def fused(self) -> ScanSpec | str:
        spec = super().fused()
        assert isinstance(spec, ScanSpec)
        first, spacing, charge, decay, *rest = spec.numbers
        return spec._replace(numbers=(first, spacing, charge, decay / 2, *rest))


class LooksAhead(LIF):
    def run(self, x_seq: Tensor, state: MembraneState | None = None) -> State:
        return super().run(x_seq - 0.25 * x_seq.mean(0), state)


class Leaks(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        s, state = super().step(x, state)
        return s, MembraneState(state.v * 0.99)


class ResetsHalf(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        u = self.membrane.charge(state.v, x)
        k = fire(u, self.stairs, self.surrogate)
        return self.emission(k), MembraneState(u * (1 - k / 2))


class SubtractsOnce(MultiBit):
    def step(self, x: Tensor, state: MembraneState) -> State:
        u = self.membrane.charge(state.v, x)
        k = fire(u, self.stairs, self.surrogate)
        return self.emission(k), MembraneState(u - k.clamp(max=1).detach() * self.stairs.spacing)


class SubtractsTooMuch(MultiBit):
    def step(self, x: Tensor, state: MembraneState) -> State:
        u = self.membrane.charge(state.v, x)
        k = fire(u, self.stairs, self.surrogate)
        return self.emission(k), MembraneState(u - k.detach() * self.stairs.spacing * 3)


class LosesCharge(Real):
    def step(self, x: Tensor, state: MembraneState) -> State:
        u = self.membrane.charge(state.v, x)
        s = u * self.stairs.level(u)
        return self.emission(s), MembraneState(u - s * 1.5)


class EmitsTooMuch(Real):
    def step(self, x: Tensor, state: MembraneState) -> State:
        s, state = super().step(x, state)
        return s * 1.5, state


class ResetsByTheAmplitude(Ternary):
    def __init__(self) -> None:
        super().__init__(reset="soft", amplitude=2.0)

    def step(self, x: Tensor, state: MembraneState) -> State:
        u = self.membrane.charge(state.v, x)
        s = self.emission(fire(u, self.stairs, self.surrogate))
        return s, MembraneState(u - s * self.stairs.first / 2)


@dataclass(frozen=True)
class Doubled(Rectangle):
    def derivative(self, u: Tensor, stairs: Stairs) -> Tensor:
        return 2 * super().derivative(u, stairs)


class CutsTheInput(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        return super().step(x.detach(), state)


class CutsTheMembrane(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        s, state = super().step(x, state)
        return s, MembraneState(state.v.data)


class ForgetsItsParameter(LIF):
    def __init__(self) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.ones(()))


class SevenTimes(LIF):
    """A straight-through sum that finite differences of the neuron itself cannot see."""

    def step(self, x: Tensor, state: MembraneState) -> State:
        s, state = super().step(x, state)
        return s + 6 * (s - s.detach()), state


class SaysItDoesNotDetach(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        u = self.membrane.charge(state.v, x)
        k = fire(u, self.stairs, self.surrogate)
        return self.emission(k), MembraneState(self.membrane.reset(u, k.detach(), 1.0, False, False))


class SaysItDetaches(LIF):
    def __init__(self) -> None:
        super().__init__(detach_reset=True, reset="soft")

    def step(self, x: Tensor, state: MembraneState) -> State:
        u = self.membrane.charge(state.v, x)
        k = fire(u, self.stairs, self.surrogate)
        return self.emission(k), MembraneState(u - k)


class SaysItCutsTheState(LIF):
    detach_state = True


class CutsTheState(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        s, state = super().step(x, state)
        return s, MembraneState(state.v.detach())


class ReversesTheGain(Adaptive):
    """LSQ's gradient scale with the wrong sign."""

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        s, state = super().step(x, state)
        if self.scale_gradient and self.fixed_step is None:
            raw = self.step_parameter()
            s = s - 2 * (raw - raw.detach()) * s.detach()
        return s, state

    def fused(self) -> str:
        return "its step is the fault"


class Two(NamedTuple):
    first: Tensor
    v: Tensor


class Counts(NamedTuple):
    v: Tensor
    u: Tensor


class PutsTheMembraneSecond(LIF):
    def initial_state(self, x: Tensor) -> Any:
        return Two(torch.zeros_like(x), torch.zeros_like(x))

    def step(self, x: Tensor, state: Any) -> Any:
        s, after = super().step(x, MembraneState(state.v))
        return s, Two(state.first + s, after.v)


class CallsItsSpikesV(LIF):
    """Its first field has the name, not the membrane."""

    def initial_state(self, x: Tensor) -> Any:
        return Counts(torch.zeros_like(x), torch.zeros_like(x))

    def step(self, x: Tensor, state: Any) -> Any:
        s, after = super().step(x, MembraneState(state.u))
        return s, Counts(state.v + s, after.v)


class KeepsAPlainTuple(LIF):
    def initial_state(self, x: Tensor) -> Any:
        return (torch.zeros_like(x),)

    def step(self, x: Tensor, state: Any) -> Any:
        s, after = super().step(x, MembraneState(state[0]))
        return s, (after.v,)


class KeepsATensor(LIF):
    def initial_state(self, x: Tensor) -> Any:
        return torch.zeros_like(x)

    def step(self, x: Tensor, state: Any) -> Any:
        s, after = super().step(x, MembraneState(state))
        return s, after.v


class LosesTheState(LIF):
    def step(self, x: Tensor, state: MembraneState) -> Any:
        return super().step(x, state)[0]


class IsFrozen(LIF):
    def __init__(self) -> None:
        super().__init__(learn_decay=True)
        self.requires_grad_(False)


class HasNoStairs(LIF):
    def __init__(self) -> None:
        super().__init__()
        del self.stairs


class Stumbles(LIF):
    def normalised(self) -> Neuron:
        raise KeyError("amplitude")


class Explodes(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        s, state = super().step(x, state)
        return s + 0 * (x - x).sqrt(), state


class Widens(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        s, state = super().step(x, state)
        return s.double(), state


class LivesOnTheProcessor(LIF):
    def initial_state(self, x: Tensor) -> MembraneState:
        return MembraneState(torch.zeros(x.shape, dtype=x.dtype, device="cpu"))


class IsRandom(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        return super().step(x + 0.1 * torch.rand_like(x), state)


class Branches(LIF):
    def run(self, x_seq: Tensor, state: MembraneState | None = None) -> State:
        return super().run(x_seq if x_seq.isfinite().all() else x_seq.nan_to_num(), state)


class FixesTheBatch(LIF):
    def run(self, x_seq: Tensor, state: MembraneState | None = None) -> State:
        size = int(x_seq.shape[1])
        return super().run(x_seq.reshape(x_seq.shape[0], size, -1) if size == 4 else x_seq, state)


class Silent(LIF):
    def step(self, x: Tensor, state: MembraneState) -> State:
        return super().step(x * 0.01, state)


class MissesTheTop(MultiBit):
    def __init__(self) -> None:
        super().__init__(1, 1)
        self.format = SpikeFormat(0, 7, fraction_bits=1)


class NormalisesToAnother(LIF):
    def normalised(self) -> Neuron:
        return LIF(decay=0.25)


class SharesItsParameters(LIF):
    def __init__(self) -> None:
        super().__init__(learn_decay=True)

    def replicate(self, channels: int) -> Neuron:
        return self


class WritesToItself(LIF):
    def __init__(self) -> None:
        super().__init__()
        self.emission = Emission(train="layer")
        self.format = replace(self.format, amplitude="layer")

    def step(self, x: Tensor, state: MembraneState) -> State:
        assert self.emission.raw_amplitude is not None
        with torch.no_grad():
            self.emission.raw_amplitude.add_(0.125)
        return super().step(x, state)


@pytest.mark.parametrize(
    ("neuron", "words"),
    [
        (Remembers(), "leave parameters, buffers and attributes"),
        (RemembersInItsClass(), "leave parameters, buffers and attributes"),
        (WritesToItself(), "leave parameters, buffers and attributes"),
        (KeepsTheMembrane(), "state_dict must hold parameters"),
        (WritesToTheState(), "must not write to its arguments"),
        (WritesToTheInput(), "must not write to its arguments"),
        (OffTheGrid(), "on the alphabet {0,1}"),
        (EmitsTooMuch(), "must send what the membrane loses"),
        (FiresAboveOnly(), "a membrane at the threshold must fire"),
        (FiresEarly(), "one below must not fire"),
        (SeesTheBatch(), "order of the batch"),
        (SeesTheGreatest(), "size of the batch"),
        (LooksAhead(), "pieces of"),
        pytest.param(FusesAnotherReset(), "the gradient of the input that `step` gives", marks=built),
        pytest.param(FusesAnotherDecay(), "the spikes and states of `step`", marks=built),
        (IsRandom(), "two calls must give equal bits"),
        (Leaks(), "silent neuron must keep its membrane"),
        (ResetsHalf(), "hard reset must leave 0"),
        (SubtractsOnce(1, 1), "v + 0.5·level must equal u"),
        (SubtractsTooMuch(1, 1), "v + 0.5·level must equal u"),
        (LosesCharge(), "must send what the membrane loses"),
        (ResetsByTheAmplitude(), "the normalised neuron must have the same membrane"),
        (NormalisesToAnother(), "the normalised neuron must have the same membrane"),
        (SharesItsParameters(), "a replica must own its parameters"),
        (LIF(surrogate=Doubled()), "derivative of the surrogate"),
        (CutsTheInput(), "the input must get a gradient"),
        (CutsTheMembrane(learn_decay=True), "the gradient of"),
        (ForgetsItsParameter(), "unused must get a gradient"),
        (SevenTimes(), "ds/dx of the first step must be that of the surrogate"),
        (SaysItDoesNotDetach(), "dv/dx of the first step"),
        (SaysItDetaches(), "dv/dx of the first step"),
        (SaysItCutsTheState(), "v must carry no gradient"),
        (CutsTheState(), "dv/dx of the first step"),
        (ReversesTheGain(2), "the gradient of emission.raw_amplitude must be scaled by a positive number"),
        (PutsTheMembraneSecond(), "the first field of the state must be v, the membrane after the last reset, got Two"),
        (CallsItsSpikesV(), "must be that of decay·v + x"),
        (KeepsAPlainTuple(), "must be a NamedTuple of tensors whose first field is v, got tuple (Tensor)"),
        (KeepsATensor(), "must be a NamedTuple of tensors whose first field is v, got Tensor"),
        (LosesTheState(), "step must return (spikes, state), got Tensor"),
        (IsFrozen(), "membrane.raw_decay must get a gradient, got a parameter with requires_grad=False"),
        (HasNoStairs(), "`stairs` must be there, got none; set it to a Stairs"),
        (Stumbles(), "`normalised_sends_levels` must run to its end, got KeyError"),
        (Explodes(), "the gradient of the input"),
        (Widens(), "must keep shape, dtype and device"),
        (LivesOnTheProcessor(), "must run on any device"),
        (Branches(), "must run on any device"),
        (Silent(), "outputs must be spikes"),
        (MissesTheTop(), "levels 0 and 7 must occur"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Neuron) else "",
)
def test_a_broken_neuron_is_rejected(neuron: Neuron, words: str) -> None:
    with pytest.raises(ConformanceError) as caught:
        check_neuron(neuron, compiled=False)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"check_neuron({type(neuron).__name__}): ")


def test_a_neuron_that_does_not_compile_is_rejected() -> None:
    check_neuron(FixesTheBatch(), compiled=False)
    with pytest.raises(ConformanceError, match="compiling in one graph and exporting"):
        check_neuron(FixesTheBatch())


def test_the_suite_leaves_the_neuron_alone() -> None:
    neuron = Ternary(train_amplitude="channel", amplitude=1.5)
    before = {name: p.clone() for name, p in neuron.named_parameters()}
    check_neuron(neuron, compiled=False)
    assert {name: p.shape for name, p in neuron.named_parameters()} == {name: p.shape for name, p in before.items()}
    assert all(torch.equal(p, before[name]) for name, p in neuron.named_parameters())
    assert next(iter(neuron.parameters())).grad is None


def test_a_trained_width_is_kept() -> None:
    neuron = Ternary(train_amplitude="channel").replicate(3)
    check_neuron(neuron, channels=5, compiled=False)  # the neuron's own three channels, not five
    with pytest.raises(ValueError, match="3 channels"):
        neuron(torch.zeros(1, 1, 5))


class Waits(LIF):
    """Silent for a step after a spike, and does not say so."""

    def initial_state(self, x: Tensor) -> Any:
        return Counts(torch.zeros_like(x), torch.zeros_like(x))

    def step(self, x: Tensor, state: Any) -> Any:
        u = self.membrane.charge(state.v, x)
        k = fire(u, self.stairs, self.surrogate) * (1 - state.u)
        return self.emission(k), Counts(self.membrane.reset(u, k, 1.0, False, False), k.detach())


def test_who_holds_spikes_back_says_so() -> None:
    with pytest.raises(ConformanceError, match=r"must be that of decay·v \+ x.*`holds_back`"):
        check_neuron(Waits(), compiled=False)
    quiet = Waits()
    quiet.holds_back = True
    check_neuron(quiet, compiled=False)

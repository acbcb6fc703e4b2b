"""Arguments of constructors are fixed afterwards, or take effect: none is accepted, shown and ignored."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils import parametrize, prune

from bitspike import layers, quantizers
from bitspike.ann2snn.rectifier import Rectifier
from bitspike.fold.expand import UnarySynapse
from bitspike.formats import SpikeFormat, WeightFormat
from bitspike.functional import SURROGATES, Rectangle, Stairs
from bitspike.layers import Linear, Refined, Windows
from bitspike.layers.affine import Affine, Gain
from bitspike.layers.encoders.noise import Noise
from bitspike.layers.potential import Potential
from bitspike.models import mlp
from bitspike.models.blocks import InputBlock
from bitspike.models.current_block import Current, CurrentPatch, DrivenBlock
from bitspike.models.pad import PadShortcut
from bitspike.models.qkformer import DeformedPatch
from bitspike.models.residual_block import ResidualBlock
from bitspike.models.spikformer import Position
from bitspike.models.transformer_block import TransformerBlock
from bitspike.neurons import LIF, Adaptive, Emission, Integer, Membrane, MultiBit, Neuron, Real, Signed
from bitspike.sealed import Sealed, amend
from bitspike.upgrade.layers import Convolution, Merged, SameSize, ZeroPad
from bitspike.upgrade.pointwise import Pointwise
from bitspike.upgrade.transposed import TransposedConvolution
from conftest import HOUSE_FORM

CURRENTS = torch.randn(4, 3, 5, generator=torch.Generator().manual_seed(0)) * 2
IMAGES = torch.rand(4, 3, 2, 8, 8, generator=torch.Generator().manual_seed(1))
WEIGHT = torch.randn(5, 4, generator=torch.Generator().manual_seed(2))
ONES = torch.ones(5)
BLOCK = (2, 2, 1, LIF(), "joint")
ATTEND = layers.SpikeDrivenAttention(4, 5, LIF(), output="current")
GIVEN: dict[type, tuple[Any, ...]] = {  # what constructors must be given
    **{kind: (2,) for kind in (layers.AvgPool2d, layers.SumPool2d, layers.MaxPool2d, layers.TallyMaxPool2d)},
    **{kind: (2,) for kind in (layers.BatchNorm, layers.Restimulate)},
    **{
        layers.Conv2d: (2, 3, 3),
        layers.ConvTranspose2d: (2, 3, 3),
        Linear: (5, 3),
        PadShortcut: (2, 4, 2),
        Refined: (LIF(),),
        Potential: (LIF(),),
    },
    **{Membrane: (0.5, False, "soft", True), quantizers.Factor: ("layer",), Noise: ("here",), Gain: (ONES,)},
    **{Affine: (ONES, ONES), layers.TallyPool: (nn.MaxPool1d(2),), Merged: (nn.ReLU(), "here"), ZeroPad: ((1, 1),)},
    **{ResidualBlock: BLOCK, InputBlock: BLOCK},
    **{SameSize: ((2,),), Pointwise: (nn.Linear(2, 3),), TransposedConvolution: (nn.ConvTranspose2d(2, 3, 1),)},
    **{layers.TallyMap: (nn.Sigmoid(),), layers.Recurrent: (LIF(), Linear(3, 3))},
    **{layers.AxisSum: (3,), layers.ImageView: (2, 3), layers.TokenView: ("maps", 5, 4)},
    **{layers.SpikingSelfAttention: (4, 5, LIF()), DeformedPatch: (2, 4, 1, 0, LIF(), "joint")},
    **{Current: ([layers.Conv2d(4, 4, 1)], LIF(), "joint"), DrivenBlock: (ATTEND, LIF(), "joint")},
    **{CurrentPatch: (4, layers.Conv2d(4, 8, 1), layers.Conv2d(4, 8, 1), LIF())},
    **{Position: (4, LIF(), "joint"), TransformerBlock: (layers.SpikingSelfAttention(4, 5, LIF()), LIF(), "joint")},
    **{Convolution: (nn.Conv2d(2, 3, 1),), UnarySynapse: (Linear(5, 3), 3)},
    **{quantizers.Fixed: (WeightFormat(-1, 1),), Real: (0.5, 0.25, False, "surrogate")},
}
EFFECTIVE: dict[str, Any] = {  # what may be set, to a legal value that is not the default
    **{"surrogate": "atan", "scale_gradient": False, "cancels_only": True, "eps": 0.5, "momentum": 0.9},
}


def kinds() -> list[type[Sealed]]:
    """Every class of the package whose constructor is sealed and takes arguments."""
    found, todo = set(), [Sealed]
    while todo:
        below = [kind for kind in todo.pop().__subclasses__() if kind.__module__.startswith("bitspike.")]
        found.update(below)
        todo += below
    named = [kind for kind in found if inspect.signature(kind).parameters and not inspect.isabstract(kind)]
    return sorted((kind for kind in named if "__init__" in vars(kind)), key=lambda kind: kind.__name__)


def make(kind: type[Sealed], **options: Any) -> Any:
    torch.manual_seed(0)
    own = (4,) if issubclass(kind, layers.Encoder) else ()
    return kind(*GIVEN.get(kind, own), **options)


def input_of(kind: type[Sealed]) -> Tensor:
    if issubclass(kind, quantizers.Quantizer):
        return WEIGHT
    return IMAGES if kind is layers.BatchNorm else CURRENTS


def results(made: Any, x: Tensor) -> list[Tensor]:
    """What it returns for x, the gradient of x and those of the parameters."""
    if isinstance(made, quantizers.Quantizer):
        made = made.replicate(x)
    x = x.clone().requires_grad_()
    y = made(x)
    y.square().sum().backward()
    assert x.grad is not None
    return [y.detach(), x.grad, *(p.grad for p in made.parameters() if p.grad is not None)]


def test_all_kinds_are_here() -> None:
    names = {kind.__name__ for kind in kinds()}
    assert len(names) > 40
    assert {"LIF", "Adaptive", "Membrane", "Emission", "Uniform", "Windows", "Refined", "Conv2d", "Poisson"} <= names
    unsealed = [kind for kind in (Neuron, layers.TimeLayer, quantizers.Quantizer) if Sealed not in kind.__mro__]
    assert not unsealed


@pytest.mark.parametrize("kind", kinds(), ids=lambda kind: kind.__name__)
def test_an_argument_is_refused_or_takes_effect(kind: type[Sealed]) -> None:
    for name in inspect.signature(kind).parameters:
        value = EFFECTIVE.get(name, 7)
        made = make(kind)
        before = repr(made)
        try:
            setattr(made, name, value)
        except AttributeError as refused:
            assert HOUSE_FORM.match(str(refused)), refused
            assert name in str(refused), refused
            assert repr(made) == before
            continue
        assert name in EFFECTIVE or name == "takes_back", f"{kind.__name__}.{name} was set to {value}"
        if name in EFFECTIVE:
            x = input_of(kind)
            new = make(kind, **{name: value})
            plain = results(make(kind), x)
            for found, wanted in zip(results(made, x), results(new, x), strict=True):
                assert torch.equal(found, wanted), f"{kind.__name__}.{name}"
            if name != "momentum":  # of the running statistics
                assert any(not torch.equal(a, b) for a, b in zip(results(new, x), plain, strict=True)), name
            assert repr(made) == repr(new)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        (LIF(), "stairs", Stairs(0.5)),
        (LIF(), "format", SpikeFormat(-1, 1)),
        (LIF(), "emission", Emission(2.0)),
        (LIF(), "membrane", Membrane(0.1, False, "soft", True)),
        (LIF().membrane, "fixed_decay", 0.1),
        (LIF().membrane, "reset_kind", "soft"),
        (LIF().emission, "initial", 2.0),
        (LIF().emission, "slope", 0.5),
        (MultiBit(), "bits", 3),
        (Adaptive(), "formats", ()),
        (Adaptive(), "surrogate", "atan"),
        (quantizers.Uniform(), "q", 3),
        (quantizers.Sign(), "format", WeightFormat()),
        (layers.BatchNorm(3), "height", 2.0),
        (layers.Conv2d(2, 4, 1), "groups", 2),
        (Refined(LIF()), "threshold", 0.5),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_was_derived_is_fixed(part: Sealed, name: str, value: object) -> None:
    with pytest.raises(AttributeError, match=HOUSE_FORM):
        setattr(part, name, value)


def test_the_message_says_what_to_do() -> None:
    def text(made: Sealed, name: str, value: object) -> str:
        with pytest.raises(AttributeError) as caught:
            setattr(made, name, value)
        return str(caught.value)

    assert "make a new one, LIF(threshold=0.5), and put it in its place" in text(LIF(), "threshold", 0.5)
    assert "call set_steps" in text(Refined(LIF()), "T", 4)
    assert "call set_steps" in text(Windows(2), "T", 4)
    assert "call set_slope" in text(LIF().emission, "slope", 0.5)
    assert "call rectify" in text(Signed(), "slope", 0.5)


def test_records_and_surrogates_are_frozen() -> None:
    for record, name in ((Rectangle(), "width"), (Rectifier("ReLU"), "ceiling"), (SpikeFormat(), "high")):
        with pytest.raises(FrozenInstanceError):
            setattr(record, name, 2)
    for _, surrogate in SURROGATES.items():
        for name in inspect.signature(surrogate).parameters:
            with pytest.raises(FrozenInstanceError):
                setattr(surrogate(), name, 2.0)


def test_a_surrogate_that_is_set_is_checked() -> None:
    neuron = MultiBit()
    with pytest.raises(ValueError, match="must not overlap"):
        neuron.surrogate = Rectangle(9.0)
    with pytest.raises(ValueError, match="surrogate registry"):
        neuron.surrogate = "atann"  # type: ignore[assignment]
    with pytest.raises(ValueError, match="slope must be 1"):
        Signed(slope=0.5).cancels_only = True


def test_copies_pickles_and_loaded_states_stay_sealed() -> None:
    """What torch does to modules goes on: only the user's assignment is refused."""
    neuron = Integer(3, learn_bits="integer")
    copies = [copy.deepcopy(neuron), pickle.loads(pickle.dumps(neuron)), neuron.replicate(4), neuron.normalised()]
    copies[0].load_state_dict(neuron.state_dict())
    copies[1].load_state_dict(neuron.double().state_dict(), assign=True)
    copies[2].to(torch.float64).requires_grad_(False).eval()
    for made in copies:
        with pytest.raises(AttributeError, match="threshold is fixed"):
            made.threshold = 0.5


def test_learned_numbers_still_move() -> None:
    neuron, weight = Integer(3, learn_bits="integer"), quantizers.LearnedBits(4).replicate(WEIGHT)
    refined = Refined(neuron, learn_T=True, squeeze="windows", bound=5)
    for raw, value in ((neuron.raw_bits, 4.0), (weight.raw_bits, 2.0), (refined.raw_steps, 4.0)):  # type: ignore[attr-defined]
        raw.data.fill_(value)
    for part in (neuron, weight, refined):
        part.refresh()  # type: ignore[union-attr,operator]
    assert (neuron.D, neuron.format.high, weight.bits, refined.time_steps) == (15, 15, 2, 4)
    refined.set_steps(7)
    assert (refined.time_steps, refined.bound) == (7, 7)


def test_parameters_and_modules_are_replaced_by_their_like() -> None:
    conv = layers.Conv2d(2, 3, 1)
    conv.weight, conv.bias = nn.Parameter(torch.zeros(3, 2, 1, 1)), nn.Parameter(torch.ones(3))
    assert torch.equal(conv(IMAGES), torch.ones(4, 3, 3, 8, 8))
    conv.bias = None
    for name, value in (("bias", True), ("weight", quantizers.Uniform(2))):
        with pytest.raises(AttributeError, match=f"{name} is fixed"):
            setattr(conv, name, value)
    gain = Gain(ONES)
    gain.factor = 2 * ONES
    assert torch.equal(gain(CURRENTS), 2 * CURRENTS)
    refined = Refined(LIF())
    refined.neuron = MultiBit()
    assert refined.format == MultiBit().format


def test_tools_of_torch_work_on_weights() -> None:
    """Parametrizations, pruning and functional calls set attributes of layers."""

    class Double(nn.Module):
        def forward(self, w: Tensor) -> Tensor:
            return 2 * w

    conv, linear = layers.Conv2d(2, 3, 1), Linear(5, 3)
    plain = conv(IMAGES)
    parametrize.register_parametrization(conv, "weight", Double())
    torch.testing.assert_close(conv(IMAGES), 2 * plain)
    with pytest.raises(AttributeError, match="stride is fixed"):
        conv.stride = 2
    parametrize.remove_parametrizations(conv, "weight")
    prune.l1_unstructured(linear, "weight", amount=15)
    assert not (linear(CURRENTS) - linear.bias).any()
    prune.remove(linear, "weight")
    given = {"weight": torch.zeros(3, 5), "bias": torch.ones(3)}
    assert torch.equal(functional_call(linear, given, (CURRENTS,)), torch.ones(4, 3, 3))
    with torch.device("meta"):
        neuron = LIF(learn_decay=True)
    assert neuron.to_empty(device="cpu").membrane.raw_decay is not None


def test_a_subclass_is_sealed_when_its_own_constructor_is_done() -> None:
    class Mine(LIF):
        settable = ("pace",)

        def __init__(self, pace: float = 1.0, gap: float = 1.0, **options: Any) -> None:
            super().__init__(**options)
            self.pace = self.gap = pace
            self.gap = gap

    neuron = Mine(2.0, threshold=0.5)
    neuron.pace = 3.0
    for name in ("gap", "threshold", "decay"):
        with pytest.raises(AttributeError, match=f"Mine: {name} is fixed"):
            setattr(neuron, name, 0.25)
    amend(neuron, gap=4.0)
    assert neuron.gap == 4.0
    assert list(inspect.signature(Mine).parameters) == ["pace", "gap", "options"]


def test_a_network_keeps_its_neurons_as_they_were_made() -> None:
    """The report: a threshold set later was shown by repr and ignored."""
    net = mlp(LIF(threshold=1.0), T=2, shape=(4,), hidden=(3,), classes=2)
    neuron = next(module for module in net.modules() if isinstance(module, LIF))
    with pytest.raises(AttributeError, match=re.escape("LIF(threshold=0.5)")):
        neuron.threshold = 0.5
    assert "threshold=1" in repr(neuron)

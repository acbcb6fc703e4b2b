"""What `builder` makes of a function: its arguments, docstring, errors and the line it warns at."""

from __future__ import annotations

import inspect
import re
from typing import get_type_hints

import pytest

from bitspike.models import MODELS, Network, he_resnet20, resnet18_cifar, vgg11
from bitspike.neurons import LIF

COMMON_FIRST = ["neuron", "weight", "T", "shape", "classes", "width"]
COMMON_LAST = ["wiring", "norm", "encoder", "readout", "input_neuron", "policy"]
MADE = [name for name, build in MODELS.items() if hasattr(build, "__wrapped__")]


@pytest.mark.parametrize("name", MADE)
def test_arguments_are_shown_in_order_and_described(name: str) -> None:
    build = MODELS[name]
    shown = list(inspect.signature(build).parameters)
    assert shown[:6] == COMMON_FIRST and shown[-6:] == COMMON_LAST and len(shown) <= 16
    assert list(get_type_hints(build)) == [*shown, "return"] and get_type_hints(build)["return"] is Network
    text = inspect.getdoc(build) or ""
    told = text.partition("Args:\n")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"(?:^    |\. )(\w+): ", told, re.MULTILINE)) == sorted(shown)
    assert text.index("Args:") < text.index("Returns:") < text.index("Raises:") < text.index(">>>")


def test_families_have_defaults_of_their_own() -> None:
    found = {name: inspect.signature(MODELS[name]).parameters for name in MADE}
    assert {name: p["width"].default for name, p in found.items() if p["width"].default != 64} == {
        **{"resnet19": 128, "wide_resnet20": 128, "he_resnet20": 16, "he_resnet32": 16, "conv1d": 32},
        **{"spikformer": 384, "spike_driven_transformer": 512, "qkformer": 384, "maxformer": 384, "e_spikeformer": 48},
    }
    assert found["vggsnn"]["T"].default == 10 and found["vggsnn"]["shape"].default == (2, 48, 48)
    assert found["resnet34"]["classes"].default == 1000 and not found["resnet34"]["sew"].default


def test_positions_count_as_in_the_signature() -> None:
    net = he_resnet20(LIF(), None, 1, (3, 8, 8), 5, 4, "stride", "input")
    assert isinstance(net.body.neuron, LIF) and any(m.role == "downsample" for m in net.modules() if hasattr(m, "role"))
    assert net.encoder.T == 1 and net.body.classifier.weight.shape == (5, 16)


@pytest.mark.parametrize(
    ("arguments", "options", "text"),
    [
        ((), {}, r"^vgg11: missing a required argument: 'neuron'"),
        ((LIF(),), {"poool": "max"}, r"^vgg11: got an unexpected keyword argument 'poool'"),
        ((LIF(),) * 14, {}, r"^vgg11: too many positional arguments"),
    ],
)
def test_wrong_arguments_are_refused_by_name(arguments: tuple[object, ...], options: dict, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        vgg11(*arguments, **options)  # type: ignore[arg-type]


def test_inert_factors_are_warned_of_at_the_users_line() -> None:
    neuron = LIF(train_amplitude="layer")
    with pytest.warns(UserWarning, match="inert") as caught:
        line = inspect.currentframe().f_lineno + 1  # type: ignore[union-attr]
        resnet18_cifar(neuron, width=2, shape=(3, 8, 8), wiring="input")
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, line)]

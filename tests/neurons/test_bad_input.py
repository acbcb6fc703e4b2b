"""One clear error for every wrong argument of a neuron, at construction or at the call."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch

from bitspike.neurons import (
    LIF,
    NEURONS,
    Adaptive,
    Emission,
    Integer,
    Membrane,
    MembraneState,
    MultiBit,
    Neuron,
    Real,
    Ternary,
)
from bitspike.neurons.base import as_surrogate

REGISTERED = list(NEURONS)


def default(name: str) -> Neuron:
    return NEURONS[name]()


@pytest.mark.parametrize("name", REGISTERED)
def test_no_time_step(name: str, refuses: Any) -> None:
    with refuses(type(default(name)).__name__, "T (axis 0) must be >= 1", "got 0"):
        default(name)(torch.zeros(0, 2, 3))


@pytest.mark.parametrize("name", REGISTERED)
def test_no_batch_axis(name: str, refuses: Any) -> None:
    with refuses(type(default(name)).__name__, "[T, B, ...]", "got [4]"):
        default(name)(torch.zeros(4))


@pytest.mark.parametrize("name", REGISTERED)
@pytest.mark.parametrize("dtype", [torch.int64, torch.uint8, torch.bool, torch.complex64])
def test_not_floating(name: str, dtype: torch.dtype, refuses: Any) -> None:
    with refuses(type(default(name)).__name__, "floating-point", str(dtype), kind=TypeError):
        default(name)(torch.zeros(2, 2, 3, dtype=dtype))


@pytest.mark.parametrize("name", REGISTERED)
def test_not_a_tensor(name: str, refuses: Any) -> None:
    with refuses(type(default(name)).__name__, "floating-point tensor", "list", kind=TypeError):
        default(name)([[0.0]])


@pytest.mark.parametrize("name", REGISTERED)
def test_a_state_of_another_batch(name: str, refuses: Any) -> None:
    neuron = default(name)
    _, state = neuron.run(torch.zeros(2, 3, 4))
    with refuses(type(neuron).__name__, "[5, 4]", "got [3, 4]"):
        neuron.run(torch.zeros(2, 5, 4), state)


@pytest.mark.parametrize("name", REGISTERED)
def test_wrong_channels_for_an_amplitude(name: str, refuses: Any) -> None:
    option = "sharing" if name == "adaptive" else "train_amplitude"
    neuron = NEURONS[name](**{option: "channel"}).replicate(3)
    assert neuron(torch.zeros(1, 2, 3)).shape == (1, 2, 3)
    for shape in ((1, 2, 4), (1, 2, 4, 3), (1, 3)):
        with refuses("Emission", "3 channels", f"got {list(shape[1:])}"):
            neuron(torch.zeros(shape))


@pytest.mark.parametrize("name", REGISTERED)
@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"threshold": 0.0}, "threshold must be positive"),
        ({"threshold": -1.0}, "threshold must be positive"),
        ({"threshold": float("nan")}, "threshold must be positive"),
        ({"threshold": float("inf")}, "threshold must be positive"),
        ({"decay": -0.1}, "decay"),
        ({"decay": 1.1}, "decay"),
        ({"decay": float("nan")}, "decay"),
        ({"decay": 1.0, "learn_decay": True}, "learnable decay"),
        ({"decay": 0.0, "learn_decay": True}, "learnable decay"),
        ({"amplitude": 0.0}, "amplitude"),
        ({"amplitude": -1.0, "train_amplitude": "layer"}, "amplitude"),
        ({"amplitude": 0.0, "train_amplitude": "layer", "raw_amplitude": True}, "amplitude"),
        ({"train_amplitude": "chanel"}, "did you mean 'channel'?"),
        ({"surrogate": "attan"}, "did you mean 'atan'?"),
        ({"surrogate": "atan:two"}, "number"),
        ({"surrogate": "atan:-2"}, "alpha"),
    ],
    ids=str,
)
def test_bad_options(name: str, options: dict[str, Any], word: str, refuses: Any) -> None:
    if not options.keys() <= inspect.signature(NEURONS[name]).parameters.keys():
        pytest.skip(f"{name} has no such option")
    with pytest.raises(ValueError) as caught:
        NEURONS[name](**options)
    with refuses(str(caught.value).split(":")[0], word):
        NEURONS[name](**options)


@pytest.mark.parametrize(
    ("make", "where", "words"),
    [
        (lambda: LIF(reset="sofft"), "Membrane", ["did you mean 'soft'?"]),
        (lambda: MultiBit(0, 0), "MultiBit", ["m + n must lie in [1, 8]", "got 0"]),
        (lambda: MultiBit(5, 4), "MultiBit", ["m + n must lie in [1, 8]", "got 9"]),
        (lambda: MultiBit(-1, 3), "MultiBit", ["m must lie", "got -1"]),
        (lambda: Adaptive(0), "Adaptive", ["bits must lie in [1, 8]", "got 0"]),
        (lambda: Adaptive(1, signed=True), "Adaptive", ["bits must lie in [2, 8]", "got 1"]),
        (lambda: Adaptive(4, bound=3), "Adaptive", ["bound must lie in [4, 16]", "got 3"]),
        (lambda: Adaptive(sharing="input"), "Adaptive", ["sharing", "'layer', 'channel'"]),
        (lambda: Adaptive(bit_gradient="half"), "Adaptive", ["bit_gradient", "'true', 'release'"]),
        (lambda: Adaptive(steps=0), "Adaptive", ["steps must lie in [1, 1000]"]),
        (lambda: Integer(0), "Integer", ["D must lie in [1, 255]", "got 0"]),
        (lambda: Integer(256), "Integer", ["D must lie in [1, 255]", "got 256"]),
        (lambda: Real(gradient="ste"), "Real", ["gradient", "'mask', 'surrogate'"]),
        (lambda: Ternary(surrogate="rectangle:1.5"), "Ternary", ["must not overlap"]),
        (lambda: MultiBit(1, 1, surrogate="rectangle:1.0"), "MultiBit", ["must not overlap"]),
        (lambda: Integer(2, surrogate="rectangle:1.5"), "Integer", ["must not overlap"]),
        (lambda: as_surrogate(""), "surrogate registry", ["got ''"]),
        (lambda: Membrane(0.5, False, "none", False), "Membrane", ["reset"]),
        (lambda: Emission(1.0, "neuron"), "Emission", ["train_amplitude"]),
        (lambda: NEURONS["tenary"], "neuron registry", ["did you mean 'ternary'?"]),
    ],
)
def test_bad_values(make: Callable[[], object], where: str, words: list[str], refuses: Any) -> None:
    with refuses(where, *words):
        make()


@pytest.mark.parametrize("option", ["threshold", "decay", "initial", "floor"])
def test_constants_are_numbers(option: str, refuses: Any) -> None:
    where = "LIF" if option == "threshold" else "Membrane"
    with refuses(where, f"{option} must be a number", "got str", kind=TypeError):
        LIF(**{option: "1"})


@pytest.mark.parametrize("make", [lambda: MultiBit(1.0, 1), lambda: Integer("4"), lambda: MultiBit(True, 1)])
def test_counts_are_ints(make: Callable[[], object], refuses: Any) -> None:
    with pytest.raises(TypeError) as caught:
        make()
    with refuses(str(caught.value).split(":")[0], "must be an int", kind=TypeError):
        make()


def test_a_state_may_come_from_a_checkpoint() -> None:
    """Any tuple with a field v is a state; its shape is all that is asked."""
    assert LIF().run(torch.zeros(1, 2, 3), MembraneState(torch.ones(2, 3)))[1].v.tolist() == [[0.5] * 3] * 2


BAD = (0, -1, float("nan"), float("inf"), 10**30, 2**31 - 1, 1e300, True, (1,), "x")


@pytest.mark.parametrize("name", list(NEURONS))
def test_no_argument_of_a_constructor_ends_in_another_error(name: str) -> None:
    """A number out of range, or another kind of object, is taken or refused in the house form."""
    for parameter in inspect.signature(NEURONS[name]).parameters:
        for value in BAD:
            try:
                NEURONS[name](**{parameter: value})
            except (ValueError, TypeError) as error:
                assert ", got " in str(error), f"{parameter}={value!r}: {error}"

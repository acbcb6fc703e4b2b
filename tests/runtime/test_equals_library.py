"""Rows against the library's own neurons and layers, on a dyadic grid, where both are exact: not one number differs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bitspike.formats import WeightFormat
from bitspike.formats import pack as pack_torch
from bitspike.layers import AvgPool2d, MeanReadout, Potential, TallyMaxPool2d, Windows
from bitspike.models.pad import PadShortcut
from bitspike.neurons import LIF, Adaptive, Integer, MultiBit, Neuron, Real, Signed, Ternary
from bitspike.runtime import INPUT, Builder, Grid, Input, Value
from bitspike.runtime.packing import pack, unpack
from programs.machines import one

E, T = 20, 6
STRIDE = 2**-8  # currents are multiples of it: six steps of a decay of 1/4 stay whole
UNIT = 2**E


def neuron_of(kind: str) -> tuple[Neuron, dict[str, Any], dict[str, list[float]]]:
    """A neuron of the library, and its row with constants in units of one."""
    hard, soft = {"reset": "hard"}, {"reset": "soft"}
    if kind.startswith("lif"):
        decay = {"lif soft": 1.0}.get(kind, 0.25)
        row = {"count": [1], **(soft if "soft" in kind else hard), "decay": [1, 0] if decay == 1 else [1, 2]}
        tensors = {"first": [1.0]} | ({"charge": [1.0]} if "soft" in kind else {})
        if "floor" in kind:
            return LIF(decay=0.25, floor=-0.5, initial=0.25), row, tensors | {"floor": [-0.5], "initial": [0.25]}
        return LIF(decay=decay, reset=row["reset"]), row, tensors
    return {
        "ternary": (Ternary(), {"count": [1], "signed": True, **hard, "decay": [1, 2]}, {"first": [0.5]}),
        "ternary soft": (
            Ternary(reset="soft"),
            {"count": [1], "signed": True, **soft, "decay": [1, 2]},
            {"first": [0.5], "charge": [0.5]},
        ),
        "multibit": (
            MultiBit(1, 2, decay=0.5),
            {"count": [7], **soft, "decay": [1, 1], "exponent": 2},
            {"first": [0.25], "spacing": [0.25], "charge": [0.25]},
        ),
        "multibit hard": (
            MultiBit(1, 1, decay=0.5, reset="hard"),
            {"count": [3], **hard, "decay": [1, 1], "exponent": 1},
            {"first": [0.5], "spacing": [0.5]},
        ),
        "integer": (
            Integer(5, threshold=0.5),
            {"count": [5], **soft, "decay": [1, 2]},
            {"first": [0.25], "spacing": [0.5], "charge": [0.5]},
        ),
        "signed": (
            Signed(3, slope=0.25),
            {"count": [3], "signed": True, **soft, "decay": [1, 2], "up": 4, "exponent": 2},
            {"first": [0.5], "spacing": [1.0], "charge": [1.0]},
        ),
        "signed cancels": (
            Signed(2, decay=1.0, cancels_only=True),
            {"count": [2], "signed": True, **soft, "cancel": True},
            {"first": [0.5], "spacing": [1.0], "charge": [1.0]},
        ),
        "adaptive": (
            Adaptive(3, threshold=0.5, decay=0.5, signed=True),
            {"count": [3], "signed": True, **soft, "decay": [1, 1], "exponent": 1},
            {"first": [0.25], "spacing": [0.5], "charge": [0.5]},
        ),
        "real": (
            Real(decay=0.5),
            {"count": [65535], **hard, "decay": [1, 1], "exponent": 14},
            {"first": [2**-15], "spacing": [2**-14], "gate": [0.5]},
        ),
    }[kind]


KINDS = ["lif", "lif soft", "lif floor", "ternary", "ternary soft", "multibit", "multibit hard", "integer", "signed"]
KINDS += ["signed cancels", "adaptive", "real"]


def currents(shape: tuple[int, ...]) -> Tensor:
    random = np.random.default_rng(0)
    return torch.from_numpy(random.integers(-300, 500, shape) * STRIDE)


@pytest.mark.parametrize("kind", KINDS)
def test_fire_equals_the_neuron(kind: str) -> None:
    neuron, row, constants = neuron_of(kind)
    x = currents((T, 2, 3, 40))
    expected = neuron.double().eval()(x).detach()
    assert 0.02 < float((expected != 0).double().mean()) < 0.98
    levels = (x.numpy() * UNIT).astype(int)
    value = Value((3, 40), int(levels.min()), int(levels.max()), E, T)
    tensors = {role: np.round(np.array(numbers) * UNIT).astype(int) for role, numbers in constants.items()}
    result = one("fire", value, row, ("s", "u"), **tensors)(levels)
    assert np.array_equal(np.ldexp(result.levels.astype(float), -result.exponent), expected.numpy())
    assert not result.clamped


def test_the_second_output_is_the_potential() -> None:
    neuron, row, constants = neuron_of("multibit")
    x = currents((T, 2, 3))
    expected = Potential(neuron)(x, neuron.double()(x)).detach()
    levels = (x.numpy() * UNIT).astype(int)
    b = Builder(Input(Value((3,), int(levels.min()), int(levels.max()), E, T)))
    tensors = {role: b.constant((np.array(numbers) * UNIT).astype(int)) for role, numbers in constants.items()}
    b.add("fire", [INPUT], row, tensors, outputs=("s", "u"))
    assert np.array_equal(b.finish("u")(levels).values, expected.numpy())


def test_adaptive_steps_of_its_own_equal_rows_by_step() -> None:
    neuron = Adaptive(2, steps=3, learn_bits=False, decay=0.5)
    neuron.emission.raw_amplitude.data = torch.tensor([[0.5], [1.0], [0.25]])  # type: ignore[union-attr]
    x = currents((T, 2, 3))
    expected = neuron.double().normalised()(x).detach()  # folded: levels; their worth is a gain by step
    levels = (x.numpy() * UNIT).astype(int)
    steps = np.array([[0.5], [1.0], [0.25]]) * UNIT
    value = Value((3,), int(levels.min()), int(levels.max()), E, T)
    row = {"count": [3], "reset": "soft", "decay": [1, 1]}
    tensors = {"first": steps.astype(int) // 2, "spacing": steps.astype(int), "charge": steps.astype(int)}
    assert np.array_equal(one("fire", value, row, **tensors)(levels).levels, expected.numpy())


def integers(*shape: int, low: int = -5, high: int = 5) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).integers(low, high + 1, shape)).double()


@pytest.mark.parametrize("sides", [(5, 6), (4, 7), (3, 3)])
@pytest.mark.parametrize(
    "place", [(2, 2, 0, True), (2, 2, 0, False), (3, 2, 1, False), (3, 2, 1, True), (2, 1, 0, True)]
)
def test_sumpool_equals_the_folded_average_pool(place: tuple[int, int, int, bool], sides: tuple[int, int]) -> None:
    kernel, stride, padding, ceil = place
    pool, x = AvgPool2d(kernel, stride, padding, ceil), integers(2, 2, 3, *sides)
    pool.divisor = pool.window(tuple(x.shape))
    attributes = {"kernel": [kernel] * 2, "stride": [stride] * 2, "padding": [padding] * 2, "ceil": ceil}
    program = one("sumpool", Value((3, *sides), -5, 5, 0, 2), {**attributes, "divisor": pool.divisor})
    assert np.array_equal(program(x.numpy().astype(int)).levels, pool(x).numpy())


@pytest.mark.parametrize("ceil", [False, True])
@pytest.mark.parametrize("place", [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2), (2, 3, 1, 2)])
def test_maxima_equal_torch(place: tuple[int, int, int, int], ceil: bool) -> None:
    kernel, stride, padding, dilation = place
    x = integers(2, 2, 3, 7, 6)
    pool = nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil)
    names = ("kernel", "stride", "padding", "dilation")
    attributes: dict[str, Any] = {name: [number] * 2 for name, number in zip(names, place, strict=True)}
    program = one("maxpool", Value((3, 7, 6), -5, 5, 0, 2), {**attributes, "ceil": ceil})
    assert np.array_equal(program(x.numpy().astype(int)).levels, pool(x.flatten(0, 1)).unflatten(0, (2, 2)).numpy())


def test_tally_equals_the_layer() -> None:
    x = integers(4, 2, 3, 5, 5, low=-1, high=1)
    attributes = {"kernel": [2, 2], "stride": [2, 2], "padding": [0, 0], "dilation": [1, 1]}
    program = one("tally", Value((3, 5, 5), -1, 1, 0, 4), attributes)
    assert np.array_equal(program(x.numpy().astype(int)).levels, TallyMaxPool2d(2)(x).numpy())


@pytest.mark.parametrize(("frames", "steps"), [(4, 1), (4, 2), (3, 2), (1, 3), (2, 5), (6, 4)])
def test_windows_equal_the_layer(frames: int, steps: int) -> None:
    x, layer = integers(frames, 2, 3), Windows(steps)
    layer.summed = True
    program = one("windows", Value((3,), -5, 5, 0, frames), {"frames": frames, "steps": steps})
    assert np.array_equal(program(x.numpy().astype(int)).levels, layer(x).numpy())


def test_convolution_equals_torch() -> None:
    conv = nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2).double()
    with torch.no_grad():
        conv.weight.copy_(integers(6, 2, 3, 2, low=-7, high=7))
        conv.bias.copy_(integers(6))  # type: ignore[union-attr]
    x = integers(1, 3, 4, 7, 6)
    place = {"stride": [2, 1], "before": [1, 2], "after": [1, 2], "dilation": [1, 2], "groups": 2}
    tensors = {"weight": conv.weight.detach().numpy().astype(int), "bias": conv.bias.detach().numpy().astype(int)}  # type: ignore[union-attr]
    program = one("convolution", Value((4, 7, 6), -5, 5), place, **tensors)
    assert np.array_equal(program(x.numpy().astype(int)).levels[0], conv(x[0]).detach().numpy())


def test_slice_and_pad_equal_the_shortcut_without_parameters() -> None:
    layer, x = PadShortcut(2, 5, 2), integers(2, 2, 2, 5, 3)
    b = Builder(Input(Value((2, 5, 3), -5, 5, 0, 2)))
    y = b.add("slice", [INPUT], {"start": [0, 0, 0], "stop": [2, 5, 3], "stride": [1, 2, 2]})
    y = b.add("pad", [y], {"before": [layer.before, 0, 0], "after": [layer.behind, 0, 0]})
    assert np.array_equal(b.finish(y)(x.numpy().astype(int)).levels, layer(x).numpy())


def test_mean_equals_the_read_out() -> None:
    layer, x = MeanReadout(3), integers(5, 2, 4)
    layer.keep[0] = 0  # type: ignore[index]
    result = one("mean", Value((4,), -5, 5, 0, 5), {"keep": [0, 1, 1]})(x.numpy().astype(int))
    assert np.array_equal(result.values, layer(x).numpy()) and result.steps == 4


@pytest.mark.parametrize(
    "record",
    [
        WeightFormat(-1, 1, stride=2),
        WeightFormat(-1, 1),
        WeightFormat(-7, 7),
        WeightFormat(-127, 127),
        WeightFormat(-4, 4, spacing="power"),
        WeightFormat(-4, 4, stride=2, spacing="power"),
        WeightFormat(0, 4, spacing="power"),
        WeightFormat(-32768, 32767),
    ],
)
def test_packed_weights_are_the_same_bytes(record: WeightFormat) -> None:
    grid = Grid(record.low, record.high, record.stride, record.spacing)
    assert tuple(grid.levels) == tuple(record.grid()) and grid.bits == record.bits
    levels = np.random.default_rng(0).choice(np.array(grid.levels), (3, 7))
    packed = pack(levels, grid)
    assert np.array_equal(packed, pack_torch(torch.from_numpy(levels), record).numpy())
    assert np.array_equal(unpack(packed, grid, (3, 7)), levels)

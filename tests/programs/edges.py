"""Programs of one operation with numbers at the ends of 8, 16 and 32 bits, and every width of a row of lanes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from bitspike.runtime import INPUT, Builder, Input, Program, Value

from .machines import one

EDGES = [-(2**31), -(2**31) + 1, -(2**30), -41, -40, -1, 0, 1, 39, 40, 41, 2**30, 2**31 - 41, 2**31 - 2, 2**31 - 1]
Pairs = Iterator[tuple[Program, Any]]


def neurons(decay: list[int], count: int, signed: bool, reset: str, bounds: bool) -> Pairs:
    """Currents that overflow the membrane, membranes at the ends; ``bounds`` adds a floor and, unsigned, a gate."""
    for channels in (1, 7, 15, 16, 33):
        tensors: dict[str, Any] = {"first": np.array([40])}
        if count > 1:
            tensors["spacing"] = np.array([64])
        if reset == "soft":
            tensors["charge"] = np.array([2**31 - 1 if count < 3 else 64])
        attributes = {"count": [count], "signed": signed, "reset": reset, "decay": decay}
        if signed:
            attributes |= {"up": 3, "down": 2, "cancel": True} if count == 3 else {}
        if bounds:
            tensors["floor"] = np.arange(channels) - 45
            if not signed:
                tensors["gate"] = np.arange(channels) + 37
        program = one("fire", Value((channels,), -(2**31), 2**31 - 1, 0, 6), attributes, ("s", "u"), **tensors)
        yield program, np.random.default_rng(channels).choice(EDGES, (6, 7, channels))


def currents(shape: str, decay: list[int], count: int, signed: bool, reset: str) -> Pairs:
    """Scaled sums straight into a neuron, whose membrane leaves 32 bits after some steps, in some channels alone.

    ``shape``: the scalings that stand between the input and the neuron.
    """
    for channels in (1, 15, 16, 33):
        random = np.random.default_rng(channels)
        b = Builder(Input(Value((channels,), -(2**29), 2**29 - 1, 0, 6)))

        def scaled(x: str, m: Any, shift: int, bias: Any = None, b: Builder = b) -> str:
            tensors = {"multiplier": b.constant(np.asarray(m))}
            if bias is not None:
                tensors["bias"] = b.constant(np.asarray(bias))
            ends = {"low": -(2**31), "high": 2**31 - 1}
            return b.add("rescale", [x], {"shift": shift, "exponent": 0, **ends}, tensors)

        wide = random.choice([2**30 - 1, -(2**30), 1, 12345], channels)
        bias = random.choice([-(2**28), 2**28, 0, 7], channels)
        if shape == "plain":
            x = INPUT
        elif shape == "narrow":
            x = scaled(INPUT, np.full(channels, 3), 2, bias)
        elif shape == "wide":
            x = scaled(INPUT, wide, 30, bias)
        elif shape == "far":  # shifts beyond 32 bits
            x = scaled(scaled(INPUT, np.full(channels, 3), 0), wide, 33, bias)
        else:
            small = b.add(
                "fire", [INPUT], {"count": [1], "signed": True, "reset": "hard"}, {"first": b.constant(np.array([9]))}
            )
            x = b.add("add", [scaled(INPUT, wide, 31, bias), scaled(small, np.full(channels, 2**28), 0)])
            if shape == "shifted":
                x = scaled(x, [1], 1)
            elif shape == "scaled":
                x = scaled(x, random.choice([2**30 - 1, -(2**29)], channels), 30, [3])
        constants = {"first": b.constant(np.array([40]))}
        if count > 1:
            constants["spacing"] = b.constant(np.array([64]))
        if reset == "soft":
            constants["charge"] = b.constant(np.array([2**31 - 1 if count == 1 and channels == 33 else 64]))
        if count > 1 and reset == "hard" and not signed and channels % 2:
            constants["gate"] = b.constant(random.choice([1, 41, 200, 2**31 - 1], channels))
        cancel = signed and channels % 2 == 1 and channels > 1
        attributes = {"count": [count], "signed": signed, "reset": reset, "decay": decay, "cancel": cancel}
        x = b.add("fire", [x], attributes, constants)
        ends = [end for end in EDGES if abs(end) < 2**29]
        yield b.finish(x), random.choice([*ends, 2**29 - 1, -(2**29), 2**28], (6, 7, channels))


def bypassed(shift: int, decay: list[int], count: int, signed: bool, reset: str) -> Pairs:
    """As behind a residual block: a scaled sum and bytes times a number, together shifted, straight into a neuron.

    The first sample drives every other membrane out of 32 bits; currents of the other channels are about a threshold.
    """
    for channels in (7, 16, 33):
        random, large = np.random.default_rng(channels), np.arange(channels) % 2 == 1
        b = Builder(Input(Value((channels,), -127, 127, 0, 6)))
        ends = {"exponent": 0, "low": -(2**31), "high": 2**31 - 1}
        bypass = {"multiplier": b.constant(np.where(large, 2**21 + 1, 1))}
        around = b.add("rescale", [INPUT], {"shift": 0, **ends}, bypass)
        weight = np.where(large, random.choice([127, -127], channels), 1)[:, None] * np.ones((1, channels), int)
        x = b.add("linear", [INPUT], {}, {"weight": b.constant(weight)})
        scale = {"multiplier": b.constant(np.where(large, 2**30 - 1, 2**21)), "bias": b.constant(np.array([-5]))}
        x = b.add("rescale", [x], {"shift": 21, **ends}, scale)
        x = b.add("add", [x, around])
        if shift:
            x = b.add("rescale", [x], {"shift": shift, **ends}, {"multiplier": b.constant(np.array([1]))})
        constants = {"first": b.constant(np.where(large, random.choice([40, 2**31 - 1], channels), 3))}
        if count > 1:
            constants["spacing"] = b.constant(np.array([4]))
        if reset == "soft":
            constants["charge"] = b.constant(np.array([4]))
        cancel = signed and count == 3
        attributes = {"count": [count], "signed": signed, "reset": reset, "decay": decay, "cancel": cancel}
        numbers = random.choice(
            [-127, 127, 0, 1, -1, 2, -2, 3], (6, 40, channels), p=[0.01, 0.01, *[0.16] * 4, 0.17, 0.17]
        )
        numbers[:, 0] = 127
        yield b.finish(b.add("fire", [x], attributes, constants)), numbers


def scalings(low: int, shift: int, wide: bool) -> Pairs:
    """Products of 62 bits, or of 31; biases at the ends; results that are clamped and such that are not."""
    for channels, biased in product((1, 8, 16, 21), (False, True)):
        random = np.random.default_rng(channels)
        top = 2**31 - 1 if wide else 2**15
        multiplier = random.choice([-(2**30), 2**30 - 1, 1, 0, -3] if wide else [-16383, 16383, 1, 0, -3], channels)
        bias = random.choice([-(2**31), 2**31 - 1, 0, 5] if wide else [-(2**29), 2**29, 0, 5], channels)
        attributes = {"shift": shift, "low": low, "high": 2**31 - 1 if low < -100 else 120, "exponent": 0}
        tensors = {"multiplier": multiplier} | ({"bias": bias} if biased else {})
        program = one("rescale", Value((channels,), -top - wide, top, 0, 4), attributes, **tensors)
        yield program, np.clip(random.choice([*EDGES, top - 1, 1 - top], (4, 5, channels)), -top - wide, top)


def sums(low: int, high: int, weights: int, outputs: int) -> Pairs:
    """Convolutions whose products take their whole range, with borders, strides and dilations."""
    random = np.random.default_rng(outputs)
    for inputs, side, kernel, stride, dilation in ((3, 5, 3, 1, 1), (5, 9, 2, 2, 1), (16, 4, 3, 1, 2), (7, 1, 1, 1, 1)):
        weight = random.choice([-weights, weights - 1, 0], (outputs, inputs, kernel, kernel))
        place = {"stride": [stride] * 2, "before": [1, 2], "after": [1, 1], "dilation": [dilation] * 2}
        program = one("convolution", Value((inputs, side, side), low, high, 0, 2), place, weight=weight)
        yield program, random.choice([low, high, 0], (2, 3, inputs, side, side))


def products(depth: int, most: int) -> Pairs:
    """All weights and all numbers at their ends at once: sums of two products reach ±2^15 in 16 bits and 2^31 in 32."""
    ends = (-128, 127) if most < 32768 else (-32768, 32767)
    if depth * most * -ends[0] > 2**31:
        depth = 2  # sums of 32 bits
    weight = np.array([[ends[0]] * depth, [ends[1]] * depth, [*ends] * (depth // 2) + [1] * (depth % 2)])
    for low in {0, -(most // 2)}:
        program = one("linear", Value((depth,), low, low + most, 0, 3), weight=weight)
        yield program, np.stack([np.full((4, depth), end) for end in (low, low + most, 0)])


def events(low: int, high: int, outputs: int) -> Pairs:
    """Convolutions and linear maps of sparse inputs: no event at all, one, more than a list holds, all of them."""
    random = np.random.default_rng(outputs)
    place = {"stride": [1, 1], "before": [1, 1], "after": [1, 1], "dilation": [1, 1]}
    for inputs, height, width, kernel in ((1, 3, 40, 3), (33, 2, 5, 3), (130, 2, 3, 3), (64, 3, 2, 1), (1100, 1, 1, 1)):
        one_place = inputs > 1000
        shape = (inputs,) if one_place else (inputs, height, width)
        weight = random.integers(-128, 128, (outputs, inputs) if one_place else (outputs, inputs, kernel, kernel))
        value = Value(shape, low, high, 0, 5)
        program = one("linear", value, weight=weight) if one_place else one("convolution", value, place, weight=weight)
        numbers = random.choice([k for k in (low, -1, 1, 7, high) if k and low <= k <= high], (5, 2, *shape))
        share = np.array([0.0, 0.5 / inputs, 0.1, 0.5, 1.0]).reshape(5, *(1,) * (numbers.ndim - 1))
        yield program, np.where(random.random(numbers.shape) < share, numbers, 0)


def planes(low: int, high: int, levels: list[int]) -> Pairs:
    """Few bits by few levels: pixels that are no whole bytes or words, borders of 0, groups, more pixels and a longer
    depth than are counted at a time; all numbers at one end, too."""
    random = np.random.default_rng(len(levels) + high - low)
    for inputs, side, kernel, stride, dilation, groups, outputs in (
        *((3, 5, 3, 1, 1, 1, 5), (16, 6, 3, 1, 1, 1, 17), (70, 4, 2, 2, 1, 1, 40), (32, 7, 3, 1, 2, 1, 16)),
        *((16, 5, 3, 1, 1, 2, 34), (9, 9, 1, 1, 1, 1, 3), (600, 1, 1, 1, 1, 1, 33), (7, 3, 3, 2, 1, 1, 64)),
    ):
        weight = random.choice(levels, (outputs, inputs // groups, kernel, kernel))
        weight.flat[: len(levels)] = levels
        weight[-1] = levels[-1]
        border = [0, 0] if kernel in (1, side) else [1, 2]  # the whole image in one window: one place
        place = {"stride": [stride] * 2, "before": border, "after": border[::-1], "dilation": [dilation] * 2}
        value = Value((inputs, side, side), low, high, 0, 3)
        program = one("convolution", value, {**place, "groups": groups}, weight=weight)
        x = random.integers(low, high, (3, 2, *value.shape), endpoint=True)
        x[1] = low or high
        x[2, 0] = high
        yield program, x
    for depth in (1, 31, 480, 481, 1000):
        weight = random.choice(levels, (35, depth))
        weight[0], weight[1] = levels[0], levels[-1]
        x = random.integers(low, high, (3, 2, depth), endpoint=True)
        x[1] = low or high
        yield one("linear", Value((depth,), low, high, 0, 3), weight=weight, bias=random.integers(-99, 99, 35)), x


def fed(count: int, signed: bool, levels: list[int]) -> Pairs:
    """Spikes that a store writes as planes: tiles of some rows and of parts of one, inputs that no window reaches."""
    random = np.random.default_rng(count + len(levels))
    for inputs, height, width, kernel, stride, before, groups in (
        *((24, 20, 20, 3, 1, 1, 1), (3, 2, 2000, 3, 1, 2, 1), (9, 6, 6, 2, 3, 0, 1), (16, 9, 12, 2, 2, 1, 2)),
        (70, 1, 1, 1, 1, 0, 1),
    ):
        b = Builder(Input(Value((inputs, height, width), -100, 100, 0, 3)))
        constants = {"first": b.constant(np.array([30]))}
        if count > 1:
            constants["spacing"] = b.constant(np.array([16]))
        x = b.add("fire", [INPUT], {"count": [count], "signed": signed, "reset": "hard"}, constants)
        weight = b.constant(random.choice(levels, (18, inputs // groups, kernel, kernel)))
        place = {"stride": [stride] * 2, "before": [before] * 2, "after": [before // 2] * 2, "dilation": [1, 1]}
        x = b.add("convolution", [x], {**place, "groups": groups}, {"weight": weight})
        yield b.finish(x), random.integers(-100, 101, (3, 2, inputs, height, width))


_DECAYS = [[1, 0], [0, 0], [1, 1], [1, 30], [2**30 - 1, 30], [5, 3]]
_SHAPES = ["plain", "narrow", "wide", "far", "sum", "shifted", "scaled"]
_ALPHABETS = [
    *((0, 255, 128), (-128, 127, 128), (-1, 1, 1), (0, 31, 128), (0, 127, 128), (0, 65535, 32768), (-32768, 32767, 3)),
    (-100000, 100000, 3),
]
_FEW = [(0, 1), (0, 3), (0, 5), (0, 15), (-1, 1), (-1, 0), (-2, 1), (-8, 7), (-1, 2)]
_LEVELS = [[-1, 1], [0, 1], [-3, 0], [-5, 0, 5], [-3, -1, 1, 3], [2, 3, 5], [7], [-30000, 30000]]
FAMILIES: dict[Callable[..., Pairs], list[tuple[Any, ...]]] = {
    neurons: list(product(_DECAYS, [1, 3, 65535], [False, True], ["hard", "soft"], [False, True])),
    currents: list(product(_SHAPES, _DECAYS[::2], [1, 3], [False, True], ["hard", "soft"])),
    bypassed: list(product([0, 1, 3], _DECAYS[::5], [1, 3], [False, True], ["hard", "soft"])),
    scalings: list(product([-(2**31), -100], [0, 1, 30, 31, 45], [False, True])),
    sums: [(*alphabet, outputs) for alphabet in _ALPHABETS for outputs in (1, 4, 8, 16, 17, 48, 64, 80, 150)],
    events: list(
        (*alphabet, outputs)
        for alphabet in ((0, 1), (-1, 1), (-1, 0), (0, 15), (-64, 64), (0, 65), (-128, 127), (0, 255))
        for outputs in (1, 16, 33, 65, 130)
    ),
    planes: [
        (*_FEW[i], _LEVELS[k]) for i in range(len(_FEW)) for k in range(len(_LEVELS)) if (i + k) % 2 == 0 or k < 1
    ],
    fed: [(*spikes, levels) for spikes in ((1, False), (1, True), (7, True)) for levels in ([-1, 1], [-1, 0, 1])],
    products: list(product([1, 2, 4, 7, 130, 4100], [1, 5, 31, 32, 63, 127, 128, 129, 254, 255, 32768])),
}
"""What makes programs and inputs → its cases."""

"""Small programs whose integers were worked out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from bitspike.runtime import INPUT, Builder, Grid, Input, Value
from programs.machines import one

E = 10  # currents have 10 fractional bits


def trace(currents: list[list[float]], attributes: dict[str, Any], **tensors: Any) -> list[list[int]]:
    """Currents [steps][neurons] → levels; numbers are in units of one, constants too."""
    x = np.round(np.array(currents) * 2**E).astype(int)[:, None]
    value = Value((x.shape[2],), int(x.min()), int(x.max()), E, len(x))
    units = {role: np.round(np.array(t) * 2**E).astype(int) for role, t in tensors.items()}
    return one("fire", value, attributes, **units)(x).levels[:, 0].tolist()  # type: ignore[no-any-return]


def test_binary_neuron() -> None:
    """u = 0.6 | (0.6/2) + 0.7 = 1.0 fires | 0 + 1.0 fires: the example of `LIF`, with a membrane on its threshold."""
    assert trace([[0.6], [0.7], [1.0]], {"count": [1], "reset": "hard", "decay": [1, 1]}, first=[1.0]) == [
        [0],
        [1],
        [1],
    ]


def test_ternary_neuron() -> None:
    """±1/2 fire, 0.4 does not; the next step finds a quarter of 0.4, and 0 where it fired."""
    attributes = {"count": [1], "signed": True, "reset": "hard", "decay": [1, 2]}
    assert trace([[0.5, -0.5, 0.4], [0.49, -0.5, 0.4]], attributes, first=[0.5]) == [[1, -1, 0], [0, -1, 1]]


def test_multi_bit_neuron() -> None:
    """Steps of 1/2, three levels, soft reset: 9 sends 1.5 and keeps 7.5, of which half is 3.75."""
    attributes = {"count": [3], "reset": "soft", "decay": [1, 1]}
    tensors = {"first": [0.5], "spacing": [0.5], "charge": [0.5]}
    assert trace([[0.4, 0.5, 1.2, 9.0], [0.3, 0.0, 0.0, 0.0]], attributes, **tensors) == [[0, 1, 2, 3], [1, 0, 0, 3]]


def test_integer_neuron() -> None:
    attributes = {"count": [2], "reset": "soft", "decay": [1, 2]}
    assert trace([[0.4, 0.5, 1.5, 9.0]], attributes, first=[0.5], spacing=[1.0], charge=[1.0]) == [[0, 1, 2, 2]]


def test_signed_neuron_with_two_amplitudes() -> None:
    """A negative level is worth a quarter: levels in units of 2^-2."""
    attributes = {"count": [2], "signed": True, "reset": "soft", "up": 4, "down": 1, "exponent": 2}
    tensors = {"first": [0.5], "spacing": [1.0], "charge": [1.0]}
    assert trace([[1.0, -1.0, -1.5, -9.0, 2.0]], attributes, **tensors) == [[4, -1, -2, -2, 8]]


def test_signed_neuron_that_only_takes_back() -> None:
    """−1 is not sent, as nothing was; then 1, which the last step takes back."""
    attributes = {"count": [1], "signed": True, "reset": "soft", "cancel": True}
    assert trace([[-1.0], [2.0], [-1.0]], attributes, first=[0.5], charge=[1.0]) == [[0], [1], [-1]]


def test_what_is_not_taken_back_stays_in_the_membrane() -> None:
    """Hard reset: −1 is not sent, so the membrane stays, and 1.2 only brings it to 0.2; then 1.2 fires."""
    attributes = {"count": [1], "signed": True, "reset": "hard", "cancel": True}
    assert trace([[-1.0], [1.2], [1.0]], attributes, first=[0.5]) == [[0], [0], [1]]


def test_real_neuron_in_four_bits() -> None:
    """Silent below 1/2, then the membrane in eighths, rounded, at most 15; what fired is discharged."""
    attributes = {"count": [15], "reset": "hard", "decay": [1, 2]}
    tensors = {"first": [1 / 16], "spacing": [1 / 8], "gate": [0.5]}
    currents = [[0.4, 0.5, 1.2, 9.0], [0.4, 0.4, 0.4, 0.4]]
    assert trace(currents, attributes, **tensors) == [[0, 4, 10, 15], [4, 0, 0, 0]]


def test_adaptive_neuron_with_steps_of_its_own() -> None:
    """γ = 1 with two bits, then γ = 2 with one bit for all later steps; what was not sent stays in the membrane."""
    attributes = {"count": [3, 1], "reset": "soft"}
    tensors = {"first": [[0.5], [1.0]], "spacing": [[1.0], [2.0]], "charge": [[1.0], [2.0]]}
    currents = [[0.5, 2.4, 9.0], [0.0, 0.6, 0.0], [2.5, 0.0, 0.0]]
    assert trace(currents, attributes, **tensors) == [[1, 2, 3], [0, 1, 1], [1, 0, 1]]


def test_floor_and_initial_membrane() -> None:
    """From 1/2, −3 is cut at −1: 1.4 later the membrane is at 0.4, and 0.6 makes it fire."""
    attributes = {"count": [1], "reset": "hard"}
    currents = [[-3.5], [1.4], [0.6]]
    assert trace(currents, attributes, first=[1.0], floor=[-1.0], initial=[0.5]) == [[0], [0], [1]]


def test_scaling_rounds_half_up_on_both_sides_of_zero() -> None:
    program = one("rescale", Value((7,), -3, 3), {"shift": 1, "exponent": 0}, multiplier=[1])
    assert program(np.arange(-3, 4).reshape(1, 1, 7)).levels[0, 0].tolist() == [-1, -1, 0, 0, 1, 1, 2]


def test_membranes_that_saturate_are_counted() -> None:
    """2^31 − 1 twice is one too many; the membrane stays at the end of its type, and the report says so."""
    value = Value((1,), -(2**31), 2**31 - 1, 0, 2)
    program = one(
        "fire", value, {"count": [1], "signed": True, "reset": "soft"}, ("s", "u"), first=[2**31 - 1], charge=[1]
    )
    result = program(np.array([2**31 - 1, 2**31 - 1]).reshape(2, 1, 1))
    assert result.levels[:, 0, 0].tolist() == [1, 1] and dict(result.clamped) == {"fire0": 1}


def test_pools() -> None:
    """`AvgPool2d(2, ceil=True)` of 0, 1, 5 as sums for 1/2 (the last window holds one number), and its maxima."""
    x = np.array([0, 1, 5]).reshape(1, 1, 1, 3)
    place = {"kernel": [2], "stride": [2], "padding": [0], "ceil": True}
    assert one("sumpool", Value((1, 3), 0, 5), {**place, "divisor": 2})(x).levels.ravel().tolist() == [1, 10]
    assert one("maxpool", Value((1, 3), 0, 5), {**place, "dilation": [1]})(x).levels.ravel().tolist() == [1, 5]


def test_maxima_of_what_was_sent() -> None:
    """Two neurons that take turns: the maximum of the sums is 1, 1, 2."""
    x = np.array([[1, 0], [0, 1], [0, 1]]).reshape(3, 1, 1, 2)
    program = one("tally", Value((1, 2), 0, 1, 0, 3), {"kernel": [2], "stride": [2], "padding": [0], "dilation": [1]})
    assert program(x).levels.ravel().tolist() == [1, 0, 1]


def test_windows() -> None:
    """1, 2, 6 → 2·1 + 2 and 2 + 2·6, for a factor of 1/3; their sum, held."""
    x = np.array([1, 2, 6]).reshape(3, 1, 1)
    assert one("windows", Value((1,), 0, 9, 0, 3), {"frames": 3, "steps": 2})(x).levels.ravel().tolist() == [4, 14]
    b = Builder(Input(Value((1,), 0, 9, 0, 3)))
    total = b.add("windows", [INPUT], {"frames": 3, "steps": 1})
    held = b.finish(b.add("windows", [total], {"frames": 1, "steps": 2}))
    assert held(x).levels.ravel().tolist() == [9, 9]


def test_zeros_around_a_raw_image_are_its_mean() -> None:
    """Bytes enter through a table: 100 is the mean and becomes 0, as what lies outside; so a mean image stays 0 at its
    border, which a mean folded into the bias of a padded convolution would not."""
    b = Builder(Input(Value((1, 4), 0, 255)))
    table = b.constant(np.clip(np.arange(256) - 100, -127, 127))
    x = b.add("lookup", [INPUT], {"first": 0, "exponent": 5}, {"table": table})
    place = {"stride": [1], "before": [1], "after": [1], "dilation": [1]}
    program = b.finish(b.add("convolution", [x], place, {"weight": b.constant(np.ones((1, 1, 3), int), Grid(-1, 1))}))
    assert program(np.full((1, 1, 1, 4), 100)).levels.ravel().tolist() == [0, 0, 0, 0]
    assert program(np.array([101, 100, 100, 255]).reshape(1, 1, 1, 4)).levels.ravel().tolist() == [1, 1, 127, 127]


def test_a_residual_block() -> None:
    """Two steps by hand: W = (1, −1) on binary spikes a, b; current = 4·(a − b) + 8·a; threshold 8, soft, no leak.

    Step 1 (a, b) = (1, 0): u = 12, fires, 4 left. Step 2 (0, 1): u = 4 − 4 = 0. Step 3 (1, 1): u = 8 fires.
    """
    b = Builder(Input(Value((2,), 0, 1, 0, 3)))
    weight = b.constant(np.array([[1, -1]]), Grid(-1, 1, stride=2))
    y = b.add("linear", [INPUT], tensors={"weight": weight})
    y = b.add("rescale", [y], {"shift": 1, "exponent": 3}, {"multiplier": b.constant(np.array([8]))})
    around = b.add("slice", [INPUT], {"start": [0], "stop": [1], "stride": [1]})
    around = b.add("rescale", [around], {"shift": 0, "exponent": 3}, {"multiplier": b.constant(np.array([8]))})
    tensors = {"first": b.constant(np.array([8])), "charge": b.constant(np.array([8]))}
    s = b.add("fire", [b.add("add", [y, around])], {"count": [1], "reset": "soft"}, tensors)
    program = b.finish(s)
    assert program(np.array([[1, 0], [0, 1], [1, 1]])[:, None]).levels.ravel().tolist() == [1, 0, 1]


def test_attention_of_the_first_step() -> None:
    """x̃ = a·x: the attention comes from a table of the channel's sum over space, and stays that of the first step."""
    b = Builder(Input(Value((1, 2), 0, 1, 0, 2)))
    z = b.add("sumpool", [INPUT], {"kernel": [2], "stride": [2], "padding": [0]})
    table = b.constant(np.array([128, 187, 225]))  # 256·σ of 0, 1, 2
    a = b.add("lookup", [b.add("reshape", [z], {"shape": [1]})], {"first": 0, "exponent": 8}, {"table": table})
    program = b.finish(b.add("multiply", [INPUT, b.add("latch", [a])]))
    assert program(np.array([[1, 1], [1, 0]]).reshape(2, 1, 1, 2)).levels.ravel().tolist() == [225, 225, 225, 0]
    assert program.spec.values[program.spec.output].exponent == 8

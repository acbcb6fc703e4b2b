"""Every operation equals plain big-integer code, in pieces and at once, at the borders and in ties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bitspike.runtime import INPUT, Builder, Grid, Input, Program, Value
from bitspike.runtime.ops import OPERATIONS
from programs import reference
from programs.machines import INT32, arrays, numbers, one, per_sample, pieces, samples

TESTED: set[str] = set()


def agrees(
    program: Program, x: np.ndarray, expected: list, clamped: int | None = None, data: st.DataObject | None = None
) -> None:
    """x [steps, B, ...] gives what the reference gives for every sample, whole and in pieces."""
    TESTED.update(made.op.kind for made in program.operations)
    whole = program(x)
    assert samples(whole) == expected
    value = program.spec.values[program.spec.output]
    assert whole.levels.dtype == value.dtype
    if clamped is not None:
        assert sum(whole.clamped.values()) == clamped
    cuts = [1] if data is None else sorted(data.draw(st.lists(st.integers(0, len(x)), max_size=3)))
    again, count = pieces(program, x, cuts)
    assert np.array_equal(again, whole.levels) and count == whole.clamped
    alone = np.concatenate([program(x[:, i : i + 1]).levels for i in range(x.shape[1])], 1)
    assert np.array_equal(alone, whole.levels)


def sides_of(draw: st.DataObject, axes: int) -> tuple[int, ...]:
    return tuple(draw.draw(st.integers(1, 5)) for _ in range(axes))


@given(st.data())
def test_convolution(data: st.DataObject) -> None:
    d, axes = data.draw, data.draw(st.integers(1, 2))
    groups, own, each = d(st.integers(1, 2)), d(st.integers(1, 2)), d(st.integers(1, 2))
    kernel = tuple(d(st.integers(1, 3)) for _ in range(axes))
    stride, dilation = ([d(st.integers(1, 3)) for _ in range(axes)] for _ in range(2))
    before, after = ([d(st.integers(0, 2)) for _ in range(axes)] for _ in range(2))
    reach = [k + (k - 1) * (e - 1) for k, e in zip(kernel, dilation, strict=True)]
    sides = tuple(max(1, r - b - a) + d(st.integers(0, 3)) for r, b, a in zip(reach, before, after, strict=True))
    low, high = d(st.sampled_from([(0, 1), (-1, 1), (0, 255), (-128, 127), INT32]))
    grid = d(
        st.sampled_from(
            [Grid(-1, 1), Grid(-1, 1, stride=2), Grid(-127, 127), Grid(-32768, 32767), Grid(-4, 4, 1, "power")]
        )
    )
    weight = d(arrays((groups * each, own, *kernel), st.sampled_from(sorted({*grid.levels[:9], *grid.levels[-9:]}))))
    bias = d(st.none() | arrays((groups * each,), numbers(*INT32)))
    x = d(arrays((2, 2, groups * own, *sides), numbers(low, high)))
    places = {"stride": stride, "before": before, "after": after, "dilation": dilation, "groups": groups}
    program = one("convolution", Value(x.shape[2:], low, high, 3, 2), places, weight=(weight, grid), bias=bias)
    shift = None if bias is None else bias.tolist()
    expected = [
        [
            reference.convolution(step, weight.tolist(), shift, stride, before, after, dilation, groups)
            for step in sample
        ]
        for sample in per_sample(x)
    ]
    agrees(program, x, expected, 0)


@pytest.mark.parametrize(("top", "work"), [(2**12, "float32"), (2**30, "float64"), (2**31 - 1, "int64")])
def test_sums_are_exact_in_every_type_that_computes_them(top: int, work: str) -> None:
    """Weights and inputs at their borders, where a type with one bit less would round."""
    weights = {"float32": 1, "float64": 2**14, "int64": 2**15 - 1}[work]
    random = np.random.default_rng(0)
    weight = random.choice([-weights, weights - 1, weights], (3, 512))
    x = random.choice([-top, top - 1, top], (1, 4, 512))
    program = one("linear", Value((512,), -top, top), weight=weight)
    assert program.operations[0].work.name == work  # type: ignore[attr-defined]
    assert samples(program(x)) == [[reference.linear(step, weight.tolist(), None) for step in s] for s in per_sample(x)]


@pytest.mark.parametrize(
    ("weight", "top", "work"), [([1, 1, 1], 2**23, "float64"), ([16383] * 301, 2**31 - 1, "int64")]
)
def test_sums_that_a_narrower_type_would_round(weight: list[int], top: int, work: str) -> None:
    """Odd sums just above 2^24 and 2^53."""
    x = [top] * (len(weight) - 1) + ([1] if top % 2 == 0 else [top])
    total = sum(w * v for w, v in zip(weight, x, strict=True))
    assert total % 2 and total > {"float64": 2**24, "int64": 2**53}[work]
    program = one("linear", Value((len(x),), 0, top), weight=[weight])
    assert program.operations[0].work.name == work  # type: ignore[attr-defined]
    assert program(np.array(x)[None, None]).levels.tolist() == [[[total]]]


@given(st.data())
def test_linear(data: st.DataObject) -> None:
    d = data.draw
    inputs, outputs = d(st.integers(1, 5)), d(st.integers(1, 4))
    low, high = d(st.sampled_from([(0, 1), (-7, 7), (0, 65535), INT32]))
    weight = d(arrays((outputs, inputs), numbers(-(2**15), 2**15 - 1)))
    bias = d(st.none() | arrays((outputs,), numbers(*INT32)))
    x = d(arrays((2, 2, inputs), numbers(low, high)))
    program = one("linear", Value((inputs,), low, high, 0, 2), weight=weight, bias=bias)
    shift = None if bias is None else bias.tolist()
    agrees(program, x, [[reference.linear(step, weight.tolist(), shift) for step in s] for s in per_sample(x)], 0)


@given(st.data())
def test_rescale(data: st.DataObject) -> None:
    d = data.draw
    channels, steps, rows = d(st.integers(1, 3)), d(st.integers(1, 4)), d(st.integers(1, 3))
    shift = d(st.integers(0, 34) | st.sampled_from([0, 1, 31, 32]))
    low, high = sorted(d(st.tuples(numbers(*INT32), numbers(*INT32))))
    shape = (d(st.sampled_from([1, channels])),)
    shape = (rows, *shape) if d(st.booleans()) else shape
    near = 2 ** min(shift, 30)
    multiplier = d(arrays(shape, numbers(*INT32, near, -near, near // 2)))
    bias = d(st.none() | arrays((d(st.sampled_from([1, channels])),), numbers(*INT32)))
    x = d(arrays((steps, 2, channels, 2), numbers(*INT32)))
    attributes = {"shift": shift, "low": low, "high": high, "exponent": 5}
    program = one("rescale", Value((channels, 2), *INT32, 0, steps), attributes, multiplier=multiplier, bias=bias)
    expected, clamped = [], 0
    for sample in per_sample(x):
        expected.append([])
        for t, step in enumerate(sample):
            shifted = None if bias is None else bias.tolist()
            y, more = reference.rescale(step, t, multiplier.tolist(), shifted, shift, low, high)
            expected[-1].append(y)
            clamped += more
    agrees(program, x, expected, clamped, data)


def test_rescale_of_wide_sums() -> None:
    """43 bits from 16-bit weights and 16-bit spikes, scaled by what is left of 63."""
    b = Builder(Input(Value((4096,), 0, 65535)))
    weight = np.full((2, 4096), [[-(2**15)], [2**15 - 1]])
    y = b.add("linear", [INPUT], {"exponent": None}, {"weight": b.constant(weight)})
    assert b.values[y].dtype == np.int64 and b.values[y].exponent is None
    factor = b.constant(np.array([3, 2**19 - 1]))
    program = b.finish(b.add("rescale", [y], {"shift": 40, "exponent": 0}, {"multiplier": factor}))
    total = [[-(2**15) * 65535 * 4096], [(2**15 - 1) * 65535 * 4096]]
    expected = [reference.half_up(total[0][0] * 3, 40), reference.half_up(total[1][0] * (2**19 - 1), 40)]
    assert program(np.full((1, 1, 4096), 65535)).levels.tolist() == [[expected]]


@given(st.data())
def test_add_and_concat(data: st.DataObject) -> None:
    d = data.draw
    low, high = d(st.sampled_from([(0, 1), (-128, 127), INT32]))
    x = d(arrays((2, 2, 4, 2), numbers(low, high)))
    b = Builder(Input(Value((4, 2), low, high, 2, 2)))
    cut = {"stop": [2, 2], "stride": [1, 1]}
    parts = [
        b.add("slice", [INPUT], {"start": [0, 0], **cut}),
        b.add("slice", [INPUT], {"start": [2, 0], **cut, "stop": [4, 2]}),
    ]
    total = b.finish(b.add("add", [*parts, parts[0]]))
    expected = [
        [[[reference.clamp(2 * s[c][i] + s[c + 2][i]) for i in range(2)] for c in range(2)] for s in sample]
        for sample in per_sample(x)
    ]
    sums = 2 * x[:, :, :2] + x[:, :, 2:]
    agrees(total, x, expected, int(((sums < INT32[0]) | (sums > INT32[1])).sum()))
    agrees(
        b.finish(b.add("concat", [parts[1], parts[0]])),
        x,
        [[[*s[2:], *s[:2]] for s in sample] for sample in per_sample(x)],
    )


@given(st.data())
def test_multiply(data: st.DataObject) -> None:
    d = data.draw
    low, high = d(st.sampled_from([(0, 255), (-(2**15), 2**15 - 1), (-3, 40000)]))
    x = d(arrays((2, 2, 3, 2), numbers(low, high)))
    b = Builder(Input(Value((3, 2), low, high, 2, 2)))
    factor = b.add("slice", [INPUT], {"start": [0, 0], "stop": [3, 1], "stride": [1, 1]})
    by_channel = b.finish(b.add("multiply", [INPUT, b.add("reshape", [factor], {"shape": [3]})]))
    agrees(by_channel, x, [[[[v * c[0] for v in c] for c in s] for s in sample] for sample in per_sample(x)])
    agrees(
        b.finish(b.add("multiply", [INPUT, INPUT])),
        x,
        [[[[v * v for v in c] for c in s] for s in t] for t in per_sample(x)],
    )


@given(st.data())
def test_lookup(data: st.DataObject) -> None:
    d = data.draw
    low, size, steps = d(st.integers(-9, 9)), d(st.integers(2, 9)), d(st.integers(1, 3))
    first = low - d(st.integers(0, 2))
    length = low - first + size + d(st.integers(0, 2))
    shape = d(st.sampled_from([(length,), (2, length), (2, 1, length), (3, 2, length)]))
    table = d(arrays(shape, numbers(*INT32)))
    x = d(arrays((steps, 2, 2, 2), st.integers(low, low + size - 1)))
    program = one("lookup", Value((2, 2), low, low + size - 1, 0, steps), {"first": first, "exponent": 1}, table=table)
    whole = np.broadcast_to(
        table.reshape((1,) * (3 - table.ndim) + shape), (*(shape[:1] if len(shape) == 3 else (1,)), 2, length)
    )
    expected = [
        [
            [[int(whole[min(t, len(whole) - 1), c, v - first]) for v in row] for c, row in enumerate(s)]
            for t, s in enumerate(sample)
        ]
        for sample in per_sample(x)
    ]
    agrees(program, x, expected, 0, data)


def window(d: st.DataObject, axes: int) -> dict[str, list[int]]:
    kernel = [d.draw(st.integers(1, 3)) for _ in range(axes)]
    return {
        "kernel": kernel,
        "stride": [d.draw(st.integers(1, 3)) for _ in range(axes)],
        "padding": [d.draw(st.integers(0, k // 2)) for k in kernel],
    }


@given(st.data())
def test_sums_over_windows(data: st.DataObject) -> None:
    d, axes = data.draw, data.draw(st.integers(1, 2))
    at, ceil, divisor = window(data, axes), d(st.booleans()), d(st.sampled_from([0, 36]))
    sides = tuple(max(k - 2 * p, 1) + d(st.integers(0, 4)) for k, p in zip(at["kernel"], at["padding"], strict=True))
    low, high = d(st.sampled_from([(0, 1), (-1, 1), (3, 9), (-(2**25), 2**25)]))
    x = d(arrays((2, 2, 2, *sides), numbers(low, high)))
    program = one("sumpool", Value(x.shape[2:], low, high, 1, 2), {**at, "ceil": ceil, "divisor": divisor})
    expected = [[reference.sums(s, *at.values(), ceil, divisor) for s in sample] for sample in per_sample(x)]
    agrees(program, x, expected)


@given(st.data())
def test_maxima_and_tallies(data: st.DataObject) -> None:
    d, axes = data.draw, data.draw(st.integers(1, 2))
    at, ceil, dilation = window(data, axes), d(st.booleans()), [d(st.integers(1, 2)) for _ in range(axes)]
    reach = [(k - 1) * e + 1 for k, e in zip(at["kernel"], dilation, strict=True)]
    sides = tuple(max(r, 2) + d(st.integers(0, 3)) for r in reach)
    low, high = d(st.sampled_from([(0, 1), (-1, 1), (-9, -3), INT32]))
    x = d(arrays((3, 2, 2, *sides), numbers(low, high)))
    attributes = {**at, "dilation": dilation, "ceil": ceil}
    value = Value(x.shape[2:], low, high, 1, 3)
    expected = [[reference.maximum(s, *at.values(), dilation, ceil) for s in sample] for sample in per_sample(x)]
    agrees(one("maxpool", value, attributes), x, expected, 0)
    expected = [reference.tally(sample, *at.values(), dilation, ceil) for sample in per_sample(x)]
    agrees(one("tally", value, attributes), x, expected, None, data)


@given(st.data())
def test_windows(data: st.DataObject) -> None:
    d = data.draw
    frames, steps, repeats = d(st.integers(1, 6)), d(st.integers(1, 6)), d(st.integers(1, 2))
    low, high = d(st.sampled_from([(0, 1), (-1, 1), (-(2**28), 2**28)]))
    x = d(arrays((frames * repeats, 2, 2), numbers(low, high)))
    program = one("windows", Value((2,), low, high, 1, frames), {"frames": frames, "steps": steps})
    expected = [reference.windows(sample, frames, steps) for sample in per_sample(x)]
    if repeats == 1:
        agrees(program, x, expected, 0, data)
    cuts = sorted(d(st.lists(st.integers(0, len(x)), max_size=4)))
    assert per_sample(pieces(program, x, cuts)[0]) == expected


@given(st.data())
def test_fire(data: st.DataObject) -> None:
    """All alphabets, resets, decays, floors, initial membranes and amplitudes, with membranes on thresholds."""
    d, steps, channels = data.draw, 4, 2
    signed, soft = d(st.booleans()), d(st.booleans())
    cancel = signed and d(st.booleans())
    gated = not signed and d(st.booleans())
    count = d(st.lists(st.sampled_from([1, 1, 2, 3, 15, 65535]), min_size=1, max_size=3))
    unit = d(st.sampled_from([1, 2, 3, 64, 100, 2**20, 2**31 - 1]))
    extent = d(st.sampled_from([4 * unit, 2**31 - 1])) if unit < 2**29 else 2**31 - 1

    def per_channel(low: int, high: int, by_step: bool = False) -> np.ndarray:
        shape = (d(st.sampled_from([1, channels])),)
        shape = (d(st.integers(1, 3)), *shape) if by_step and d(st.booleans()) else shape
        return d(arrays(shape, numbers(low, high, min(max(unit, low), high), min(max((unit + 1) // 2, low), high))))

    tensors = {"first": per_channel(1, 2**31 - 1, True)}
    if max(count) > 1:
        tensors["spacing"] = per_channel(1, 2**31 - 1, True)
    if soft:
        tensors["charge"] = per_channel(1, 2**31 - 1, True)
    if gated:
        tensors["gate"] = per_channel(*INT32)
    if d(st.booleans()):
        tensors["initial"] = per_channel(-extent - 1, extent)
    if d(st.booleans()):
        tensors["floor"] = per_channel(-extent - 1, extent)
    shift = d(st.integers(0, 30))
    attributes = {
        "count": count,
        "signed": signed,
        "reset": "soft" if soft else "hard",
        "decay": d(
            st.sampled_from(
                [(1, 0), (0, 0), (1 << shift, shift), (1, min(shift, 2)), (d(st.integers(0, 1 << shift)), shift)]
            )
        ),
        "cancel": cancel,
        "up": d(st.sampled_from([1, 1, 5])),
        "down": d(st.sampled_from([1, 1, 3])) if signed else 1,
    }
    x = d(arrays((steps, 2, channels, 2), numbers(-extent - 1, extent, unit, -unit, unit // 2)))
    value = Value((channels, 2), -extent - 1, extent, 4, steps)
    program = one("fire", value, attributes, ("s", "u"), **tensors)
    lists = {role: tensor.tolist() for role, tensor in tensors.items()}
    ran = [reference.fire(sample, attributes, lists) for sample in per_sample(x)]
    agrees(program, x, [spikes for spikes, _, _ in ran], sum(clamped for _, _, clamped in ran), data)
    spec = program.spec
    seen = Program(type(spec)(spec.input, spec.operations, spec.values, spec.constants, "u"))
    agrees(seen, x, [potentials for _, potentials, _ in ran], None, data)


@given(st.data())
def test_means_and_latches(data: st.DataObject) -> None:
    d, steps = data.draw, data.draw(st.integers(1, 5))
    keep = d(st.lists(st.integers(0, 1), min_size=1, max_size=4))
    x = d(arrays((steps, 2, 3), numbers(*INT32)))
    program = one("mean", Value((3,), *INT32, 4, steps), {"keep": keep})
    TESTED.add("mean")
    weights = [keep[min(t, len(keep) - 1)] for t in range(steps)]
    expected = (x * np.array(weights).reshape(-1, 1, 1)).sum(0)
    whole = program(x)
    assert whole.levels.tolist() == expected.tolist() and whole.steps == max(sum(weights), 1)
    assert np.array_equal(whole.values, expected / max(sum(weights), 1) / 16)
    cuts = sorted(d(st.lists(st.integers(0, steps), max_size=3)))
    assert np.array_equal(pieces(program, x, cuts)[0], whole.levels)
    agrees(one("latch", Value((3,), *INT32, 4, steps)), x, [[sample[0]] * steps for sample in per_sample(x)], 0, data)


@given(st.data())
def test_echoes(data: st.DataObject) -> None:
    """Of the input a step late; and of a neuron whose spikes come back to it through a weight."""
    d, steps = data.draw, data.draw(st.integers(1, 6))
    x = d(arrays((steps, 2, 3), numbers(-99, 99)))
    late = {"of": INPUT, "shape": [3], "low": -99, "high": 99, "exponent": 4}
    expected = [[[0, 0, 0], *sample[:-1]] for sample in per_sample(x)]
    agrees(one("echo", Value((3,), -99, 99, 4, steps), late), x, expected, 0, data)
    weight = d(arrays((3, 3), numbers(-50, 50)))
    b = Builder(Input(Value((3,), -99, 99, 0, steps)))
    back = b.add("echo", [INPUT], {"of": "spikes", "shape": [3], "low": -1, "high": 1})
    back = b.add("linear", [back], {}, {"weight": b.constant(weight)})
    total = b.add("add", [back, INPUT])
    tensors = {"first": b.constant(np.array([40]))}
    b.add("fire", [total], {"count": [1], "signed": True, "reset": "hard", "decay": [1, 0]}, tensors, "spikes")
    found = []
    for sample in per_sample(x):
        v, s, rows = [0] * 3, [0] * 3, []
        for step in sample:
            sums = [sum(int(w) * k for w, k in zip(row, s, strict=True)) for row in weight]
            u = [v[i] + sums[i] + step[i] for i in range(3)]
            s = [int(n >= 40) - int(n <= -40) for n in u]
            v = [0 if k else n for k, n in zip(s, u, strict=True)]
            rows.append(s)
        found.append(rows)
    agrees(b.finish("spikes"), x, found, 0, data)


@given(st.data())
def test_moves(data: st.DataObject) -> None:
    d = data.draw
    sides = tuple(d(st.integers(1, 4)) for _ in range(3))
    x = d(arrays((1, 2, *sides), numbers(-9, 9)))
    value = Value(sides, -9, 9)
    order = d(st.permutations(sides))
    agrees(
        one("reshape", value, {"shape": list(order)}),
        x,
        [[reference.reshaped(s[0], tuple(order))] for s in per_sample(x)],
    )
    start = [d(st.integers(0, n - 1)) for n in sides]
    stop = [d(st.integers(a + 1, n)) for a, n in zip(start, sides, strict=True)]
    stride = [d(st.integers(1, 3)) for _ in sides]
    taken = [range(a, b, s) for a, b, s in zip(start, stop, stride, strict=True)]
    expected = [[[[[s[0][i][j][k] for k in taken[2]] for j in taken[1]] for i in taken[0]]] for s in per_sample(x)]
    agrees(one("slice", value, {"start": start, "stop": stop, "stride": stride}), x, expected)
    before, after = ([d(st.integers(0, 2)) for _ in sides] for _ in range(2))
    bigger = tuple(b + n + a for b, n, a in zip(before, sides, after, strict=True))

    def entry(sample: list, place: tuple[int, ...]) -> int:
        inner = tuple(i - b for i, b in zip(place, before, strict=True))
        return reference.at(sample, inner) if reference.inside(inner, sides) else 0

    expected = [[reference.make(bigger, lambda place, s=s: entry(s[0], place))] for s in per_sample(x)]
    agrees(one("pad", value, {"before": before, "after": after}), x, expected)


def test_every_operation_was_compared() -> None:
    if not {"fire", "convolution"} <= TESTED:
        pytest.skip("not run: the tests of the operations were not run in this process")
    assert set(OPERATIONS) == TESTED

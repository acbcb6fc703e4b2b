"""What a program is fed with: real numbers, spikes of an encoder, or raw images."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bitspike.checks import bad_value
from bitspike.graph import Graph, Node
from bitspike.layers import Encoder
from bitspike.lower.lowering import Lowering, Options
from bitspike.lower.measured import Measured
from bitspike.lower.wire import Wire, wire
from bitspike.runtime import INPUT, Input, Value
from bitspike.runtime.arithmetic import round_half


@dataclass(frozen=True)
class Pixels:
    """Raw images: uint8 0 .. top, which the data set normalises as ``(x/top − mean)/std``, a number a channel."""

    top: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Given:
    """The input, and what its integers stand for.

    Attributes:
        record: of the program. step: what a level is worth. node: whose output it is, an encoder or the input node.
        pixels: raw images, or None. notes: for the report.
    """

    record: Input
    step: float
    node: str
    pixels: Pixels | None = None
    notes: tuple[str, ...] = ()


def given(graph: Graph, measured: Measured, options: Options, pixels: Pixels | None) -> Given:
    """The input of a network.

    Raises:
        ValueError: more than one input, or one that other nodes than its encoder read.
    """
    inputs = graph.of_kind("input")
    if len(inputs) != 1:
        raise bad_value("compile", "the network must have one input", len(inputs), "join them")
    node, encoder = inputs[0], None
    coding: Encoder | None = None
    takers = [graph[name] for name in node.consumers]
    if graph.batch_axis == 0:
        if len(takers) != 1 or not isinstance(takers[0].module, Encoder):
            must = "the input must go to one encoder and nowhere else"
            raise bad_value("compile", must, ", ".join(t.name for t in takers), "put the encoder first")
        encoder, coding = takers[0], takers[0].module
    place = node if encoder is None else encoder
    shape = measured.shapes[place.name]
    if len(shape) < 3 or len(shape) > 6:
        raise bad_value("compile", "a sample must have 1 to 4 axes", list(shape), "reshape it in the network")
    steps, sample = shape[0], shape[2:]
    repeats = coding is not None and coding.repeats
    record = None if coding is None else coding.format
    if record is not None and not record.real:
        note = f"the program is fed with what {type(coding).__name__} sends, step by step"
        bits = record.fraction_bits
        scale = (2**bits, 0) if bits else None  # its levels are worth 2^-bits each
        value = Value(sample, record.low, record.high, bits, steps)
        return Given(Input(value, scale=scale), 2.0**-bits, place.name, None, (note,))
    if pixels is not None:
        _check_pixels(pixels, sample)
        return Given(Input(Value(sample, 0, pixels.top, 0, steps), repeats), 1.0, place.name, pixels)
    top = 2 ** (options.input_bits - 1) - 1
    step, scale = _step(measured.most[place.name], top, options.input_bits)
    exponent = -math.frexp(step)[1] + 1 if math.frexp(step)[0] == 0.5 else 0
    return Given(Input(Value(sample, -top, top, exponent, steps), repeats, scale), step, place.name)


def first_wire(low: Lowering, found: Given) -> Wire:
    """The wire of the node that the input stands for; raw images pass a table a channel first, 0 for the mean."""
    source = wire(INPUT, found.step)
    if found.pixels is None:
        return source
    pixels, bits = found.pixels, low.options.input_bits
    top = 2 ** (bits - 1) - 1
    mean, std = (np.array(values, np.float64)[:, None] for values in (pixels.mean, pixels.std))
    real = (np.arange(pixels.top + 1) / pixels.top - mean) / std
    step = float(np.abs(real).max()) / top
    table = np.clip(round_half(real / step), -top, top).astype(np.int64)
    low.report.input_error = float(np.abs(table * step - real).max())
    name = low.add("lookup", "pixels", [source], {"first": 0, "exponent": 0}, table=table)
    return wire(name, step)


def _step(most: float, top: int, bits: int) -> tuple[float, tuple[int, int]]:
    """(value of a level, (m, s) with m·2^-s = 1/step): a power of two where 16 bits serve, or 8 lose nothing by it."""
    most = most or 1.0
    power = math.ceil(math.log2(most / top))
    if bits > 8 or math.ldexp(1.0, power) <= 1.05 * most / top:
        if not -24 <= power <= 62:
            must = "the greatest input must lie between 2^-17 and 2^69"
            raise bad_value("compile", must, f"{most:.3g} on the calibration data", "scale the input")
        return math.ldexp(1.0, power), (2**-power, 0) if power <= 0 else (1, power)
    shift = min(62, 23 - math.floor(math.log2(top / most)))
    multiplier = round(math.ldexp(top / most, shift))
    while multiplier % 2 == 0 and shift:
        multiplier, shift = multiplier // 2, shift - 1
    return math.ldexp(1.0, shift) / multiplier, (multiplier, shift)


def _check_pixels(pixels: Pixels, sample: tuple[int, ...]) -> None:
    if len(pixels.mean) != sample[0] or len(pixels.std) != sample[0]:
        must = f"pixels must have a mean and a std for each of {sample[0]} channels"
        raise bad_value("compile", must, f"{len(pixels.mean)} and {len(pixels.std)}", "take those of the data set")


@torch.no_grad()
def sent(graph: Graph, found: Given, batch: Tensor) -> Tensor:
    """What the program is fed with for a batch of the network: the batch, or what an encoder makes of it by step."""
    if found.record.repeat or graph.batch_axis:
        return batch
    seen: list[Tensor] = []

    def note(node: Node, call: Callable[[], Any], args: tuple[Any, ...]) -> Any:
        made = call()
        if node.name == found.node:
            seen.append(made)
        return made

    graph.run(batch, handler=note)
    return seen[0]


def error_of(program: Any, found: Given, batch: Tensor) -> float:
    """Greatest |x − value of its level| on a batch of real numbers, within the range."""
    if found.record.scale is None:
        return 0.0
    x = batch.detach().double().cpu().numpy()
    inside = np.abs(x) <= found.record.value.high * found.step
    error = np.abs(program.quantize(x) * found.step - x)
    return float(error[inside].max(initial=0.0))


def encoder(low: Lowering, node: Node, wires: list[Wire]) -> Wire:
    """What the input stands for."""
    return low.wires[node.name]  # type: ignore[no-any-return]

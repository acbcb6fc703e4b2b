"""Bits and bytes of a program, in words for a page."""

from __future__ import annotations

import math
from typing import Any

from bitspike.runtime import Program
from bitspike.runtime.file import to_bytes


def spike_bits(made: Any) -> int:
    """Bits that hold a level of a neuron: 1 for {0, 1}, 2 for {−1, 0, 1}."""
    count = max(made.attributes["count"])
    return int(2 * count if made.attributes["signed"] else count).bit_length()


def figures(program: Program, wasm_bytes: int) -> list[tuple[str, str, str]]:
    """(what, how much, more)."""
    weights = _weights(program)
    numbers = sum(count for count, _ in weights)
    stored = sum(-(-count * bits // 8) for count, bits in weights)
    levels = [(v.low, v.high) for made in program.operations if made.kind == "fire" for v in made.written[:1]]
    neurons = [made for made in program.operations if made.kind == "fire"]
    found = [("Program file", _bytes(len(to_bytes(program.spec))), "operations, weights, report")]
    if numbers:
        bits = _range([bits for _, bits in weights])
        found.append(("Weights", _bytes(stored), f"{numbers:,} of {bits}; float32: {4 * numbers:,}"))
    if neurons:
        ends = f"levels {min(low for low, _ in levels)} to {max(high for _, high in levels)}".replace("-", "−")
        found.append(("A spike", _range([spike_bits(made) for made in neurons]), ends))
        count = sum(made.written[0].size for made in neurons)
        found.append(("Neurons", f"{count:,}", f"{program.spec.input.value.steps} steps a picture"))
    found.append(("Memory of a picture", _bytes(program.plan.peak_bytes), "states and values"))
    found.append(("WebAssembly", _bytes(wasm_bytes), "weights and code"))
    return found


def layers(program: Program) -> list[list[str]]:
    """A row for every layer with weights, and every layer of neurons: name, weights, bytes, spikes, neurons."""
    rows = []
    for made in program.operations:
        weight = made.op.tensors.get("weight")
        if weight is not None:
            constant = program.spec.constants[weight]
            size = constant.array.size
            stored = _bytes(-(-size * constant.bits // 8))
            rows.append([made.op.name, f"{size:,} × {constant.bits} bit", stored, "", ""])
        elif made.kind == "fire":
            value = made.written[0]
            ends = f"{value.low}…{value.high}".replace("-", "−")
            rows.append([made.op.name, "", "", f"{ends}, {spike_bits(made)} bit", "×".join(map(str, value.shape))])
    return rows


def _weights(program: Program) -> list[tuple[int, int]]:
    """(numbers, bits) of every constant that is a weight, each once."""
    names = {made.op.tensors["weight"]: None for made in program.operations if "weight" in made.op.tensors}
    constants = [program.spec.constants[name] for name in names]
    return [(math.prod(constant.array.shape), constant.bits) for constant in constants]


def _range(bits: list[int]) -> str:
    low, high = min(bits), max(bits)
    return f"{low} bit" if low == high else f"{low} to {high} bit"


def _bytes(count: int) -> str:
    return f"{count:,} bytes"

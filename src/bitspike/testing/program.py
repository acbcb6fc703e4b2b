"""Conformance of lowering: a folded network on a dyadic grid and its program send the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.layers import Encoder
from bitspike.lower import Comparison, compare, compile
from bitspike.lower.targets import sends_steps
from bitspike.runtime import Program

RECTIFIERS = (".relu", ".levels", ".index")
"""Ends of the names of operations whose clamps are the function itself."""


def check_program(folded: nn.Module, x: Tensor, exact: bool = True, **options: int) -> tuple[Program, Comparison]:
    """Compile a folded network and hold the program against it.

    Checked: whole batches = parts of them = a stream in two chunks, integer for integer; where ``exact``, spikes of
    every layer, end to end, and outputs are those of the network in float64. Rectifiers alone clamp; in a program that
    is not exact others may where it sends other spikes than the network, which calibration has not seen.

    Args:
        folded: what `bitspike.fold` returned, in float64. x: inputs of it, on a dyadic grid where ``exact``.
        options: of `compile`.

    Returns:
        (program, comparison).

    Raises:
        AssertionError: something differs. ValueError: a layer has no integer operation; the message names it.
    """
    program = compile(folded, x, **options)  # type: ignore[arg-type]
    found = compare(program, folded, [x])
    modules = folded.modules() if isinstance(folded, nn.Module) else (node.module for node in folded)
    encoder = next((module for module in modules if isinstance(module, Encoder)), None)
    with torch.no_grad():
        sent = encoder(x) if encoder is not None and not encoder.repeats else x  # as the program takes it
    numbers = sent.detach().cpu().numpy()
    if program.spec.input.scale is not None:
        whole = program(numbers)
        axis = 0 if program.spec.input.repeat else 1
        batches = [program(part) for part in np.array_split(numbers, min(numbers.shape[axis], 5), axis)]
        joined = np.concatenate([part.levels for part in batches], int(sends_steps(program)))
        assert np.array_equal(joined, whole.levels), "a sample depends on its batch"
        _check_stream(program, numbers, whole.levels)
    counts = found.clamped if exact or not found.end_to_end_flips else found.clamped_forced
    clamped = {name: n for name, n in counts.items() if not name.endswith(RECTIFIERS)}
    assert not clamped, f"numbers were clamped: {clamped}"
    if exact:
        flips = {name: layer.end_to_end for name, layer in found.layers.items() if layer.end_to_end}
        assert not flips, f"spikes differ on a dyadic grid: {flips}"
        assert found.max_logit_difference == 0, f"outputs differ by {found.max_logit_difference}"
    return program, found


def _check_stream(program: Program, x: np.ndarray, expected: np.ndarray) -> None:  # type: ignore[type-arg]
    given = program.spec.input
    levels = program.quantize(x)
    sequence = np.broadcast_to(levels, (given.value.steps, *levels.shape)) if given.repeat else levels
    state, parts = None, []
    for chunk in np.array_split(sequence, min(2, len(sequence))):
        result, state = program.stream(chunk, state)
        parts.append(result.levels)
    got = np.concatenate(parts) if sends_steps(program) else parts[-1]
    assert np.array_equal(got, expected), "a stream in chunks differs from the whole run"


def dyadic(x: Tensor, steps: int = 16) -> Tensor:
    """Multiples of 1/steps, a power of two, in float64."""
    return torch.round(x.double() * steps) / steps

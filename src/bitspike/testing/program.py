"""Conformance of lowering: a folded network on a dyadic grid and its program send the same."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from bitspike.layers import Encoder
from bitspike.lower import Comparison, compare, compile
from bitspike.runtime import Program, Result

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
        whole = program.run(numbers)
        axis = 0 if program.spec.input.repeat else 1
        batches = [program.run(part) for part in np.array_split(numbers, min(numbers.shape[axis], 5), axis)]
        for name, result in whole.items():
            joined = np.concatenate([part[name].levels for part in batches], 0 if result.mean else 1)
            assert np.array_equal(joined, result.levels), f"a sample depends on its batch{_of(name)}"
        _check_stream(program, numbers, whole)
    counts = found.clamped if exact or not found.end_to_end_flips else found.clamped_forced
    clamped = {name: n for name, n in counts.items() if not name.endswith(RECTIFIERS)}
    assert not clamped, f"numbers were clamped: {clamped}"
    if exact:
        flips = {name: layer.end_to_end for name, layer in found.layers.items() if layer.end_to_end}
        assert not flips, f"spikes differ on a dyadic grid: {flips}"
        assert found.max_logit_difference == 0, f"outputs differ by {found.max_logit_difference}"
    return program, found


def _of(name: str) -> str:
    return f", output {name}" if name else ""


def _check_stream(program: Program, x: np.ndarray, whole: dict[str, Result]) -> None:  # type: ignore[type-arg]
    given = program.spec.input
    levels = program.quantize(x)
    sequence = np.broadcast_to(levels, (given.value.steps, *levels.shape)) if given.repeat else levels
    state, parts = None, []
    for chunk in np.array_split(sequence, min(2, len(sequence))):
        results, state = program.feed(chunk, state)
        parts.append(results)
    for name, expected in whole.items():
        sent = [part[name].levels for part in parts]
        joined = sent[-1] if expected.mean else np.concatenate(sent)
        assert np.array_equal(joined, expected.levels), f"a stream in chunks differs from the whole run{_of(name)}"


def dyadic(x: Tensor, steps: int = 16) -> Tensor:
    """Multiples of 1/steps, a power of two, in float64."""
    return torch.round(x.double() * steps) / steps

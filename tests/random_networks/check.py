"""A random network, its folded form and its program held against each other."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

import bitspike
from bitspike.fold import expand_unary
from bitspike.lower import Comparison, CompileReport
from bitspike.lower.comparing import run
from bitspike.runtime import Program, load, save
from bitspike.testing import check_program
from lower_nets import WIDE
from random_networks.plan import Plan
from random_networks.tuned import rounded, tuned

BOUNDS = {"divisor": 2.0**-12, "real": 2.0**-11, "sigmoid": 2.0**-8}
"""Where a network has no exact program: how far from its threshold a membrane whose spike flips may lie, relative to
the greatest of its layer, and how far logits may be off, relative to the greatest, with the network's spikes forced on
the program. Measured: weights, signals and real spikes have 16 bits, sigmoids come from a table of steps of 2^-7."""
KINDS = ("chunks", "one by one", "file", "unary", "few bits")
LIVE = (0.01, 0.99)


def check(plan: Plan) -> list[bool]:
    """Fold, compile and compare the network of a plan; which blocks fired.

    In turns, by seed: a stream in chunks of one, sample by sample, saved and loaded, spikes expanded, default bits.

    Raises:
        AssertionError: something differs, or is off by more than `BOUNDS`. ValueError: a refusal.
    """
    try:
        return _check(plan)
    except Exception as error:
        error.add_note(str(plan))
        raise


def _check(plan: Plan) -> list[bool]:
    model, x = tuned(plan)
    folded = bitspike.fold(model, x)
    causes = set(rounded(model, x).values())
    program, found = check_program(folded, x, exact=not causes, **WIDE)
    if causes:
        within(found, max(BOUNDS[cause] for cause in causes))
    else:
        report = CompileReport.of(program)
        assert all(layer.rounding == 0 for layer in report.layers), report.layers
    turn = KINDS[plan.seed % len(KINDS)]
    if turn == "unary":
        _expand(folded, x, exact=not causes)
    else:
        given = levels_of(program, folded, x)
        _turn(turn, program, folded, x, given)
    return [LIVE[0] < layer.fired / layer.spikes < LIVE[1] for layer in found.layers.values()]


def within(found: Comparison, bound: float) -> None:
    """Flips lie next to their threshold, logits are near."""
    far = {n: s for n, s in found.layers.items() if s.forced and s.worst_margin > bound * s.largest}
    assert not far, f"spikes flip farther than {bound:.3g} of the greatest from their threshold: {far}"
    off = found.max_logit_difference_forced
    assert off <= bound * max(found.largest_logit, 1e-9), f"logits are off by {off:.3g} of {found.largest_logit:.3g}"


def levels_of(program: Program, folded: nn.Module, x: Tensor) -> np.ndarray:
    """[steps, B, ...] of what a program is fed with, for inputs of the network."""
    given, sent = program.spec.input, x
    if given.scale is None:
        encoder = next((m for m in folded.modules() if isinstance(m, bitspike.layers.Encoder)), None)
        sent = x if encoder is None else encoder(x)
    numbers = sent.detach().cpu().numpy()
    levels = program.quantize(numbers) if given.scale is not None else numbers.astype(given.value.dtype)
    return np.broadcast_to(levels, (given.value.steps, *levels.shape)) if given.repeat else levels


def _turn(turn: str, program: Program, folded: nn.Module, x: Tensor, given: np.ndarray) -> None:
    _, whole, _ = run(program, given)
    if turn == "chunks":
        state: Any = None
        parts = []
        for step in given:
            result, state = program.stream(step[None], state)
            parts.append(result.values)
        got = parts[-1] if whole.ndim == 2 else np.concatenate(parts)
        assert np.array_equal(got, whole), "a stream of single steps differs from the whole run"
    elif turn == "one by one":
        alone = [run(program, given[:, i : i + 1])[1] for i in range(given.shape[1])]
        assert np.array_equal(np.concatenate(alone, 0 if whole.ndim == 2 else 1), whole), "a sample depends on others"
    elif turn == "file":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.bitspike"
            save(program, path)
            again = load(path)
        assert np.array_equal(run(again, given)[1], whole), "a loaded program differs from the one that was saved"
        assert CompileReport.of(again) == CompileReport.of(program)
    else:
        check_program(folded, x, exact=False)


def _expand(folded: nn.Module, x: Tensor, exact: bool) -> None:
    """Integer spikes sent as binary sub-steps, where there are some that a synapse reads."""
    try:
        expanded = expand_unary(folded)
    except ValueError as error:
        assert "expand_unary" in str(error)
        return
    check_program(expanded, x, exact=exact, **WIDE)

"""A random network, its folded form and its program held against each other."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

import bitspike
from bitspike.fold import expand_unary
from bitspike.layers import ClipFloor
from bitspike.lower import Comparison, CompileReport
from bitspike.lower.comparing import run
from bitspike.lower.targets import sends_steps
from bitspike.runtime import Program, load, save
from bitspike.testing import check_program
from bitspike.testing.program import RECTIFIERS
from lower_nets import WIDE
from random_networks.plan import Plan
from random_networks.tuned import rounded, tuned

USUAL = {
    "signal": 2.0**-12,
    "divisor": 2.0**-12,
    "scale": 2.0**-12,
    "real": 2.0**-11,
    "sigmoid": 2.0**-8,
    "levels": 2.0**-1,
}
FARTHEST = 2.0**-6, 2.0**-1
"""Where a network has no exact program: how far from its threshold a membrane whose spike flips may lie, relative to
the greatest of its layer, and how far logits may be off, relative to the greatest, with the network's spikes forced on
the program; measured. Weights, real spikes and real signals that a synapse reads ("signal") have 16 bits, sigmoids
come from a table of steps of 2^-7: 99 in 100 networks are within the usual. None is beyond the farthest: a norm
magnifies what channels of little variance lose. "levels": behind something rounded a `ClipFloor` may send the level
beside, half a step of which is the second."""
KINDS = ("chunks", "one by one", "file", "unary", "few bits")
LIVE = (0.01, 0.99)


@dataclass(frozen=True)
class Outcome:
    """A network that passed.

    Attributes:
        live: which blocks fired, the stem's first. cause: why its program is not exact; empty where it is.
        error: of margins and logits, relative to `USUAL`; 0 where the program is exact.
    """

    live: list[bool]
    cause: str
    error: float


def check(plan: Plan) -> Outcome:
    """Fold, compile and compare the network of a plan.

    In turns, by seed: a stream in chunks of one, sample by sample, saved and loaded, spikes expanded, default bits.

    Raises:
        AssertionError: something differs, or is off by more than `FARTHEST`. ValueError: a refusal.
    """
    try:
        return _check(plan)
    except Exception as error:
        error.add_note(str(plan))
        raise


def _check(plan: Plan) -> Outcome:
    model, x = tuned(plan)
    folded = bitspike.fold(model, x)
    causes = set(rounded(model, x).values())
    if causes and any(isinstance(module, ClipFloor) for module in model.modules()):
        causes.add("levels")
    program, found = check_program(folded, x, exact=False, **WIDE)
    assert all(name.endswith(RECTIFIERS) for name in found.clamped), f"numbers were clamped: {found.clamped}"
    same = not found.end_to_end_flips and not found.max_logit_difference
    if not same and any(made.op.name.endswith(".quantize") for made in program.operations):
        causes.add("signal")
    cause = max(causes, key=USUAL.__getitem__, default="")
    assert cause or same, f"no program should differ here: {found}, {found.layers}"
    error = 0.0
    if cause:
        error = error_of(found) / USUAL[cause]
        assert error * USUAL[cause] <= FARTHEST[cause == "levels"], (
            f"{error * USUAL[cause]:.3g} off: {found}, {found.layers}"
        )
    else:
        layers = CompileReport.of(program).layers
        assert all(layer.rounding == 0 for layer in layers), layers
    turn = KINDS[plan.seed % len(KINDS)]
    if turn == "unary":
        _expand(folded, x, exact=not cause)
    else:
        _turn(turn, program, folded, x, levels_of(program, folded, x))
    live = [LIVE[0] < layer.fired / layer.spikes < LIVE[1] for layer in found.layers.values()]
    return Outcome(live, cause, error)


def error_of(found: Comparison) -> float:
    """The greatest margin of a flip and difference of an output, each relative to the greatest of its kind."""
    margins = [layer.worst_margin / layer.largest for layer in found.layers.values() if layer.forced]
    rows = found.outputs.values() or [found]
    return max([*margins, *(row.max_logit_difference_forced / max(row.largest_logit, 1e-9) for row in rows)])


def levels_of(program: Program, folded: nn.Module, x: Tensor) -> np.ndarray:
    """[steps, B, ...] of what a program is fed with, for inputs of the network."""
    given, sent = program.spec.input, x
    encoder = next((m for m in folded.modules() if isinstance(m, bitspike.layers.Encoder)), None)
    if encoder is not None and (given.scale is None or not encoder.repeats):
        sent = encoder(x)
    numbers = sent.detach().cpu().numpy()
    levels = program.quantize(numbers) if given.scale is not None else numbers.astype(given.value.dtype)
    return np.broadcast_to(levels, (given.value.steps, *levels.shape)) if given.repeat else levels


def _turn(turn: str, program: Program, folded: nn.Module, x: Tensor, given: np.ndarray) -> None:
    _, whole, _ = run(program, given)
    if turn == "chunks":
        state: Any = None
        parts = []
        for step in given:
            results, state = program.feed(step[None], state)
            parts.append(results)
        for name, expected in whole.items():
            values = [part[name].values for part in parts]
            got = values[-1] if parts[-1][name].mean else np.concatenate(values)
            assert np.array_equal(got, expected), "a stream of single steps differs from the whole run"
    elif turn == "one by one":
        alone = [run(program, given[:, i : i + 1])[1] for i in range(given.shape[1])]
        for name, expected in whole.items():
            axis = int(sends_steps(program, name))
            together = np.concatenate([each[name] for each in alone], axis)
            assert np.array_equal(together, expected), "a sample depends on others"
    elif turn == "file":
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "m.bitspike"
            save(program, path)
            again = load(path)
        got = run(again, given)[1]
        same = all(np.array_equal(got[name], each) for name, each in whole.items())
        assert same, "a loaded program differs from the one that was saved"
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

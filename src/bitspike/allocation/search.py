"""The allocation with the least error that keeps every budget: repairs from several starts, then exchanges."""

from __future__ import annotations

import math
from dataclasses import replace

from bitspike.allocation.repair import GOAL, Problem, Repaired, State, moved, raised, repair

_ROUNDS = 200


def search(problem: Problem, state: State) -> Repaired:
    """Start from the repaired state and from the repaired upper bounds; exchange while the error falls.

    An exchange lowers one number by one and raises the others where that gains most. The result keeps every budget
    where `repair` finds a state that does, uses the tightest to `GOAL` where that does, and has no greater error than
    any of its starts within the budgets.

    Args:
        problem: the task. state: numbers to begin from, within their bounds.
    """
    ends = [repair(problem, start) for start in (state, problem.high)]
    kept = [end for end in ends if problem.excess(end.state) == 0]
    if not kept:
        return ends[0]
    best = min(kept, key=lambda end: _rank(problem, end.state))
    current, rank = best.state, _rank(problem, best.state)
    for _ in range(_ROUNDS):
        others = [_exchanged(problem, current, i) for i in range(len(current)) if current[i] > problem.low[i]]
        found = min(others, key=lambda other: _rank(problem, other), default=current)
        if not _rank(problem, found) < rank:
            break
        current, rank = found, _rank(problem, found)
    return replace(
        best, state=current, used=max(problem.used(current)), full=not problem.raisable(current), tried=best.tried
    )


def _rank(problem: Problem, state: State) -> tuple[float, float]:
    """Those that use the goal come first, then the error; what exceeds a budget comes last."""
    if problem.excess(state) > 0:
        return math.inf, math.inf
    return -min(max(problem.used(state)), GOAL), problem.error(state)


def _exchanged(problem: Problem, state: State, place: int) -> State:
    return raised(problem, moved(state, place, -1), but=place)

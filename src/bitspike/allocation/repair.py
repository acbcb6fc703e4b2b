"""Search over whole numbers: bits and time steps that keep every budget and use the tightest one."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

State = tuple[int, ...]
GOAL = 0.9
"""Share of the tightest budget that must be used."""
_EVERY = 25_000  # states that are all tried
_STARTS = 300


@dataclass(frozen=True)
class Problem:
    """Whole numbers within bounds, their use of several budgets, and the quantization error they cause.

    Args:
        low, high: bounds of every number. used: state → share of each budget in use, 1 for all of it.
        room: share of each budget that may be used, 1 but for what is estimated.
        error: state → quantization error, to be kept small.
    """

    low: State
    high: State
    used: Callable[[State], tuple[float, ...]]
    room: tuple[float, ...]
    error: Callable[[State], float]

    def excess(self, state: State) -> float:
        """``Σ_j max(0, used_j − room_j)``: 0 where every budget is kept."""
        return sum(max(0.0, use - room) for use, room in zip(self.used(state), self.room, strict=True))

    def raisable(self, state: State) -> list[int]:
        """Numbers below their upper bound that some budget sees."""
        use = self.used(state)
        return [i for i in range(len(state)) if state[i] < self.high[i] and self.used(moved(state, i, 1)) != use]


@dataclass(frozen=True)
class Repaired:
    """What `repair` found.

    Attributes:
        state: the numbers. used: share of the tightest budget. full: no number that a budget sees can be raised.
        tried: states of an exhaustive search that found no better use; 0 where the search was not exhaustive.
    """

    state: State
    used: float
    full: bool
    tried: int = 0


def moved(state: State, place: int, by: int) -> State:
    """A state with one number changed.

    >>> moved((1, 2), 0, 3)
    (4, 2)
    """
    return (*state[:place], state[place] + by, *state[place + 1 :])


def smallest(problem: Problem, amount: Callable[[State], float]) -> State:
    """The state with the least amount: from the lower bounds, one number at a time until nothing helps.

    Exact where raising a number never lowers the amount, and for sums of terms with one such exception each.
    """
    state, least = problem.low, amount(problem.low)
    better = True
    while better:
        better = False
        for place, value in _values(problem):
            other = (*state[:place], value, *state[place + 1 :])
            if (found := amount(other)) < least:
                state, least, better = other, found, True
    return state


def repair(problem: Problem, state: State) -> Repaired:
    """Lower what costs least accuracy until every budget is kept, then raise what gains most until none has room.

    1. Lower: of the single steps that make the excess smaller, the one with the least error per excess removed.
    2. Raise: of the single steps that stay within, the one with the greatest gain per share of the room left.
       Steps that gain nothing are taken only below `GOAL`; numbers that no budget sees are left alone.
    3. Where steps are too coarse to use `GOAL` of the tightest budget: lower one number and raise the others again;
       then all states, if they are few; else other starts.

    Args:
        problem: the task. state: numbers to begin from, within their bounds.

    Returns:
        `Repaired`; a state within every budget if one was found, else the one with the least excess.
    """
    state = _lower(problem, state)
    if problem.excess(state) > 0:
        state = _lower(problem, smallest(problem, problem.excess))
    if problem.excess(state) > 0:
        return Repaired(state, max(problem.used(state)), not problem.raisable(state))
    state = raised(problem, state)
    while not _done(problem, state):
        found = _exchange(problem, state)
        if found is None:
            break
        state = found
    if _done(problem, state):
        return Repaired(state, max(problem.used(state)), not problem.raisable(state))
    ranges = _seen(problem, state)
    count = math.prod(map(len, ranges))
    every = count <= _EVERY
    state = _best(problem, [state, *(itertools.product(*ranges) if every else _starts(problem))])
    full = not problem.raisable(state)
    use = max(problem.used(state))
    return Repaired(state, use, full, count if every and use < GOAL and not full else 0)


def _values(problem: Problem) -> Iterator[tuple[int, int]]:
    for place, (low, high) in enumerate(zip(problem.low, problem.high, strict=True)):
        for value in range(low, high + 1):
            yield place, value


def _done(problem: Problem, state: State) -> bool:
    return max(problem.used(state)) >= GOAL or not problem.raisable(state)


def _steps(problem: Problem, state: State) -> Iterator[State]:
    for place, value in enumerate(state):
        if value > problem.low[place]:
            yield moved(state, place, -1)
        if value < problem.high[place]:
            yield moved(state, place, 1)


def _lower(problem: Problem, state: State) -> State:
    excess, error = problem.excess(state), problem.error(state)
    while excess > 0:
        best: tuple[float, State] | None = None
        for other in _steps(problem, state):
            removed = excess - problem.excess(other)
            if removed > 0:
                price = (problem.error(other) - error) / removed
                if best is None or price < best[0]:
                    best = price, other
        if best is None:
            break
        state = best[1]
        excess, error = problem.excess(state), problem.error(state)
    return state


def raised(problem: Problem, state: State, but: int = -1) -> State:
    """Raise what gains most for its share of the room left, while there is room; ``but`` stays as it is."""
    while True:
        use, error = problem.used(state), problem.error(state)
        best: tuple[float, State] | None = None
        for place in range(len(state)):
            if place == but or state[place] >= problem.high[place]:
                continue
            other = moved(state, place, 1)
            after = problem.used(other)
            if after == use or any(a > r for a, r in zip(after, problem.room, strict=True)):
                continue
            shares = zip(use, after, problem.room, strict=True)
            taken = sum(max(0.0, a - u) / max(r - u, 1e-12) for u, a, r in shares)
            gain = error - problem.error(other)
            if gain <= 0 and max(use) >= GOAL:
                continue
            rank = gain / max(taken, 1e-12)
            if best is None or rank > best[0]:
                best = rank, other
        if best is None:
            return state
        state = best[1]


def _exchange(problem: Problem, state: State) -> State | None:
    """The best of: one number lower by any amount, the others raised again; None where nothing uses more."""
    found = []
    for place, value in _values(problem):
        if value < state[place]:
            found.append(raised(problem, (*state[:place], value, *state[place + 1 :]), but=place))
    best = _best(problem, [state, *found])
    return best if max(problem.used(best)) > max(problem.used(state)) else None


def _best(problem: Problem, states: list[State]) -> State:
    """Within every budget; of those that reach `GOAL` the one with the least error, else the one that uses most."""

    def rank(state: State) -> tuple[float, float]:
        use = max(problem.used(state))
        return min(use, GOAL), -problem.error(state) if use >= GOAL else 0.0

    return max((state for state in states if problem.excess(state) == 0), key=rank)


def _seen(problem: Problem, state: State) -> list[range]:
    """Values of every number; only the one it has where no budget sees it, with the others low, high or as they are."""
    found = []
    for place, (low, high) in enumerate(zip(problem.low, problem.high, strict=True)):
        sees = any(
            problem.used((*other[:place], value, *other[place + 1 :])) != problem.used(other)
            for other in (state, problem.low, problem.high)
            for value in (low, high)
        )
        found.append(range(low, high + 1) if sees else range(state[place], state[place] + 1))
    return found


def _starts(problem: Problem) -> Iterator[State]:
    """From states drawn with a fixed seed: lowered, then raised in an order drawn, while there is room."""
    draw = random.Random(0)
    bounds = list(zip(problem.low, problem.high, strict=True))
    for _ in range(_STARTS):
        state = _lower(problem, tuple(draw.randint(low, high) for low, high in bounds))
        if problem.excess(state) > 0:
            continue
        places = problem.raisable(state)
        while places:
            place = draw.choice(places)
            other = moved(state, place, 1)
            if other[place] > problem.high[place] or problem.excess(other) > 0:
                places.remove(place)
            else:
                state = other
        yield state

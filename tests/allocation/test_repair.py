"""The search for an allocation: within every budget from any start, 90 % used or said why not."""

from __future__ import annotations

import itertools
import math
import random

import pytest

from allocations import problem, random_problem
from bitspike.allocation.repair import GOAL, Problem, State, repair, smallest


def test_any_state_ends_within_every_budget_and_uses_the_tightest() -> None:
    """200 random networks and states. Where less is used, every number stands at its bound, or all states were tried;
    or (more than 25,000 states) 20,000 random ones hold none either."""
    draw = random.Random(5)
    short = 0
    for _ in range(200):
        made, state = random_problem(draw)
        found = repair(made, state)
        assert made.excess(found.state) == 0
        assert all(a <= s <= b for a, s, b in zip(made.low, found.state, made.high, strict=True))
        use = max(made.used(found.state))
        assert use == found.used <= 1
        assert found.full == (not made.raisable(found.state))
        if use >= GOAL or found.full:
            continue
        short += 1
        bounds = list(zip(made.low, made.high, strict=True))
        every = math.prod(b - a + 1 for a, b in bounds)
        assert found.tried == (every if every <= 25_000 else 0)
        drawn = (tuple(draw.randint(a, b) for a, b in bounds) for _ in range(20_000))
        states = itertools.product(*(range(a, b + 1) for a, b in bounds)) if found.tried else drawn
        assert not any(max(made.used(s)) >= GOAL and made.excess(s) == 0 for s in states)
    assert 0 < short < 25


def test_what_is_within_and_well_used_stays() -> None:
    made = problem([(1000.0, 100, 100)] * 3, [1.0])
    state = (4, 3, 2, 4, 3, 2, 4, 3, 2)
    limit = made.used(state)[0]
    kept = problem([(1000.0, 100, 100)] * 3, [limit])
    assert repair(kept, state).state == state


def test_a_coarse_step_is_gone_around() -> None:
    """One large layer whose steps overshoot: another is lowered, so that the large one can rise."""
    weights = [(100.0, 1, 1), (100.0, 1, 1)]
    made = problem(weights, [100.0 * 29])
    found = repair(made, (8, 1, 1, 8, 2, 1))
    assert GOAL <= found.used <= 1


def test_upper_bounds_and_granularity_are_told_apart() -> None:
    whole = problem([(1.0, 10, 10)], [1.0])
    full = repair(problem([(1.0, 10, 10)], [10 * whole.used(whole.high)[0]]), (1, 1, 1))
    assert full.full and full.used == pytest.approx(0.1) and full.state == (8, 6, 3) and full.tried == 0
    one = Problem((1,), (8,), lambda state: (state[0] / 1.9,), (1.0,), lambda state: 4.0 ** -state[0])
    stuck = repair(one, (7,))
    assert stuck.state == (1,) and not stuck.full and stuck.tried == 8 and stuck.used < 0.6


def test_the_cheapest_error_goes_first() -> None:
    """Two layers of equal cost: the one that loses less is lowered; of equal gain the cheaper one is raised."""

    def harm(state: State) -> float:
        return 100.0 * 4.0 ** -state[0] + 4.0 ** -state[1]

    equal = Problem((1, 1), (8, 8), lambda state: ((state[0] + state[1]) / 10,), (1.0,), harm)
    assert repair(equal, (6, 6)).state == (6, 4)
    cheap = Problem((1, 1), (8, 8), lambda s: ((3 * s[0] + s[1]) / 12,), (1.0,), lambda s: 4.0 ** -s[0] + 4.0 ** -s[1])
    assert repair(cheap, (2, 2)).state[1] > 2


def test_what_no_budget_sees_is_left_alone() -> None:
    made = Problem((1, 1), (8, 8), lambda state: (state[0] / 4,), (1.0,), lambda state: -float(sum(state)))
    assert repair(made, (7, 3)).state == (4, 3)


def test_room_is_left_where_asked() -> None:
    made = Problem((1,), (100,), lambda state: (state[0] / 100,), (0.97,), lambda state: -float(state[0]))
    assert repair(made, (100,)).state == (97,)


def test_steps_that_lower_the_cost_when_raised() -> None:
    """As T = 1 behind a pool, where real values of 32 bits are read in place of spikes."""

    def used(state: State) -> tuple[float, ...]:
        bits, steps = state
        return ((32 if steps == 1 else bits * steps) / 9,)

    made = Problem((1, 1), (6, 3), used, (1.0,), lambda state: float(-state[0] - state[1]))
    assert smallest(made, lambda state: used(state)[0]) == (1, 2)
    found = repair(made, (6, 1))
    assert GOAL <= found.used <= 1


def test_what_cannot_be_kept_comes_nearest() -> None:
    made = Problem((1, 1), (8, 8), lambda state: (state[0] / 0.5, state[1] / 4), (1.0, 1.0), lambda state: 0.0)
    found = repair(made, (5, 3))
    assert found.state[0] == 1 and found.used == 2.0

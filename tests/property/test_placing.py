"""Placements: the cost is what the formula says and submodular; bounds and guarantees hold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from placement_problems import (
    fits,
    least_cost_j,
    plain_cost_j,
    random_problem,
)

from siftmoe.coordinator.placing.bound import greedy_bound
from siftmoe.coordinator.placing.choosing import choose_placement
from siftmoe.coordinator.placing.exact import solve_placement
from siftmoe.coordinator.placing.exchange import exchanged
from siftmoe.coordinator.placing.greedy import Gains, greedy_placement
from siftmoe.coordinator.placing.packing import uniform_places

SEEDS = st.integers(0, 10_000)
KINDS = st.sampled_from(
    [
        {"priced": True},
        {"priced": False},
        {"layers": 2, "experts": 2, "helpers": 2},
        {"most_hosts": 1, "room": 0},
        {"most_hosts": 2},
        {"helpers": 2, "experts": 4, "room": 0},
    ]
)


@settings(max_examples=60, deadline=None)
@given(seed=SEEDS, priced=st.booleans(), data=st.data())
def test_the_gain_is_monotone_and_submodular(seed: int, priced: bool, data: st.DataObject) -> None:
    problem = random_problem(seed, layers=2, experts=3, helpers=3, priced=priced)
    shape = (3, 2, 3)
    bits = st.lists(st.booleans(), min_size=18, max_size=18)
    small = np.array(data.draw(bits)).reshape(shape)
    large = small | np.array(data.draw(bits)).reshape(shape)
    pair = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 2)))

    def gain(hosts: np.ndarray) -> float:
        more = hosts.copy()
        more[pair] = True
        return problem.cost_j(hosts) - problem.cost_j(more)

    assert gain(large) >= -1e-12
    assert gain(small) >= gain(large) - 1e-12
    assert problem.cost_j(small) == pytest.approx(plain_cost_j(problem, small), rel=1e-12)
    assert Gains(problem, small).of(*pair) == pytest.approx(gain(small), abs=1e-12)
    assert Gains(problem, small).all()[pair] == pytest.approx(gain(small), abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=SEEDS, kind=KINDS)
def test_greedy_keeps_its_guarantee_and_the_program_finds_the_best(seed: int, kind: dict) -> None:
    problem = random_problem(seed, **kind)
    nothing = np.zeros((problem.num_helpers, *problem.slots.shape), dtype=bool)
    best, start = least_cost_j(problem), problem.cost_j(nothing)
    greedy = greedy_placement(problem)
    better = exchanged(problem, greedy)
    solved = solve_placement(problem)
    assert solved.hosts is not None
    for hosts in (greedy, better, solved.hosts):
        assert fits(problem, hosts)
        assert problem.cost_j(hosts) >= best - 1e-9
    share = 1 / 4 if kind.get("most_hosts") == 2 else 1 / 3
    assert start - problem.cost_j(greedy) >= share * (start - best) - 1e-9
    assert problem.cost_j(better) <= problem.cost_j(greedy) + 1e-12
    assert problem.cost_j(solved.hosts) == pytest.approx(best, rel=1e-9)
    assert solved.bound_j == pytest.approx(best, rel=1e-6)
    relaxed = solve_placement(problem, relaxed=True)
    assert relaxed.hosts is None
    assert relaxed.bound_j <= best * (1 + 1e-9)
    assert greedy_bound(problem, better) <= best * (1 + 1e-9)


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_experts_of_different_sizes_keep_within_memories(seed: int) -> None:
    problem = random_problem(seed, even=False, experts=4, helpers=2)
    best = least_cost_j(problem)
    choice = choose_placement(problem)
    assert fits(problem, choice.hosts)
    assert choice.cost_j == pytest.approx(best, rel=1e-9)
    assert choice.optimal
    assert choice.guarantee.startswith("none") == (uniform_places(problem) is None)
    without = choose_placement(problem, time_limit_s=0.0)
    assert fits(problem, without.hosts)
    assert without.bound == "gains left"
    assert without.bound_j <= best * (1 + 1e-9) <= without.cost_j * (1 + 2e-9)

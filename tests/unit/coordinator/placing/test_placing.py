"""Placements: what a problem refuses, what fits, and what greedy and exchanges do with it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from placement_problems import random_problem

from siftmoe.coordinator.errors import PlacementError
from siftmoe.coordinator.placing.choosing import choose_placement
from siftmoe.coordinator.placing.exact import num_options
from siftmoe.coordinator.placing.greedy import greedy_placement
from siftmoe.coordinator.placing.packing import Shelf, uniform_places


def test_the_most_used_experts_go_to_the_nearest_helper() -> None:
    problem = replace(
        random_problem(0, experts=4, helpers=2, room=0, priced=False),
        slots=np.array([[0.1, 1.0, 0.2, 0.7]]),
        link_j=np.array([[1.0, 5.0]]),
    )
    choice = choose_placement(problem)
    assert choice.hosts[:, 0].tolist() == [[False, True, False, True], [True, False, True, False]]
    assert choice.cost_j == pytest.approx(1.7 * 1.0 + 0.3 * 5.0)
    assert choice.optimal
    assert "1/3" in choice.guarantee


def test_a_replica_pays_where_links_fade_apart() -> None:
    problem = replace(
        random_problem(0, experts=1, helpers=2, room=0, priced=False),
        link_j=np.array([[1.0, 9.0], [9.0, 1.0]]),
        slots=np.array([[1.0]]),
    )
    assert choose_placement(problem).cost_j == pytest.approx(1.0)
    alone = choose_placement(replace(problem, most_hosts=1))
    assert alone.cost_j == pytest.approx(5.0)
    assert alone.hosts.sum() == 1


def test_a_replica_that_saves_nothing_is_not_placed() -> None:
    problem = replace(
        random_problem(0, experts=1, helpers=2, room=0, priced=False),
        link_j=np.array([[1.0, 2.0]]),
    )
    assert choose_placement(problem).hosts.sum() == 1


def test_an_expert_that_nothing_is_routed_to_has_a_host() -> None:
    problem = replace(random_problem(1, experts=3, helpers=3), slots=np.array([[1.0, 1.0, 0.0]]))
    assert choose_placement(problem).hosts.any(axis=0).all()
    assert num_options(problem) > 0


def test_exchanges_mend_a_greedy_start() -> None:
    """Greedy is 20 % above the best here; exchanges close it."""
    problem = random_problem(5, layers=2, experts=6, helpers=4, states=1, room=1)
    costs = []
    for seed in range(8):
        problem = random_problem(seed, layers=2, experts=6, helpers=4, states=1, room=1)
        choice = choose_placement(problem)
        assert choice.bound_j <= choice.cost_j <= choice.greedy_j
        costs.append(choice.cost_j / choice.greedy_j)
    assert min(costs) < 0.97


def test_memories_are_counts_where_it_does_not_matter_which_experts_they_hold() -> None:
    problem = random_problem(0, experts=4, helpers=2, room=0)
    assert uniform_places(problem).tolist() == [2, 2]
    uneven = replace(problem, num_bytes=np.array([[7, 7, 6, 7]]))
    assert uniform_places(uneven).tolist() == [2, 2]  # a byte less makes no room
    assert uniform_places(replace(problem, num_bytes=np.array([[7, 7, 1, 7]]))) is None


def test_the_shelf_keeps_room_for_experts_without_a_host() -> None:
    problem = random_problem(0, experts=4, helpers=2, room=0)
    shelf = Shelf(problem)
    shelf.put(0, 0, 0)
    assert not shelf.accepts(1, 0, 0)  # four places for four experts: no replica
    assert not shelf.accepts(0, 0, 0)
    assert shelf.accepts(1, 0, 1)
    for helper, expert in ((0, 1), (1, 2), (1, 3)):
        assert not shelf.complete
        shelf.put(helper, 0, expert)
    assert shelf.complete


def test_experts_that_do_not_fit_are_refused_in_bytes() -> None:
    problem = random_problem(0, experts=4, helpers=2, room=0)
    with pytest.raises(PlacementError, match="8 bytes are missing; add agents or memory_bytes"):
        greedy_placement(replace(problem, capacity_bytes=np.array([10, 10])))
    with pytest.raises(PlacementError, match="do not fit beside each other"):
        greedy_placement(replace(problem, capacity_bytes=np.array([20, 13])))


def test_problems_that_make_no_sense_are_refused() -> None:
    problem = random_problem(0)
    for changes, said in (
        ({"link_j": np.full((2, 3), np.nan)}, "link_j must not be negative or NaN"),
        ({"slots": -problem.slots}, "slots must not be negative"),
        ({"link_j": np.array([[1.0, np.inf, 1.0]])}, "out of reach in every channel state"),
        ({"num_bytes": np.zeros((1, 3), dtype=int)}, "num_bytes must be positive"),
        ({"most_hosts": 4}, "1 to 3 hosts, got 4"),
        ({"loss_j": problem.loss_j[:, :2]}, r"loss_j must have shape \(1, 3, 4\)"),
    ):
        with pytest.raises(ValueError, match=said):
            replace(problem, **changes)

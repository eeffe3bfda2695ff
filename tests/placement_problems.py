"""Random placement problems, and the best placement of a tiny one by trying all."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.placing.problem import PlacementProblem

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    BoolArray = NDArray[np.bool_]


def random_problem(
    seed: int,
    *,
    layers: int = 1,
    experts: int = 3,
    helpers: int = 3,
    states: int = 2,
    priced: bool = True,
    room: int = 1,
    even: bool = True,
    most_hosts: int | None = None,
) -> PlacementProblem:
    """Make a problem; ``room``: experts beyond an even share that fit on each helper."""
    rng = np.random.default_rng(seed)
    loss = np.full((layers, experts, experts + 1), np.inf)
    if priced:
        loss = rng.uniform(0.2, 3.0, loss.shape)
        loss[:, :, -1] = rng.uniform(1.0, 6.0, loss.shape[:2])
    loss[:, range(experts), range(experts)] = 0.0
    sizes = np.full((layers, experts), 7)
    if not even:
        sizes = rng.integers(3, 12, (layers, experts))
    share = -(-layers * experts // helpers) + room
    link = rng.uniform(0.1, 3.0, helpers) / np.maximum(
        0.05, rng.exponential(1.0, (states, helpers))
    )
    return PlacementProblem(
        slots=rng.dirichlet(np.ones(experts), layers) * 2.0,
        loss_j=loss,
        link_j=link,
        num_bytes=sizes,
        capacity_bytes=np.full(helpers, share * int(sizes.max()) + 1),
        most_hosts=helpers if most_hosts is None else most_hosts,
    )


def fits(problem: PlacementProblem, hosts: BoolArray) -> bool:
    """Whether a placement keeps within memories and limits, and hosts every expert."""
    count = hosts.sum(axis=0)
    within = (problem.used_bytes(hosts) <= problem.capacity_bytes).all()
    return bool(within and (count >= 1).all() and (count <= problem.most_hosts).all())


def every_placement(problem: PlacementProblem) -> Iterator[BoolArray]:
    """Every set of pairs, whether it fits or not."""
    shape = (problem.num_helpers, *problem.slots.shape)
    for bits in product((False, True), repeat=int(np.prod(shape))):
        yield np.array(bits).reshape(shape)


def least_cost_j(problem: PlacementProblem) -> float:
    """Cost of the best placement, by trying all."""
    return min(problem.cost_j(h) for h in every_placement(problem) if fits(problem, h))


def plain_cost_j(problem: PlacementProblem, hosts: BoolArray) -> float:
    """Cost as the formula says it, in loops."""
    total = 0.0
    for s, layer, i in product(
        range(problem.num_states), range(problem.num_layers), range(problem.num_experts)
    ):
        options = [
            problem.link_j[s, n] + problem.loss_j[layer, i, j]
            for n, j in product(range(problem.num_helpers), range(problem.num_experts))
            if hosts[n, layer, j]
        ]
        best = min([problem.unserved_j()[layer, i], *options])
        total += problem.slots[layer, i] * best / problem.num_states
    return float(total)

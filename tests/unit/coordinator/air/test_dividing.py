"""Both widths chosen where both directions share a deadline."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from siftmoe.coordinator.air.assembly import payload_of
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.policies.siftmoe import SiftMoE, plan_objective
from siftmoe.coordinator.selection.precision import Precision, Replies
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem, Status
from siftmoe.coordinator.selection.widths import Widths
from siftmoe.models.vectors.packing import row_bits

GAIN, BACK, NOISE, BAND, DEADLINE = [1e-8, 3e-9], [4e-9, 2e-8], 4e-21, 2e6, 2.3e-3
LINKS = FixedLinks(gain=GAIN, downlink_gain=BACK, noise_psd=NOISE, bandwidth_hz=BAND).states(0.0)
SIZE, UP, DOWN, E = 128, (2, 4, 8), (3, 8), 2


def air(**changes: Any) -> AirInterface:
    given = {
        **payload_of(SIZE, Widths(UP, DOWN)),
        "token_deadline_s": DEADLINE,
        "tx_power_limit_w": 1.0,
        "deadline_shared": True,
        "compute_s_per_token": 1e-5,
    }
    return AirInterface(**{**given, **changes})


def joule(bits: float, airtime_s: float, gain: float) -> float:
    return airtime_s * NOISE * BAND / gain * float(np.expm1(np.log(2) * bits / (BAND * airtime_s)))


def at_best(up: float, down: float, n: int, total_s: float) -> float:
    """Energy of both directions at the best division, by a search that shares no code."""

    def energy(share: float) -> float:
        return joule(up, share * total_s, GAIN[n]) + joule(down, (1 - share) * total_s, BACK[n])

    found = minimize_scalar(energy, bounds=(1e-3, 1 - 1e-3), method="bounded")
    return float(min(found.fun, energy(float(found.x))))


def problem_of(interface: AirInterface, tokens: int, *, hosts: Any, price: float = 3e-9) -> Any:
    rng = np.random.default_rng(tokens)
    exact = np.array([[0.0, 0.3, 1.0], [0.3, 0.0, 1.0]])
    deviation = np.stack([exact + gap for gap in (0.12, 0.012, 0.0001)])
    deviation[:, :, -1] = 1.0
    pricing = interface.pricing(LINKS, tokens)
    known = np.ones((2, len(UP)), dtype=bool)
    replies = Replies(
        width=np.array(DOWN),
        noise=np.array([0.06, 0.0001]),
        known=known[:, : len(DOWN)],
        units=np.ones(len(DOWN), dtype=np.int64),
    )
    precision = Precision(
        width=np.array(UP),
        deviation=deviation,
        scale=np.ones_like(deviation),
        known=known,
        units=np.ones(len(UP), dtype=np.int64),
        pooled=True,
        replies=replies,
    )
    return SelectionProblem(
        routed_experts=np.array([rng.permutation(E) for _ in range(tokens)]),
        gate_weights=rng.dirichlet((1.0, 1.0), tokens),
        hosts=np.array(hosts, dtype=bool),
        local=np.zeros(E, dtype=bool),
        deviation=exact,
        scale=np.ones_like(exact),
        energy=pricing.energy_j,
        budget=Budget(kind=BudgetKind.PRICE, value=price),
        precision=precision.priced(pricing),
    )


@pytest.mark.parametrize("hosts", [np.eye(2), np.ones((2, 2)), [[1, 1], [0, 1]]])
@pytest.mark.parametrize("price", [3e-10, 3e-9, 1e-7])
def test_a_single_token_is_exact(hosts: Any, price: float) -> None:
    problem = problem_of(air(), 1, hosts=hosts, price=price)
    assert problem.precision.joint
    plan = SiftMoE().select(problem)
    best = np.inf
    ways = [None, *product(range(len(UP)), range(len(DOWN)))]
    for choice in product(ways, repeat=2):  # of each helper
        energy, deviation = 0.0, 0.0
        for n, way in enumerate(choice):
            if way:
                up, down = row_bits(SIZE, UP[way[0]]), row_bits(SIZE, DOWN[way[1]])
                energy += at_best(up, down, n, DEADLINE - 1e-5)
        for i, expert in enumerate(problem.routed_experts[0]):
            least = 1.0
            for n, way in enumerate(choice):
                for by in np.flatnonzero(problem.hosts[n]) if way else ():
                    own = problem.precision.deviation[way[0], expert, by]
                    least = min(least, own + problem.precision.replies.noise[way[1]] * (1 - own))
            deviation += problem.gate_weights[0, i] * least
        best = min(best, energy + price * deviation)
    assert plan.status is Status.OPTIMAL
    assert plan_objective(problem, plan) == pytest.approx(best, rel=1e-7)


@pytest.mark.parametrize("tokens", [3, 12])
def test_a_batch_is_divided_for_what_it_sends(tokens: int) -> None:
    shared = air()
    problem = problem_of(shared, tokens, hosts=np.eye(2))
    first = SiftMoE().select(problem)
    sent = shared.transfer(problem, first, LINKS, policy=SiftMoE().select)
    total = 0.0
    up_of = dict(zip(sent.up.helper.tolist(), range(2), strict=False))
    for n, k in up_of.items():
        count = sent.up.tokens[k]
        left = tokens * DEADLINE - 1e-5 * count
        assert sent.up.airtime_s[k] + sent.down.airtime_s[k] == pytest.approx(left)
        total += at_best(sent.up.payload_bits[k], sent.down.payload_bits[k], n, left)
    assert sent.up.energy_j.sum() + sent.down.energy_j.sum() == pytest.approx(total, rel=1e-6)
    assert sent.plan.energy_j == pytest.approx(total, rel=1e-6)
    # the plan of the first division, at the best division for it, is no better
    unsettled = shared.transfer(problem, first, LINKS, policy=lambda _: first)
    assert plan_objective(problem, sent.plan) <= plan_objective(problem, unsettled.plan) * (
        1 + 1e-9
    )
    assert np.isnan(sent.plan.lower_bound_j)


def test_a_shared_deadline_costs_more_than_a_whole_one_each_way() -> None:
    apart = air(deadline_shared=False)
    problem, shared = problem_of(apart, 6, hosts=np.eye(2)), air()
    whole = apart.transfer(problem, SiftMoE().select(problem), LINKS, policy=SiftMoE().select)
    problem = problem_of(shared, 6, hosts=np.eye(2))
    half = shared.transfer(problem, SiftMoE().select(problem), LINKS, policy=SiftMoE().select)
    assert half.plan.energy_j > whole.plan.energy_j
    assert half.up.direction is Direction.UP


def test_what_does_not_fit_the_deadline_is_named() -> None:
    slow = air(tx_power_limit_w=1e-9)
    problem = problem_of(air(), 3, hosts=np.eye(2))
    plan = SiftMoE().select(replace(problem, budget=Budget(kind=BudgetKind.PRICE, value=1e-6)))
    with pytest.raises(ValueError, match=r"bits to helper 0 and .* back do not fit a deadline"):
        slow.transfer(problem, plan, LINKS, policy=SiftMoE().select)


def test_windows_of_single_tokens_with_a_shared_deadline_are_refused() -> None:
    with pytest.raises(ValueError, match="leave out deadline_shared, or set shared_window"):
        air(shared_window=False)

"""Ways that are left out before a search, and that nothing is lost by it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siftmoe.coordinator.policies.batch.average import prefill_priced
from siftmoe.coordinator.policies.loads.effort import Effort
from siftmoe.coordinator.policies.loads.model import model_loads
from siftmoe.coordinator.policies.loads.pruning import without_dominated
from siftmoe.coordinator.policies.loads.tables import build_tables
from siftmoe.coordinator.policies.token.decode import decode_priced
from siftmoe.coordinator.selection.precision import Precision, Replies
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem

WIDTHS, E, N = (2, 3, 4, 5, 6, 8, 16), 6, 4


def problem_of(seed: int, *, tokens: int, capped: bool = False) -> SelectionProblem:
    rng = np.random.default_rng(seed)
    bits = np.array(WIDTHS)
    exact = rng.uniform(0.2, 1.0, (E, E + 1))
    exact[np.diag_indices(E)] = 0.0
    exact[:, -1] = 1.0
    noise = 2.0 * 4.0**-bits
    deviation = np.stack([exact + share * rng.uniform(0.8, 1.2, (E, 1)) for share in noise])
    deviation = np.maximum.accumulate(deviation[::-1])[::-1]
    deviation[:, :, -1] = 1.0
    load = np.arange(tokens * 16 + 1.0)
    energy = rng.uniform(0.5, 4.0, (2 * N, 1)) * np.expm1(0.3 * load / (16 * tokens)) * tokens
    if capped:
        energy[0, 5 * tokens :] = np.inf
    known = np.ones((N, len(WIDTHS)), dtype=bool)
    return SelectionProblem(
        routed_experts=np.array([rng.permutation(E)[:2] for _ in range(tokens)]),
        gate_weights=rng.dirichlet((1.0, 1.0), tokens),
        hosts=rng.random((N, E)) < 0.6,
        local=np.zeros(E, dtype=bool),
        deviation=exact,
        scale=np.ones_like(exact),
        energy=energy,
        budget=Budget(kind=BudgetKind.PRICE, value=1.0),
        precision=Precision(
            width=bits,
            deviation=deviation,
            scale=np.ones_like(deviation),
            known=known,
            units=bits,
            pooled=True,
            replies=Replies(width=bits, noise=noise / noise.max() * 0.2, known=known, units=bits),
        ),
    )


@pytest.mark.parametrize("seed", range(6))
def test_a_token_loses_nothing_and_few_ways_are_left(seed: int) -> None:
    problem = problem_of(seed, tokens=1)
    tables, model = build_tables(problem), model_loads(problem)
    fewer, smaller = without_dominated(problem, tables, model)
    assert smaller.num_ways < model.num_ways / 2
    assert fewer.served.shape[1] == fewer.helper.size == smaller.num_ways
    for price in (0.1, 1.0, 10.0, 100.0):
        one = replace(problem, budget=Budget(kind=BudgetKind.PRICE, value=price))
        whole, part = decode_priced(one, tables, model), decode_priced(one, fewer, smaller)
        assert part[2] == pytest.approx(whole[2], rel=1e-12)


@pytest.mark.parametrize("capped", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_batch_loses_nothing(seed: int, capped: bool) -> None:
    problem = problem_of(seed, tokens=6, capped=capped)
    tables, model = build_tables(problem), model_loads(problem)
    fewer, smaller = without_dominated(problem, tables, model)
    assert 0 < smaller.num_ways < model.num_ways
    effort = Effort(certificate=True, rounds=0, cuts=30)
    _, _, whole = prefill_priced(problem, tables, model, effort)
    _, _, part = prefill_priced(problem, fewer, smaller, effort)
    # the bound of either is one of both, and both come near the same largest one
    assert part == pytest.approx(whole, rel=2e-3)


def test_where_a_direction_is_soon_full_its_narrow_ways_stay() -> None:
    free = problem_of(1, tokens=6)
    capped = problem_of(1, tokens=6, capped=True)
    left = []
    for problem in (free, capped):
        tables, _ = without_dominated(problem, build_tables(problem), model_loads(problem))
        left.append(int((tables.helper == 0).sum()))
    assert left[1] >= left[0]


def test_out_of_reach_is_left_out_and_the_rest_is_served() -> None:
    problem = problem_of(2, tokens=1)
    energy = problem.energy.copy()
    energy[[0, 1, 2, N + 3], 1:] = np.inf  # no request to three, no answer of the last
    nobody = replace(problem, energy=energy)
    tables, model = without_dominated(nobody, build_tables(nobody), model_loads(nobody))
    assert model.num_ways == 0
    sets, _, value = decode_priced(nobody, tables, model)
    assert (sets == -1).all()
    assert value == pytest.approx(1.0)  # both slots skipped, of weights that sum to 1


def test_one_width_has_nothing_to_leave_out() -> None:
    problem = problem_of(3, tokens=2)
    plain = replace(problem, precision=None, energy=problem.energy[:N])
    tables, model = build_tables(plain), model_loads(plain)
    assert without_dominated(plain, tables, model) == (tables, model)

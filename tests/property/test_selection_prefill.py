"""Many tokens at convex energies: exact for one slot, near-optimal and certified for more."""

from __future__ import annotations

import math

import numpy as np
import pytest
from instances import as_problem, judge, make_instance, milp_optimum, tighten_power

from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.selection.problem import Status

CERTIFIED = SiftMoE(certificate=True, rounds=300)
CLOSED = SiftMoE(certificate=True, rounds=300, cuts=20, closing_s=10.0)


def random_instance(seed: int, *, slots: int, tokens: int, helpers: int) -> dict[str, object]:
    rng = np.random.default_rng(seed)
    raw = make_instance(
        rng,
        tokens=tokens,
        experts=8,
        slots=slots,
        helpers=helpers,
        share=float(rng.choice([0.2, 0.4, 0.6])),
        replicas=int(rng.integers(1, 3)),
        spectral=float(rng.choice([1.0, 4.0])),
    )
    return tighten_power(raw, rng, ease=float(rng.uniform(0.5, 1.5))) if seed % 2 else raw


@pytest.mark.parametrize("seed", range(100))
def test_one_slot_is_exact(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = random_instance(
        seed, slots=1, tokens=int(rng.integers(2, 20)), helpers=int(rng.integers(1, 7))
    )
    optimum = milp_optimum(raw)

    plan = SiftMoE().select(as_problem(raw))

    if math.isinf(optimum):
        assert plan.status is Status.INFEASIBLE
    else:
        assert plan.status is Status.OPTIMAL
        assert judge(raw, plan.helper_sets()) == pytest.approx(optimum, rel=1e-7)


@pytest.mark.parametrize("slots", [2, 3])
@pytest.mark.parametrize("seed", range(40))
def test_more_slots_are_near_optimal_and_the_bound_holds(seed: int, slots: int) -> None:
    raw = random_instance(seed + 500 * slots, slots=slots, tokens=10, helpers=5)
    optimum = milp_optimum(raw)
    problem = as_problem(raw)

    quick, certified, closed = (p.select(problem) for p in (SiftMoE(), CERTIFIED, CLOSED))

    if math.isinf(optimum):
        assert {p.status for p in (quick, certified, closed)} == {Status.INFEASIBLE}
        return
    for plan in (quick, certified, closed):
        assert judge(raw, plan.helper_sets()) >= optimum * (1 - 1e-7)
        assert plan.energy_j == pytest.approx(judge(raw, plan.helper_sets()), rel=1e-9)
    for plan in (certified, closed):
        assert plan.lower_bound_j <= optimum * (1 + 1e-7)
    assert certified.energy_j <= optimum * 1.001
    assert closed.status is Status.OPTIMAL
    assert closed.energy_j == pytest.approx(optimum, rel=1e-7)


def test_a_large_batch_is_certified_within_a_thousandth() -> None:
    rng = np.random.default_rng(9)
    raw = make_instance(rng, tokens=600, experts=64, slots=2, helpers=70)
    plan = SiftMoE(certificate=True).select(as_problem(raw))
    assert plan.status is not Status.INFEASIBLE
    assert plan.energy_j - plan.lower_bound_j <= 1e-3 * plan.energy_j
    assert judge(raw, plan.helper_sets()) == pytest.approx(plan.energy_j, rel=1e-9)


@pytest.mark.parametrize("seed", range(6))
def test_sets_too_many_to_list_are_searched_for(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same instance by listed sets and by the oracle; both within the certificate."""
    rng = np.random.default_rng(seed)
    raw = make_instance(rng, tokens=40, experts=32, slots=4, helpers=8)
    problem = as_problem(tighten_power(raw, rng, ease=0.8) if seed % 2 else raw)
    listed = CLOSED.select(problem)
    monkeypatch.setattr(
        "siftmoe.coordinator.policies.batch.prefill.list_columns", lambda **_arguments: None
    )
    searched = CERTIFIED.select(problem)
    if listed.status is Status.INFEASIBLE:
        assert searched.status is Status.INFEASIBLE
        return
    assert judge(raw, searched.helper_sets()) == pytest.approx(searched.energy_j, rel=1e-9)
    assert searched.lower_bound_j <= listed.energy_j * (1 + 1e-12)
    assert listed.energy_j * (1 - 1e-9) <= searched.energy_j <= listed.energy_j * 1.01


def test_energies_over_many_powers_of_two() -> None:
    """The trap of section 2.4: loads whose energy is 2**40 times a token's spoil no bound."""
    rng = np.random.default_rng(11)
    for _ in range(5):
        raw = make_instance(
            rng, tokens=12, experts=8, slots=2, helpers=5, spectral=40.0, power_w=1e12
        )
        plan = CLOSED.select(as_problem(raw))
        assert plan.status is Status.OPTIMAL
        other = SiftMoE(certificate=True, rounds=3000, seed=5).select(as_problem(raw))
        assert other.energy_j >= plan.energy_j * (1 - 1e-9)
        assert other.lower_bound_j <= plan.energy_j * (1 + 1e-9)


def test_a_seed_gives_one_plan() -> None:
    raw = make_instance(np.random.default_rng(2), tokens=48, experts=16, slots=2, helpers=12)
    policy = SiftMoE(rounds=200, seed=3)
    first, second = policy.select(as_problem(raw)), policy.select(as_problem(raw))
    assert first.helper_sets() == second.helper_sets()

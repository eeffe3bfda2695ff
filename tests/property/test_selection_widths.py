"""Helper, expert and width chosen together: against enumeration that shares no code with it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from siftmoe.coordinator.policies.siftmoe import SiftMoE, plan_objective
from siftmoe.coordinator.selection.precision import Precision
from siftmoe.coordinator.selection.problem import (
    NOBODY,
    Budget,
    BudgetKind,
    SelectionPlan,
    SelectionProblem,
    Status,
)

WIDTHS = (2, 4, 8)
UNITS = (3, 5, 9)
E = 6


def problem_of(
    seed: int, *, tokens: int, slots: int, helpers: int, kind: BudgetKind, value: float
) -> SelectionProblem:
    rng = np.random.default_rng(seed)
    gap = rng.random((len(WIDTHS), E, E + 1)) * np.array([0.5, 0.2, 0.02])[:, None, None]
    gap = np.maximum.accumulate(gap[::-1])[::-1]
    exact = rng.uniform(0.3, 1.2, (E, E + 1))
    exact[np.diag_indices(E)] = 0.0
    deviation = exact + gap
    deviation[:, :, E] = exact[:, E]
    load = np.arange(tokens * max(UNITS) + 1.0)
    energy = rng.uniform(0.5, 4.0, (helpers, 1)) * np.expm1(0.06 * load)
    if seed % 3 == 0:  # a helper that is soon full
        energy[0, int(rng.integers(1, energy.shape[1])) :] = np.inf
    known = rng.random((helpers, len(WIDTHS))) < 0.8
    return SelectionProblem(
        routed_experts=np.array([rng.permutation(E)[:slots] for _ in range(tokens)]),
        gate_weights=rng.dirichlet(np.ones(slots), tokens),
        hosts=rng.random((helpers, E)) < 0.6,
        local=np.zeros(E, dtype=bool),
        deviation=exact,
        scale=np.ones((E, E + 1)),
        energy=energy,
        budget=Budget(kind=kind, value=value),
        precision=Precision(
            width=np.array(WIDTHS),
            deviation=deviation,
            scale=rng.uniform(0.8, 1.2, deviation.shape),
            known=known,
            units=np.array(UNITS),
            pooled=True,
        ),
    )


def best_of_token(problem: SelectionProblem, t: int, widths: tuple[int, ...]) -> float:
    """Deviation of a token that goes to helper n at ``widths[n]`` (-1: not), best experts."""
    assert problem.precision is not None
    total = 0.0
    for i, expert in enumerate(problem.routed_experts[t]):
        least = problem.deviation[expert, E]
        for n, b in enumerate(widths):
            if b >= 0:
                hosted = problem.precision.deviation[b, expert, :E][problem.hosts[n]]
                least = min(least, *hosted.tolist(), np.inf)
        total += problem.slot_weights()[t, i] * least
    return float(total)


def choices_of(problem: SelectionProblem) -> list[tuple[int, ...]]:
    """Width of a token at every helper, -1 for none; only those that the helper knows."""
    assert problem.precision is not None
    each = [[-1, *np.flatnonzero(known)] for known in problem.precision.known]
    return [tuple(int(b) for b in choice) for choice in product(*each)]


def energy_of(problem: SelectionProblem, choices: list[tuple[int, ...]]) -> float:
    loads = np.zeros(problem.num_helpers, dtype=int)
    for choice in choices:
        for n, b in enumerate(choice):
            loads[n] += UNITS[b] if b >= 0 else 0
    return float(problem.energy[np.arange(problem.num_helpers), loads].sum())


def as_choices(problem: SelectionProblem, plan: SelectionPlan) -> list[tuple[int, ...]]:
    found = []
    for helper, width in zip(plan.helper, plan.width, strict=True):
        choice = [-1] * problem.num_helpers
        for n, w in zip(helper, width, strict=True):
            assert (n >= 0) == (w > 0)
            if n >= 0:
                b = WIDTHS.index(int(w))
                assert choice[n] in (-1, b), "a token goes to a helper at one width"
                choice[n] = b
        found.append(tuple(choice))
    return found


def check(problem: SelectionProblem, plan: SelectionPlan) -> None:
    """Judge a plan: reachable, known, of the energy and deviation that it states."""
    precision = problem.precision
    assert precision is not None
    choices = as_choices(problem, plan)
    for choice in choices:
        assert all(b < 0 or precision.known[n, b] for n, b in enumerate(choice))
    served = plan.helper >= 0
    assert problem.hosts[plan.helper[served], plan.expert[served]].all()
    assert ((plan.helper == NOBODY) == (plan.expert == E)).all()
    assert plan.energy_j == pytest.approx(energy_of(problem, choices), rel=1e-9)
    deviation = np.zeros(problem.num_tokens)
    for t, i in np.ndindex(plan.helper.shape):
        expert, by = problem.routed_experts[t, i], plan.expert[t, i]
        at = WIDTHS.index(int(plan.width[t, i])) if served[t, i] else 0
        table = precision.deviation[at] if served[t, i] else problem.deviation
        deviation[t] += problem.slot_weights()[t, i] * table[expert, by]
        if served[t, i]:
            wanted = problem.gate_weights[t, i] * precision.scale[at, expert, by]
            assert plan.weight[t, i] == pytest.approx(wanted)
    np.testing.assert_allclose(plan.deviation, deviation, atol=1e-12)


@pytest.mark.parametrize("slots", [1, 2, 3])
@pytest.mark.parametrize("seed", range(20))
def test_one_token_equals_brute_force(seed: int, slots: int) -> None:
    for kind, value in (
        (BudgetKind.PER_TOKEN, [0.05, 0.15, 0.3][seed % 3]),
        (BudgetKind.PRICE, [0.5, 3.0, 20.0][seed % 3]),
    ):
        problem = problem_of(seed, tokens=1, slots=slots, helpers=3, kind=kind, value=value)
        options = [
            (energy_of(problem, [choice]), best_of_token(problem, 0, choice))
            for choice in choices_of(problem)
        ]
        options = [(energy, deviation) for energy, deviation in options if np.isfinite(energy)]
        plan = SiftMoE().select(problem)
        check(problem, plan)
        if kind is BudgetKind.PRICE:
            best = min(energy + value * deviation for energy, deviation in options)
            assert plan.status is Status.OPTIMAL
            assert plan_objective(problem, plan) == pytest.approx(best, rel=1e-9)
            assert plan.lower_bound_j == pytest.approx(best, rel=1e-9)
            continue
        within = [energy for energy, deviation in options if deviation <= value + 1e-12]
        if within:
            assert plan.status is Status.OPTIMAL
            assert plan.energy_j == pytest.approx(min(within), rel=1e-9, abs=1e-15)
        else:
            assert plan.status is Status.INFEASIBLE
            least = min(deviation for _, deviation in options)
            assert plan.deviation[0] == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("seed", range(16))
def test_a_batch_is_near_the_optimum_and_above_its_bound(seed: int) -> None:
    kind, value = (
        (BudgetKind.PER_TOKEN, 0.2),
        (BudgetKind.PRICE, 4.0),
        (BudgetKind.AVERAGE, 0.15),
    )[seed % 3]
    problem = problem_of(seed + 1, tokens=3, slots=2, helpers=2, kind=kind, value=value)
    choices = choices_of(problem)
    deviation = [[best_of_token(problem, t, c) for c in choices] for t in range(3)]
    best = np.inf
    for picked in product(range(len(choices)), repeat=3):
        spent = [deviation[t][k] for t, k in enumerate(picked)]
        energy = energy_of(problem, [choices[k] for k in picked])
        if kind is BudgetKind.PRICE:
            energy += value * sum(spent)
        elif kind is BudgetKind.AVERAGE:
            energy = energy if sum(spent) <= 3 * value + 1e-12 else np.inf
        else:
            energy = energy if max(spent) <= value + 1e-12 else np.inf
        best = min(best, energy)
    plan = SiftMoE(certificate=True, cuts=40, rounds=64).select(problem)
    check(problem, plan)
    if not np.isfinite(best):
        assert plan.status is Status.INFEASIBLE
        return
    assert plan.status is not Status.INFEASIBLE
    objective = plan_objective(problem, plan)
    assert objective >= best * (1 - 1e-9)
    assert objective <= best * 1.1 + 1e-12
    assert plan.lower_bound_j <= best * (1 + 1e-9)
    if kind is BudgetKind.PER_TOKEN:
        assert plan.deviation.max() <= value + 1e-9
    if kind is BudgetKind.AVERAGE:
        assert plan.deviation.sum() <= 3 * value + 1e-9


@pytest.mark.parametrize("kind", list(BudgetKind))
def test_one_width_in_several_clothes_is_one_width(kind: BudgetKind) -> None:
    value = {"per-token": 0.25, "average": 0.2, "price": 3.0}[kind.value]
    several = problem_of(2, tokens=12, slots=2, helpers=4, kind=kind, value=value)
    precision = several.precision
    assert precision is not None
    one = replace(
        precision,
        width=precision.width[:1],
        deviation=precision.deviation[:1],
        scale=precision.scale[:1],
        known=np.ones((4, 1), dtype=bool),
        units=np.ones(1, dtype=np.int64),
    )
    wrapped = replace(several, precision=one)
    plain = replace(
        several, precision=None, width=2, deviation=one.deviation[0], scale=one.scale[0]
    )
    a, b = SiftMoE().select(wrapped), SiftMoE().select(plain)
    assert plan_objective(wrapped, a) == pytest.approx(plan_objective(plain, b), rel=1e-9)
    assert {*np.unique(a.width)} <= {0, 2}


def test_separate_windows_are_exact_for_any_batch() -> None:
    rng = np.random.default_rng(4)
    base = problem_of(4, tokens=20, slots=2, helpers=3, kind=BudgetKind.PRICE, value=5.0)
    assert base.precision is not None
    token_j = rng.uniform(0.5, 3.0, (3, 1)) * np.expm1(0.3 * np.array(UNITS))  # [N, B]
    precision = replace(base.precision, units=np.ones(3, dtype=np.int64), pooled=False)
    problem = replace(base, precision=precision, energy=token_j.reshape(-1, 1) * np.arange(21.0))
    plan = SiftMoE().select(problem)
    assert plan.status is Status.OPTIMAL
    total = 0.0
    for t in range(20):
        total += min(
            sum(token_j[n, b] for n, b in enumerate(choice) if b >= 0)
            + 5.0 * best_of_token(problem, t, choice)
            for choice in choices_of(problem)
        )
    assert plan_objective(problem, plan) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": np.array([4, 2, 8])}, "must ascend"),
        ({"units": np.array([1, 2])}, "one per width"),
        ({"units": np.array([0, 1, 2])}, "must be positive"),
        ({"deviation": np.arange(3.0)[:, None, None] * np.ones((3, E, E + 1))}, "wider vector"),
        ({"known": np.ones((2, 3), dtype=bool)}, "known must have shape"),
        ({"scale": np.ones((3, E, E))}, "scale must have shape"),
    ],
)
def test_widths_that_contradict_themselves_are_refused(change: dict, message: str) -> None:
    problem = problem_of(1, tokens=2, slots=2, helpers=3, kind=BudgetKind.PRICE, value=1.0)
    assert problem.precision is not None
    with pytest.raises(ValueError, match=message):
        replace(problem, precision=replace(problem.precision, **change))


def test_an_energy_table_too_short_for_the_widest_is_refused() -> None:
    problem = problem_of(1, tokens=2, slots=2, helpers=3, kind=BudgetKind.PRICE, value=1.0)
    with pytest.raises(ValueError, match=r"energy must have shape \(3, at least 19\)"):
        replace(problem, energy=problem.energy[:, :18])

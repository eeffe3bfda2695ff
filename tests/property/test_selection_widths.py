"""Helper, expert and both widths chosen: against enumeration that shares no code with it."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from siftmoe.coordinator.energy.pricing import separate_pricing
from siftmoe.coordinator.policies.siftmoe import SiftMoE, plan_objective
from siftmoe.coordinator.selection.precision import Precision, Replies
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
BACK = (3, 8)
BACK_UNITS = (2, 7)
NOISE = (0.2, 0.03)
E = 6
#: Widths up and back of a token's way to a helper; None: it is not sent there.
Way = tuple[int, int] | None


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
    energy = rng.uniform(0.5, 4.0, (2 * helpers, 1)) * np.expm1(0.06 * load)
    if seed % 3 == 0:  # a direction that is soon full
        energy[int(rng.integers(2 * helpers)), int(rng.integers(1, energy.shape[1])) :] = np.inf
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
            known=rng.random((helpers, len(WIDTHS))) < 0.8,
            units=np.array(UNITS),
            pooled=True,
            replies=Replies(
                width=np.array(BACK),
                noise=np.array(NOISE),
                known=rng.random((helpers, len(BACK))) < 0.8,
                units=np.array(BACK_UNITS),
                fitted=seed % 2 == 0,
            ),
        ),
    )


def served_by(problem: SelectionProblem, expert: int, by: int, b: int, v: int) -> float:
    """Deviation of a slot that ``by`` serves at widths b and v, before its weight."""
    assert problem.precision is not None
    own = problem.precision.deviation[b, expert, by]
    returned = problem.deviation[expert, E]
    if problem.precision.replies.fitted:
        returned = max(0.0, returned - own)
    return float(own + NOISE[v] * returned)


def best_of_token(problem: SelectionProblem, t: int, ways: tuple[Way, ...]) -> float:
    """Deviation of a token that goes these ways, one per helper, by the best experts."""
    total = 0.0
    for i, expert in enumerate(problem.routed_experts[t]):
        least = problem.deviation[expert, E]
        for n, way in enumerate(ways):
            for by in np.flatnonzero(problem.hosts[n]) if way else ():
                least = min(least, served_by(problem, expert, int(by), *way))
        total += problem.slot_weights()[t, i] * least
    return float(total)


def choices_of(problem: SelectionProblem) -> list[tuple[Way, ...]]:
    """Way of a token to every helper, None for none; only widths that the helper knows."""
    precision = problem.precision
    assert precision is not None
    each: list[list[Way]] = []
    for known, back in zip(precision.known, precision.replies.known, strict=True):
        widths = product(np.flatnonzero(known), np.flatnonzero(back))
        each.append([None, *((int(b), int(v)) for b, v in widths)])
    return list(product(*each))


def energy_of(problem: SelectionProblem, choices: list[tuple[Way, ...]]) -> float:
    helpers = problem.num_helpers
    loads = np.zeros(2 * helpers, dtype=int)
    for choice in choices:
        for n, way in enumerate(choice):
            if way:
                loads[n] += UNITS[way[0]]
                loads[helpers + n] += BACK_UNITS[way[1]]
    return float(problem.energy[np.arange(2 * helpers), loads].sum())


def as_choices(problem: SelectionProblem, plan: SelectionPlan) -> list[tuple[Way, ...]]:
    found = []
    assert plan.reply_width is not None
    for helper, width, reply in zip(plan.helper, plan.width, plan.reply_width, strict=True):
        choice: list[Way] = [None] * problem.num_helpers
        for n, w, r in zip(helper, width, reply, strict=True):
            assert (n >= 0) == (w > 0) == (r > 0)
            if n >= 0:
                way = WIDTHS.index(int(w)), BACK.index(int(r))
                assert choice[n] in (None, way), "a token goes one way to a helper"
                choice[n] = way
        found.append(tuple(choice))
    return found


def check(problem: SelectionProblem, plan: SelectionPlan) -> None:
    """Judge a plan: reachable, known, of the energy and deviation that it states."""
    precision = problem.precision
    assert precision is not None
    choices = as_choices(problem, plan)
    for choice in choices:
        for n, way in enumerate(choice):
            assert way is None or precision.known[n, way[0]]
            assert way is None or precision.replies.known[n, way[1]]
    served = plan.helper >= 0
    assert problem.hosts[plan.helper[served], plan.expert[served]].all()
    assert ((plan.helper == NOBODY) == (plan.expert == E)).all()
    assert plan.energy_j == pytest.approx(energy_of(problem, choices), rel=1e-9)
    deviation = np.zeros(problem.num_tokens)
    for t, i in np.ndindex(plan.helper.shape):
        expert, by = problem.routed_experts[t, i], plan.expert[t, i]
        found = problem.deviation[expert, by]
        if served[t, i]:
            at, back = WIDTHS.index(int(plan.width[t, i])), BACK.index(int(plan.reply_width[t, i]))
            found = served_by(problem, expert, by, at, back)
            wanted = problem.gate_weights[t, i] * precision.scale[at, expert, by]
            assert plan.weight[t, i] == pytest.approx(wanted)
        deviation[t] += problem.slot_weights()[t, i] * found
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
        replies=Replies.exact(4),
    )
    wrapped = replace(several, precision=one)
    plain = replace(
        several,
        precision=None,
        width=2,
        deviation=one.deviation[0],
        scale=one.scale[0],
        energy=several.energy[:4] + several.energy[4:],
    )
    a, b = SiftMoE().select(wrapped), SiftMoE().select(plain)
    assert plan_objective(wrapped, a) == pytest.approx(plan_objective(plain, b), rel=1e-9)
    assert {*np.unique(a.width)} <= {0, 2}
    assert a.reply_width is None


@pytest.mark.parametrize("joint", [False, True])
def test_separate_windows_are_exact_for_any_batch(joint: bool) -> None:
    rng = np.random.default_rng(4)
    base = problem_of(4, tokens=20, slots=2, helpers=3, kind=BudgetKind.PRICE, value=5.0)
    assert base.precision is not None
    # where both directions share a deadline, two vectors of many bits are dear together
    token_j = rng.uniform(0.5, 3.0, (3, 1, 1)) * np.expm1(
        0.3 * np.add.outer(UNITS, BACK_UNITS if joint else np.log1p(BACK_UNITS))
    )  # [N, B, V]
    precision = base.precision.priced(separate_pricing(token_j, tokens=20, joint=joint))
    table = separate_pricing(token_j, tokens=20).energy_j
    problem = replace(base, precision=precision, energy=table)
    plan = SiftMoE().select(problem)
    assert plan.status is Status.OPTIMAL
    assert all(as_choices(problem, plan))
    total = 0.0
    for t in range(20):
        total += min(
            sum(token_j[(n, *way)] for n, way in enumerate(choice) if way)
            + 5.0 * best_of_token(problem, t, choice)
            for choice in choices_of(problem)
        )
    assert plan_objective(problem, plan) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": np.array([4, 2, 8])}, "must ascend"),
        ({"units": np.array([1, 2])}, "one of each"),
        ({"units": np.array([0, 1, 2])}, "must be positive"),
        ({"deviation": np.arange(3.0)[:, None, None] * np.ones((3, E, E + 1))}, "wider vector"),
        ({"known": np.ones((2, 3), dtype=bool)}, "known must have shape"),
        ({"scale": np.ones((3, E, E))}, "scale must have shape"),
        ({"replies": Replies.exact(2)}, "answers are known of 2 helpers"),
        ({"joint": True}, "not joint"),
    ],
)
def test_widths_that_contradict_themselves_are_refused(change: dict, message: str) -> None:
    problem = problem_of(1, tokens=2, slots=2, helpers=3, kind=BudgetKind.PRICE, value=1.0)
    assert problem.precision is not None
    with pytest.raises(ValueError, match=message):
        replace(problem, precision=replace(problem.precision, **change))


def test_an_energy_table_too_short_for_the_widest_is_refused() -> None:
    problem = problem_of(1, tokens=2, slots=2, helpers=3, kind=BudgetKind.PRICE, value=1.0)
    with pytest.raises(ValueError, match=r"energy must have shape \(6, at least 19\)"):
        replace(problem, energy=problem.energy[:, :18])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": np.array([0.1, 0.2])}, "not grow with the width"),
        ({"noise": np.array([1.5, 0.2])}, r"must lie in \[0, 1\]"),
        ({"noise": np.array([np.nan, 0.2])}, r"must lie in \[0, 1\]"),
        ({"noise": np.array([0.2])}, "as many noise shares"),
        ({"width": np.array([8, 3])}, "widths of answers must ascend"),
    ],
)
def test_answers_that_contradict_themselves_are_refused(change: dict, message: str) -> None:
    problem = problem_of(1, tokens=2, slots=2, helpers=3, kind=BudgetKind.PRICE, value=1.0)
    assert problem.precision is not None
    with pytest.raises(ValueError, match=message):
        replace(problem.precision.replies, **change)


@pytest.mark.parametrize("price", [1e-3, 1.0, 1e9])
@pytest.mark.parametrize("seed", [1, 2, 4, 5])
def test_never_worse_than_every_expert_at_the_widest_pair(seed: int, price: float) -> None:
    """Energy of both directions and priced deviation, whatever the price of deviation."""
    tokens = 1 if seed % 2 else 12
    problem = problem_of(
        seed, tokens=tokens, slots=2, helpers=3, kind=BudgetKind.PRICE, value=price
    )
    precision = problem.precision
    assert precision is not None
    everything = np.ones((3, len(WIDTHS)), dtype=bool)
    problem = replace(
        problem,
        hosts=np.ones_like(problem.hosts),
        precision=replace(
            precision,
            known=everything,
            replies=replace(precision.replies, known=everything[:, : len(BACK)]),
        ),
    )
    plan = SiftMoE().select(problem)
    # all slots on one helper, each by its own expert, at the widest of both
    for n in range(3):
        load, back = tokens * UNITS[-1], tokens * BACK_UNITS[-1]
        energy = problem.energy[n, load] + problem.energy[3 + n, back]
        deviation = sum(
            problem.slot_weights()[t, i] * served_by(problem, e, e, len(WIDTHS) - 1, len(BACK) - 1)
            for (t, i), e in np.ndenumerate(problem.routed_experts)
        )
        assert plan_objective(problem, plan) <= (energy + price * deviation) * (1 + 1e-9)

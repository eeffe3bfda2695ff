"""Selection in one band against enumeration that shares no code with it."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest
from scipy.optimize import brentq

from siftmoe.coordinator.energy.medium import Medium
from siftmoe.coordinator.energy.one_band import OneBand
from siftmoe.coordinator.policies.siftmoe import SiftMoE, plan_objective
from siftmoe.coordinator.selection.precision import Precision, Replies
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem, Status

E, BAND_HZ, WINDOW_S = 6, 1e6, 0.02
WIDTHS, BITS = (4, 16), (5e3, 2e4)
BACK, BACK_BITS = (3, 8), (4e3, 1e4)
NOISE = (0.2, 0.03)


def problem_of(
    seed: int,
    *,
    tokens: int,
    helpers: int,
    kind: BudgetKind,
    widths: bool = False,
    answers: bool = False,
    broadcast: bool = True,
    limited: bool = False,
) -> SelectionProblem:
    rng = np.random.default_rng(seed)
    slots = int(rng.integers(1, 4)) if not answers else int(rng.integers(1, 3))
    exact = rng.uniform(0.3, 1.2, (E, E + 1))
    exact[np.diag_indices(E)] = 0.0
    noise_w = 1e-6 / rng.exponential(size=helpers)
    limit_w = float(np.median(noise_w) * rng.uniform(0.5, 3.0)) if limited else math.inf
    up, down = (
        OneBand(
            bandwidth_hz=BAND_HZ,
            window_s=WINDOW_S * tokens,
            noise_w=noise_w * rng.uniform(0.5, 2.0, helpers) ** back,
            tx_power_limit_w=limit_w,
            circuit_w=np.zeros(helpers),
        )
        for back in (0, 1)
    )
    bits, back = (dict(zip(WIDTHS, BITS, strict=True)), dict(zip(BACK, BACK_BITS, strict=True)))
    medium = Medium(
        broadcast=broadcast,
        up=up,
        down=down if answers else None,
        bits=bits if widths else {16: BITS[-1]},
        reply_bits=back if widths else {16: BACK_BITS[-1]},
    )
    usual_j = float(np.median(noise_w)) * WINDOW_S
    value = rng.uniform(0.1, 0.6) if kind is not BudgetKind.PRICE else usual_j * rng.uniform(0.3, 9)
    rise = rng.random((len(WIDTHS), E, E + 1)) * np.array([0.4, 0.02])[:, None, None]
    narrow = exact + np.maximum.accumulate(rise[::-1])[::-1]
    narrow[:, :, E] = exact[:, E]
    precision = Precision(
        width=np.array(WIDTHS),
        deviation=narrow,
        scale=np.ones_like(narrow),
        known=rng.random((helpers, len(WIDTHS))) < 0.9,
        units=np.ones(2, dtype=np.int64),
        pooled=False,
        replies=Replies(
            width=np.array(BACK),
            noise=np.array(NOISE),
            known=rng.random((helpers, len(BACK))) < 0.9,
            units=np.ones(2, dtype=np.int64),
            fitted=False,
        ),
    )
    return SelectionProblem(
        routed_experts=np.array([rng.permutation(E)[:slots] for _ in range(tokens)]),
        gate_weights=rng.dirichlet(np.ones(slots), tokens),
        hosts=rng.random((helpers, E)) < 0.5,
        local=np.zeros(E, dtype=bool),
        deviation=exact,
        scale=np.ones((E, E + 1)),
        energy=medium.linear_table(tokens),
        budget=Budget(kind=kind, value=value),
        precision=precision if widths else None,
        medium=medium,
    )


def window_j(band: OneBand, payloads: dict[int, float]) -> float:
    """Least energy of payloads by link, by a bisection of its own."""
    links = sorted(payloads)
    if not links:
        return 0.0
    noise = band.noise_w[links]
    hertz = np.array([payloads[n] for n in links]) / band.bandwidth_hz
    most = np.log2(1.0 + band.tx_power_limit_w / noise) if band.tx_power_limit_w < 1e300 else 99.0
    if (hertz / most).sum() > band.window_s:
        return math.inf

    def rate(price: float) -> np.ndarray:
        def of(a: float) -> float:
            def over(x: float) -> float:
                y = x * math.log(2.0)
                return a * (y * math.exp(y) - math.expm1(y)) - price

            return float(brentq(over, 1e-9, 60.0, xtol=1e-14, rtol=1e-14))

        return np.minimum([of(a) for a in noise], most)

    def left(log_price: float) -> float:
        return float((hertz / rate(math.exp(log_price))).sum()) - band.window_s

    ends = math.log(noise.min()) - 25.0, math.log(noise.max()) + 25.0
    x = rate(math.exp(brentq(left, *ends, xtol=1e-13, rtol=1e-14)))
    return float((hertz / x * noise * np.expm1(np.log(2.0) * x)).sum())


def deviation_of(p: SelectionProblem, t: int, ways: tuple[tuple[int, int, int], ...]) -> float:
    """Deviation of a token that these (helper, width, width back) serve, from the raw tables."""
    total = 0.0
    for expert, weight in zip(p.routed_experts[t], p.gate_weights[t], strict=True):
        skip = p.deviation[expert, E]
        best = skip
        for n, b, v in ways:
            for other in np.flatnonzero(p.hosts[n]):
                if p.precision is None:
                    best = min(best, p.deviation[expert, other])
                elif p.precision.known[n, b] and p.precision.replies.known[n, v]:
                    best = min(best, p.precision.deviation[b, expert, other] + NOISE[v] * skip)
        total += weight * best
    return total


def objective(p: SelectionProblem, choice: tuple[tuple[tuple[int, int, int], ...], ...]) -> float:
    """Objective of the ways that answer each token, infinite beyond a cap."""
    medium, dev = p.medium, 0.0
    up: dict[int, float] = {}
    down: dict[int, float] = {}
    bits, back = list(medium.bits.values()), list(medium.reply_bits.values())
    for t, ways in enumerate(choice):
        here = deviation_of(p, t, ways)
        if p.budget.kind is BudgetKind.PER_TOKEN and here > p.budget.value * (1 + 1e-12):
            return math.inf
        dev += here
        sent = ways
        if medium.broadcast and ways:
            sent = (max(ways, key=lambda way: medium.up.noise_w[way[0]]),)
        for n, b, _ in sent:
            up[n] = up.get(n, 0.0) + bits[b]
        for n, _, v in ways:
            down[n] = down.get(n, 0.0) + back[v]
    total = window_j(medium.up, up)
    if medium.down is not None:
        total += window_j(medium.down, down)
    return total + (p.budget.value * dev if p.budget.kind is BudgetKind.PRICE else 0.0)


def optimum(p: SelectionProblem) -> float:
    """Least objective over all sets of ways of all tokens."""
    helpers, widths = p.num_helpers, range(len(p.medium.bits))
    replies = range(len(p.medium.reply_bits))
    sets: list[tuple[tuple[int, int, int], ...]] = [()]
    for b in widths:
        if p.medium.down is None:  # answers are free: whoever hears answers, as wide as it may
            order = np.argsort(p.medium.up.noise_w)
            sets += [
                tuple((int(n), b, len(replies) - 1) for n in order[:r])
                for r in range(1, helpers + 1)
            ]
            continue
        for size in range(1, p.top_k + 1):
            for who in combinations(range(helpers), size):
                sets += [
                    tuple((n, b, v) for n, v in zip(who, back, strict=True))
                    for back in product(replies, repeat=size)
                ]
    return min(objective(p, choice) for choice in product(sets, repeat=p.num_tokens))


@pytest.mark.parametrize("kind", [BudgetKind.PRICE, BudgetKind.PER_TOKEN])
@pytest.mark.parametrize("seed", range(12))
def test_a_broadcast_is_optimal(kind, seed):
    p = problem_of(seed, tokens=1 + seed % 3, helpers=3, kind=kind, limited=seed % 4 == 3)
    plan, best = SiftMoE().select(p), optimum(p)
    if math.isinf(best):
        assert plan.status is Status.INFEASIBLE
        assert math.isfinite(plan.energy_j)
    else:
        assert plan.status is Status.OPTIMAL
        assert plan_objective(p, plan) == pytest.approx(best, rel=1e-9)
        assert plan.lower_bound_j == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("kind", [BudgetKind.PRICE, BudgetKind.PER_TOKEN])
@pytest.mark.parametrize("seed", range(8))
def test_widths_of_a_broadcast_are_optimal(kind, seed):
    p = problem_of(seed, tokens=2, helpers=3, kind=kind, widths=True)
    plan, best = SiftMoE().select(p), optimum(p)
    if math.isinf(best):
        assert plan.status is Status.INFEASIBLE
    else:
        assert plan.status is Status.OPTIMAL
        assert plan_objective(p, plan) == pytest.approx(best, rel=1e-9)


@pytest.mark.parametrize("broadcast", [True, False])
@pytest.mark.parametrize("kind", [BudgetKind.PRICE, BudgetKind.PER_TOKEN])
@pytest.mark.parametrize("seed", range(6))
def test_answers_that_have_a_price_are_chosen_within_the_certificate(kind, broadcast, seed):
    p = problem_of(
        seed,
        tokens=2,
        helpers=3,
        kind=kind,
        answers=True,
        widths=seed % 2 == 1,
        broadcast=broadcast,
    )
    if seed % 2 == 1:  # fewer sets to enumerate
        p = replace(p, routed_experts=p.routed_experts[:, :1], gate_weights=p.gate_weights[:, :1])
    plan, best = SiftMoE().select(p), optimum(p)
    if math.isinf(best):
        assert plan.status is Status.INFEASIBLE
        return
    value = plan_objective(p, plan)
    assert plan.lower_bound_j <= best * (1 + 1e-9)
    assert best * (1 - 1e-9) <= value <= best * 1.1
    if plan.status is Status.OPTIMAL:
        assert value == pytest.approx(best, rel=1e-8)


@pytest.mark.parametrize("answers", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_an_average_is_kept_and_bounded(answers, seed):
    p = problem_of(seed, tokens=40, helpers=4, kind=BudgetKind.AVERAGE, answers=answers)
    plan = SiftMoE().select(p)
    if plan.status is Status.INFEASIBLE:
        return
    assert plan.deviation.sum() <= 40 * p.budget.value * (1 + 1e-9)
    assert plan.lower_bound_j <= plan.energy_j * (1 + 1e-12)
    # few tokens are sent, and the gap is one token's
    assert plan.lower_bound_j >= 0.5 * plan.energy_j
    capped = replace(p, budget=Budget(kind=BudgetKind.PER_TOKEN, value=p.budget.value))
    strict = SiftMoE().select(capped)
    if strict.status is not Status.INFEASIBLE:
        assert plan.energy_j <= strict.energy_j * (1 + 1e-9)


def test_what_does_not_fit_is_served_as_far_as_it_does():
    p = problem_of(1, tokens=6, helpers=3, kind=BudgetKind.PER_TOKEN)
    p = replace(p, budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0), hosts=np.ones((3, E), bool))
    band = replace(p.medium.up, tx_power_limit_w=float(p.medium.up.noise_w.min()) * 0.5)
    p = replace(p, medium=replace(p.medium, up=band))
    plan = SiftMoE().select(p)
    assert plan.status is Status.INFEASIBLE
    assert math.isfinite(plan.energy_j)
    served = [bool(s) for s in plan.helper_sets()]
    assert any(served)
    assert not all(served)

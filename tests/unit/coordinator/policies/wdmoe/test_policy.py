from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy.optimize import brentq, minimize

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.wdmoe.bandwidth import allocate_bandwidth, token_latency
from siftmoe.coordinator.policies.wdmoe.devices import WdmoeLinks, wdmoe_links
from siftmoe.coordinator.policies.wdmoe.dropping import weight_to_latency
from siftmoe.coordinator.policies.wdmoe.policy import Wdmoe, WdmoeRule
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem, Status


def make_links(devices: int, *, seed: int, uplink_bits: float = 65536.0) -> WdmoeLinks:
    rng = np.random.default_rng(seed)
    return WdmoeLinks(
        compute_s=rng.uniform(2e-5, 3e-4, devices),
        downlink_bits=65536.0,
        uplink_bits=uplink_bits,
        downlink_power_w=np.full(devices, 5.0),
        downlink_gain=1e-8 * rng.exponential(size=devices),
        uplink_power_w=np.full(devices, 0.2),
        uplink_gain=1e-8 * rng.exponential(size=devices),
        noise_psd=np.full(devices, 4e-21),
        bandwidth_hz=float(rng.choice([5e6, 2e7, 1e8])),
    )


def latency_by_formula(links: WdmoeLinks, k: int, tokens: float, band: float) -> float:
    def rate(power: float, gain: float) -> float:
        return band * np.log2(1 + power * gain / (links.noise_psd[k] * band))

    down = rate(links.downlink_power_w[k], links.downlink_gain[k])
    up = rate(links.uplink_power_w[k], links.uplink_gain[k])
    return tokens * (links.compute_s[k] + links.downlink_bits / down + links.uplink_bits / up)


def nested_brentq(links: WdmoeLinks, loads: np.ndarray) -> float:
    """Least latency by a root inside a root."""
    active = np.flatnonzero(loads)
    total = links.bandwidth_hz

    def needed(k: int, latency: float) -> float:
        def excess(band: float) -> float:
            return latency_by_formula(links, k, loads[k], band) - latency

        if excess(total) >= 0:
            return total
        return brentq(excess, 1e-6 * total / len(loads), total, xtol=1e-9, rtol=1e-15)

    low = max(latency_by_formula(links, k, loads[k], total) for k in active)
    high = max(latency_by_formula(links, k, loads[k], total / len(active)) for k in active)
    if len(active) == 1:
        return low
    return brentq(
        lambda t: sum(needed(k, t) for k in active) - total, low, high, xtol=1e-15, rtol=1e-14
    )


@pytest.mark.parametrize("devices", [1, 2, 3, 8, 20])
@pytest.mark.parametrize("seed", range(6))
def test_latency_is_that_of_nested_roots(devices, seed):
    links = make_links(devices, seed=seed)
    loads = np.random.default_rng(seed).integers(0, 60, devices).astype(float)
    loads[0] += 1
    latency, band = links.allocate(loads)
    assert latency == pytest.approx(nested_brentq(links, loads), rel=1e-10)
    assert band.sum() == pytest.approx(links.bandwidth_hz, rel=1e-12)
    np.testing.assert_array_equal(band > 0, loads > 0)
    for k in np.flatnonzero(loads):
        assert latency_by_formula(links, k, loads[k], band[k]) == pytest.approx(latency, rel=1e-9)


@pytest.mark.parametrize("seed", range(5))
def test_a_general_solver_finds_nothing_better(seed):
    links = make_links(4, seed=seed)
    loads = np.random.default_rng(seed).integers(1, 60, 4).astype(float)
    latency, _ = links.allocate(loads)
    total = links.bandwidth_hz

    def slack(x: np.ndarray) -> np.ndarray:
        each = [latency_by_formula(links, k, loads[k], x[k] * total) for k in range(4)]
        return x[4] - np.array(each) / latency

    result = minimize(
        lambda x: x[4],
        x0=np.array([0.25, 0.25, 0.25, 0.25, -slack(np.full(5, 0.25)).min() + 0.25]),
        bounds=[(1e-4, 1)] * 4 + [(0, None)],
        constraints=[
            {"type": "ineq", "fun": slack},
            {"type": "eq", "fun": lambda x: x[:4].sum() - 1},
        ],
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 300},
    )
    assert result.success
    assert result.fun >= 1 - 1e-8
    assert result.fun <= 1 + 1e-4  # it looked at the same problem


def test_without_tokens_there_is_nothing_to_divide():
    latency, band = make_links(3, seed=0).allocate(np.zeros(3))
    assert latency == 0.0
    assert not band.any()


def test_one_direction_may_be_free():
    links = make_links(3, seed=1, uplink_bits=0.0)
    loads = np.array([3.0, 0.0, 9.0])
    latency, band = links.allocate(loads)
    per_token = links.token_latency(band)
    np.testing.assert_allclose(loads[[0, 2]] * per_token[[0, 2]], latency, rtol=1e-9)
    assert per_token[1] == np.inf


@pytest.mark.parametrize(
    "change",
    [
        {"tokens": np.array([-1.0])},
        {"bandwidth_hz": 0.0},
        {"uplink_gain": np.array([0.0])},
        {"noise_psd": -1.0},
        {"uplink_bits": -1.0},
    ],
)
def test_allocation_refuses(change):
    arguments = {
        "tokens": np.array([1.0]),
        "compute_s": np.array([1e-4]),
        "downlink_bits": 100.0,
        "uplink_bits": 100.0,
        "downlink_power_w": np.array([1.0]),
        "downlink_gain": np.array([1e-8]),
        "uplink_power_w": np.array([1.0]),
        "uplink_gain": np.array([1e-8]),
        "noise_psd": 4e-21,
        "bandwidth_hz": 1e6,
    }
    with pytest.raises(ValueError, match=next(iter(change))):
        allocate_bandwidth(**{**arguments, **change})


def make_problem(
    tokens: int, devices: int, *, seed: int, slots: int = 2, replicas: int = 1
) -> SelectionProblem:
    rng = np.random.default_rng(seed)
    experts = devices
    hosts = np.zeros((devices, experts), dtype=bool)
    for shift in range(replicas):
        hosts[(np.arange(experts) + shift) % devices, np.arange(experts)] = True
    deviation = np.ones((experts, experts + 1))
    np.fill_diagonal(deviation, 0.0)
    return SelectionProblem(
        routed_experts=np.stack([rng.choice(experts, slots, replace=False) for _ in range(tokens)]),
        gate_weights=rng.dirichlet(np.full(slots, 2.0), tokens),
        hosts=hosts,
        local=np.zeros(experts, dtype=bool),
        deviation=deviation,
        scale=np.ones((experts, experts + 1)),
        energy=np.tile(np.arange(tokens + 1.0), (devices, 1)),
        budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0),
    )


def solve(problem: SelectionProblem, links: WdmoeLinks, **options):
    return Wdmoe(links=lambda: links, **options).solve(problem)


@pytest.mark.parametrize("rule", list(WdmoeRule))
@pytest.mark.parametrize("seed", range(5))
def test_dropping_lowers_the_latency_and_leaves_every_token_an_expert(rule, seed):
    problem, links = make_problem(64, 4, seed=seed), make_links(4, seed=seed)
    everything = solve(problem, links, min_weight=0.0, threshold=-1.0)
    result = solve(problem, links, rule=rule, threshold=0.85)
    assert result.latency_s < everything.latency_s
    assert np.all((result.plan.helper >= 0).any(axis=1))
    loads = result.plan.loads(4)
    assert result.plan.energy_j == pytest.approx(loads.sum())
    with np.errstate(invalid="ignore"):
        per_device = loads * links.token_latency(result.bandwidth_hz)
    assert np.nanmax(per_device) == pytest.approx(result.latency_s, rel=1e-9)


def test_nothing_is_dropped_at_weight_zero():
    problem, links = make_problem(20, 4, seed=0), make_links(4, seed=0)
    result = solve(problem, links, min_weight=0.0)
    assert result.plan.status is Status.FEASIBLE
    assert np.all(result.plan.helper >= 0)
    latency, _ = links.allocate(result.plan.loads(4).astype(float))
    assert result.latency_s == pytest.approx(latency, rel=1e-12)


def test_only_light_slots_are_dropped():
    problem, links = make_problem(200, 4, seed=3), make_links(4, seed=3)
    plan = solve(problem, links, min_weight=0.3).plan
    dropped = plan.helper < 0
    assert 0 < dropped.sum() < 200
    assert problem.gate_weights[dropped].max() < 0.3
    assert not plan.weight[dropped].any()


def test_greedy_dropping_reaches_the_least_latency_at_given_speed():
    """Against every way to drop light slots, at the token latencies of its last round."""
    checked = 0
    for seed in range(8):
        problem, links = make_problem(7, 3, seed=seed), make_links(3, seed=seed)
        one_round = solve(problem, links, min_weight=0.45, max_rounds=1)
        token_s = links.token_latency(np.full(3, links.bandwidth_hz / 3))
        light = np.argwhere(problem.gate_weights < 0.45)
        best = np.inf
        for pick in itertools.product([False, True], repeat=len(light)):
            kept = problem.routed_experts.copy()
            kept[tuple(light[list(pick)].T)] = 3
            load = np.bincount(kept.reshape(-1), minlength=4)[:3]
            best = min(best, (load * token_s).max())
        load = one_round.plan.loads(3)
        if (np.bincount(problem.routed_experts.reshape(-1), minlength=3) > 0).all():
            assert (load * token_s).max() == pytest.approx(best, rel=1e-12)
            checked += 1
    assert checked >= 5


def test_greedy_dropping_raises_the_slowest_devices_ratio():
    problem, links = make_problem(64, 4, seed=2), make_links(4, seed=2)
    token_s = links.token_latency(np.full(4, links.bandwidth_hz / 4))

    def weights(helper: np.ndarray) -> np.ndarray:
        table = np.zeros((64, 4))
        for t, row in enumerate(helper):
            for i, n in enumerate(row):
                if n >= 0:
                    table[t, n] += problem.gate_weights[t, i]
        return table

    before = weights(problem.routed_experts)
    after = weights(solve(problem, links, max_rounds=1).plan.helper)
    slowest = np.argmax((before > 0).sum(axis=0) * token_s)
    ratio = weight_to_latency(before, token_s), weight_to_latency(after, token_s)
    assert ratio[1][slowest] > ratio[0][slowest]
    by_hand = before[:, slowest].sum() / ((before[:, slowest] > 0).sum() * token_s[slowest])
    assert ratio[0][slowest] == pytest.approx(by_hand)


def test_token_latency_follows_the_formula():
    links = make_links(3, seed=4)
    band = np.array([1e6, 2e6, 0.0])
    latency = token_latency(
        compute_s=links.compute_s,
        downlink_bits=links.downlink_bits,
        uplink_bits=links.uplink_bits,
        downlink_power_w=links.downlink_power_w,
        downlink_gain=links.downlink_gain,
        uplink_power_w=links.uplink_power_w,
        uplink_gain=links.uplink_gain,
        noise_psd=links.noise_psd,
        bandwidth_hz=band,
    )
    for k in range(2):
        assert latency[k] == pytest.approx(latency_by_formula(links, k, 1.0, band[k]), rel=1e-12)
    assert latency[2] == np.inf


def test_links_of_a_run_share_their_bands():
    states = FixedLinks(
        gain=[1e-9, 2e-9], downlink_gain=[3e-9, 4e-9], noise_psd=4e-21, bandwidth_hz=2e6
    ).states(0.0)
    air = AirInterface(payload_bits=65536, token_deadline_s=0.074, tx_power_limit_w=0.2)
    links = wdmoe_links(states, air)
    assert links.bandwidth_hz == 4e6
    np.testing.assert_array_equal(links.downlink_gain, [1e-9, 2e-9])  # towards the helper
    np.testing.assert_array_equal(links.uplink_gain, [3e-9, 4e-9])
    assert links.allocate(np.array([4.0, 2.0]))[0] > 0.0

"""The router's logits less the price of links: who is routed to, with which weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siftmoe.coordinator.policies.baselines.router_bias import RouterBias
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.policies.topk import TopK
from siftmoe.coordinator.selection.problem import (
    NOBODY,
    Budget,
    BudgetKind,
    SelectionProblem,
    Status,
)

LOGITS = np.array([[3.0, 2.0, 1.0, 0.0], [0.0, 1.0, 2.5, 2.0]])
#: Energy of a token to the helper of each expert, J; linear in the load.
PRICES = np.array([8.0, 1.0, 1.0, 4.0])


def problem(price: float = 1.0, **changes: object) -> SelectionProblem:
    routed = np.argsort(-LOGITS, axis=1)[:, :2]
    chosen = np.exp(np.take_along_axis(LOGITS, routed, axis=1))
    given = {
        "routed_experts": routed,
        "gate_weights": chosen / chosen.sum(axis=1, keepdims=True),
        "hosts": np.eye(4, dtype=bool),
        "local": np.zeros(4, dtype=bool),
        "deviation": np.ones((4, 5)) - np.eye(4, 5),
        "scale": np.ones((4, 5)),
        "energy": PRICES[:, None] * np.arange(3.0),
        "budget": Budget(kind=BudgetKind.PRICE, value=price),
        "router_logits": LOGITS,
        **changes,
    }
    return SelectionProblem(**given)


def test_a_high_price_of_a_nat_is_the_models_own_routing() -> None:
    own = TopK().select(problem())
    plan = RouterBias(keep=0).select(problem(1e6))
    assert plan.expert.tolist() == own.expert.tolist()
    assert plan.helper.tolist() == own.helper.tolist()
    assert plan.weight == pytest.approx(own.weight)
    assert plan.energy_j == pytest.approx(own.energy_j)


def test_experts_of_dear_links_give_way_and_weights_are_of_unbiased_logits() -> None:
    plan = RouterBias(keep=0).select(problem(1.0))
    # token 0: 3-8, 2-1, 1-1, 0-4: experts 1 and 2; token 1: 0-8, 1-1, 2.5-1, 2-4: 2 and 1
    assert plan.expert.tolist() == [[2, 1], [2, 1]]
    share = np.exp([1.0, 2.0])
    assert plan.weight[0] == pytest.approx(share / share.sum())
    assert plan.weight.sum(axis=1).tolist() == pytest.approx([1.0, 1.0])
    assert plan.energy_j == pytest.approx(4.0)
    assert plan.status is Status.FEASIBLE
    assert plan.deviation.tolist() == pytest.approx(
        (problem().gate_weights * (plan.expert != problem().routed_experts)).sum(axis=1)
    )


def test_the_energy_falls_with_the_price_and_never_rises_above_top_k() -> None:
    energies = [RouterBias(keep=0).select(problem(p)).energy_j for p in (0.0, 0.5, 2.0, 8.0, 1e6)]
    assert energies == sorted(energies)
    assert energies[-1] == pytest.approx(TopK().select(problem()).energy_j)


def test_the_first_experts_are_kept() -> None:
    plan = RouterBias().select(problem(1e-3))
    assert plan.expert[:, 0].tolist() == [0, 2]
    assert plan.expert[:, 1].tolist() == [1, 1]  # cheap, of the larger logit
    with pytest.raises(ValueError, match="keep must be a whole number, 0 or more: -1"):
        RouterBias(keep=-1)


def test_experts_without_a_host_are_not_routed_to() -> None:
    hosts = np.eye(4, dtype=bool)
    hosts[2] = False
    plan = RouterBias(keep=0).select(problem(1e6, hosts=hosts))
    assert plan.expert.tolist() == [[0, 1], [1, 3]]
    alone = RouterBias(keep=0).select(
        problem(1e6, hosts=hosts & np.eye(4, dtype=bool)[[0, 0, 0, 0]])
    )
    assert alone.status is Status.INFEASIBLE
    assert (alone.helper == NOBODY).sum() == 2
    assert alone.weight[0].tolist() == pytest.approx([1.0, 0.0])


def test_loads_make_a_link_dear() -> None:
    """With a convex energy the second token leaves a helper that the first one fills."""
    energy = np.array([[0.0, 1.0, 100.0]] * 2 + [[0.0, 2.0, 4.0]] * 2)
    logits = np.tile([1.0, 1.0, 0.9, 0.9], (2, 1))
    given = {"energy": energy, "router_logits": logits, "routed_experts": np.array([[0, 1]] * 2)}
    plan = RouterBias(keep=0).select(problem(10.0, **given))
    assert plan.energy_j < 200.0


def test_what_it_needs_is_named() -> None:
    with pytest.raises(ValueError, match="needs the logits of the model's router"):
        RouterBias(keep=0).select(problem(router_logits=None))
    capped = replace(problem(), budget=Budget(kind=BudgetKind.PER_TOKEN, value=1.0))
    with pytest.raises(ValueError, match="needs a price"):
        RouterBias(keep=0).select(capped)
    with pytest.raises(ValueError, match=r"router_logits must have shape \(2, 4\)"):
        problem(router_logits=LOGITS[:, :3])
    assert make_policy("router-bias", keep=1.0)  # as the command line reads it
    with pytest.raises(ValueError, match="whole number"):
        make_policy("router-bias", keep=0.5)

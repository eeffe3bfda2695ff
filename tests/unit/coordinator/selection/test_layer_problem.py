from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from profiles import EXPERTS, LAYERS, profile_of

from siftmoe.coordinator.energy.pricing import Pricing
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.policies.setup import prepare_policy
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.selection.layer_problem import layer_problem
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.profiled import (
    amplified_tables,
    paper_tables,
    price_tables,
)
from siftmoe.coordinator.selection.tables import unknown_tables
from siftmoe.models.errors import ProfileMissing
from siftmoe.models.similarity.quantities import Estimate


@pytest.fixture
def profile():
    return profile_of(4)


@pytest.mark.parametrize("rescale", [False, True])
def test_the_papers_cap_is_relative_to_the_layers_norm(profile, rescale):
    tables = paper_tables(profile, tolerance=0.2, rescale=rescale)
    deviation = profile.scaled_deviation if rescale else profile.deviation
    for layer, table in enumerate(tables):
        assert table.budget.kind is BudgetKind.PER_TOKEN
        assert table.budget.value == pytest.approx(0.2 * profile.output_norm.value[layer])
        assert table.weight_power == 1
        np.testing.assert_array_equal(table.deviation, deviation.value[layer])
        wanted = profile.scale.value[layer] if rescale else np.ones((EXPERTS, EXPERTS + 1))
        np.testing.assert_array_equal(table.scale, wanted)


@pytest.mark.parametrize("prefill", [False, True])
def test_amplified_caps_add_up_to_the_final_tolerance(profile, prefill):
    tables = amplified_tables(profile, final_tolerance=0.1, prefill=prefill)
    amplification = profile.amplification(prefill=prefill).value
    caps = np.array([table.budget.value for table in tables])
    assert (caps * amplification).sum() == pytest.approx(0.1 * 8.0)
    assert caps * amplification == pytest.approx(np.full(LAYERS, 0.1 * 8.0 / LAYERS))


@pytest.mark.parametrize("rescale", [False, True])
def test_the_price_is_one_for_all_layers_and_deviations_are_nats(profile, rescale):
    tables = price_tables(profile, price_j_per_nat=3e-6, rescale=rescale)
    square = profile.scaled_square if rescale else profile.square
    for layer, table in enumerate(tables):
        assert table.budget == Budget(kind=BudgetKind.PRICE, value=3e-6)
        assert table.weight_power == 2
        wanted = 0.5 * profile.sensitivity.value[layer] * square.value[layer]
        assert table.deviation == pytest.approx(wanted)
        assert (table.scale == 1.0).all() != rescale
    measured = price_tables(profile, price_j_per_nat=3e-6, rescale=rescale, measured=True)
    ratio = profile.response.value / profile.sensitivity.value
    for layer, (table, other) in enumerate(zip(tables, measured, strict=True)):
        assert other.deviation == pytest.approx(ratio[layer] * table.deviation)


def test_an_expert_that_was_never_seen_is_taken_for_the_worst_known(profile):
    for name in ("deviation", "scaled_deviation", "scale", "price_scale", "scaled_square"):
        getattr(profile, name).value[1, 2] = np.nan
    for tables in (
        paper_tables(profile, tolerance=0.2, rescale=True),
        price_tables(profile, price_j_per_nat=1.0),
    ):
        table = tables[1]
        known = np.delete(table.deviation, 2, axis=0)
        assert table.deviation[2, 2] == 0.0
        assert (np.delete(table.deviation[2], 2) == known.max()).all()
        assert np.isfinite(table.scale).all()
        assert np.isnan(profile.scaled_deviation.value[1, 2]).all()  # the profile is left alone


def test_what_the_profile_lacks_is_said(profile):
    nothing = Estimate(np.full(LAYERS, np.nan), np.full(LAYERS, np.nan))
    lacking = dataclasses.replace(profile, sensitivity=nothing, amplification_decode=nothing)
    with pytest.raises(ProfileMissing, match="--expert-memory"):
        price_tables(lacking, price_j_per_nat=1.0)
    with pytest.raises(ProfileMissing, match="--expert-memory"):
        amplified_tables(lacking, final_tolerance=0.1)
    paper_tables(lacking, tolerance=0.1)


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_impossible_tolerances_and_prices_are_refused(profile, value):
    with pytest.raises(ValueError, match="not negative"):
        paper_tables(profile, tolerance=value)
    with pytest.raises(ValueError, match="not negative"):
        amplified_tables(profile, final_tolerance=value)
    with pytest.raises(ValueError, match="not negative"):
        price_tables(profile, price_j_per_nat=value)


def problem_of(tables):
    rng = np.random.default_rng(6)
    tokens = 5
    return layer_problem(
        tables,
        1,
        routed_experts=np.array([rng.choice(EXPERTS, 2, replace=False) for _ in range(tokens)]),
        gate_weights=rng.dirichlet((1.0, 1.0), tokens),
        hosts=np.eye(EXPERTS, dtype=bool),
        known=np.ones((EXPERTS, 1), dtype=bool),
        answers=np.ones((EXPERTS, 1), dtype=bool),
        pricing=Pricing.of_one_width(
            np.outer(rng.uniform(0.5, 2.0, EXPERTS), np.arange(tokens + 1.0))
        ),
    )


def test_a_policy_selects_on_every_kind_of_table(profile):
    for tables in (
        paper_tables(profile, tolerance=0.5),
        amplified_tables(profile, final_tolerance=0.5),
        price_tables(profile, price_j_per_nat=2.0),
    ):
        plan = make_policy("siftmoe")(problem_of(tables))
        assert np.isfinite(plan.deviation).all()
    unknown = unknown_tables(LAYERS, EXPERTS, budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0))
    plan = make_policy("topk")(problem_of(unknown))
    assert plan.deviation.tolist() == [0.0] * 5


def asked(text, profile):
    shape = SimpleNamespace(num_layers=LAYERS, num_experts=EXPERTS)
    return prepare_policy(PolicySpec.parse(text), shape=shape, profile=profile).tables


def test_a_price_goes_by_the_sensitivity_or_by_the_measured_response(profile):
    usual = asked("siftmoe:price=1e-6", profile)
    measured = asked("siftmoe:price=1e-6:response=true", profile)
    assert [table.sensitivity for table in usual] == profile.sensitivity.value.tolist()
    assert [table.sensitivity for table in measured] == profile.response.value.tolist()
    ratio = profile.response.value / profile.sensitivity.value
    for one, other, factor in zip(usual, measured, ratio, strict=True):
        np.testing.assert_allclose(other.deviation, factor * one.deviation)


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ("siftmoe:tolerance=0.2:response=true", "response is of a price, not of tolerance"),
        ("topk:response=true", "has no option response"),
        ("topk:price=1", "topk has no budget"),
        ("siftmoe:price=1:tolerance=0.1", "needs one budget, got 2"),
    ],
)
def test_options_that_do_not_go_together_are_told(policy, message, profile):
    with pytest.raises(ValueError, match=message):
        asked(policy, profile)

"""Rows of a plan grouped by helper, and their results summed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scaling_experts import D, E, compute, expected, plan_of, vectors

from siftmoe.coordinator.dispatch.grouping import combine, group
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY, SelectionPlan


@st.composite
def plans(draw: st.DrawFn) -> SelectionPlan:
    tokens, slots = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    helper = rng.integers(NOBODY, draw(st.integers(1, 5)), size=(tokens, slots))
    expert = np.where(helper == NOBODY, E, rng.integers(0, E, size=helper.shape))
    weight = np.where(helper == NOBODY, 0.0, rng.random(helper.shape))
    return plan_of(helper, expert, weight)


@given(plan=plans())
def test_what_the_helpers_compute_adds_up_to_the_layer(plan: SelectionPlan) -> None:
    hidden = vectors(len(plan.helper))
    shares = group(plan, hidden, layer=0)
    outputs = {
        share.helper: share.scaled(compute(share.hidden, share.pairs, share.weights))
        for share in shares
    }
    total = combine(shares, outputs, num_tokens=len(hidden), hidden_size=D)
    np.testing.assert_allclose(total, expected(plan, hidden), rtol=1e-5, atol=1e-6)
    assert total.dtype == np.float32


@given(plan=plans())
def test_a_token_goes_to_a_helper_once_and_the_loads_are_the_plans(plan: SelectionPlan) -> None:
    shares = group(plan, vectors(len(plan.helper)), layer=0)
    loads = {share.helper: len(share.tokens) for share in shares if share.helper != LOCAL}
    planned = plan.loads(5)
    assert loads == {n: int(planned[n]) for n in range(5) if planned[n]}
    assert [share.helper for share in shares] == sorted(share.helper for share in shares)
    for share in shares:
        assert np.all(np.diff(share.tokens) > 0)
        pairs = [tuple(pair) for pair in share.pairs.tolist()]
        assert len(set(pairs)) == len(pairs)
        assert {row for row, _ in pairs} == set(range(len(share.tokens)))


def test_two_slots_on_one_expert_become_one_pair() -> None:
    plan = plan_of([[1, 1, 1]], [[2, 2, 0]], [[0.5, 0.25, 1.0]])
    (share,) = group(plan, vectors(1), layer=0)
    assert share.pairs.tolist() == [[0, 0], [0, 2]]
    assert share.weights.tolist() == [1.0, 0.75]
    assert share.scale.tolist() == [1.0]
    assert share.pairs.dtype == np.int32
    assert share.weights.dtype == np.float32


def test_a_plan_that_skips_everything_sends_nothing() -> None:
    plan = plan_of([[NOBODY], [NOBODY]], [[E], [E]], [[0.0], [0.0]])
    assert group(plan, vectors(2), layer=0) == []
    assert not combine([], {}, num_tokens=2, hidden_size=D).any()


def test_vectors_travel_as_float16_and_local_ones_stay_as_they_are() -> None:
    plan = plan_of([[LOCAL, 0]], [[0, 1]], [[1.0, 1.0]], width=16)
    local, remote = group(plan, vectors(1), layer=0)
    assert (local.hidden.dtype, remote.hidden.dtype) == (np.float32, np.float16)
    np.testing.assert_array_equal(remote.hidden, vectors(1).astype(np.float16))


def test_a_number_beyond_float16_is_an_error_and_not_an_infinity() -> None:
    plan = plan_of([[0]], [[0]], [[1.0]], width=16)
    text = (
        "layer 3: the hidden state of token 0 reaches 70000, float16 ends at 65504; send it at 32"
    )
    with pytest.raises(ValueError, match=text):
        group(plan, np.full((1, D), 7e4, np.float32), layer=3)


def test_a_plan_of_another_batch_is_refused() -> None:
    with pytest.raises(ValueError, match="the plan is for 1 tokens, hidden has 2"):
        group(plan_of([[0]], [[0]], [[1.0]]), vectors(2), layer=0)

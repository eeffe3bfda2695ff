"""Shares whose rows are encoded in the widths of the plan."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siftmoe.agent.wire.protocol import Packed, plain
from siftmoe.coordinator.dispatch.grouping import combine, group
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY, SelectionPlan, Status
from siftmoe.models.vectors.packing import row_bits
from siftmoe.models.vectors.quantise import WIDTHS, round_trip
from siftmoe.models.vectors.records import ROW_WIDTHS

E, D, HELPERS = 4, 24, 5


def plan_of(helper: Any, width: Any, expert: Any = None) -> SelectionPlan:
    helper = np.asarray(helper, np.int64)
    expert = np.zeros_like(helper) if expert is None else expert
    return SelectionPlan(
        helper=helper,
        expert=np.where(helper == NOBODY, E, expert),
        weight=np.where(helper == NOBODY, 0.0, 0.5),
        width=np.where(helper >= 0, width, 0),
        status=Status.FEASIBLE,
        energy_j=0.0,
        lower_bound_j=0.0,
        deviation=np.zeros(len(helper)),
    )


def vectors(tokens: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(tokens).standard_normal((tokens, D)).astype(np.float32)


@st.composite
def plans(draw: st.DrawFn) -> SelectionPlan:
    """Every (token, helper) at a width of its own."""
    tokens, slots = draw(st.integers(1, 7)), draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    some = draw(st.lists(st.sampled_from(ROW_WIDTHS), min_size=1, max_size=4))
    helper = rng.integers(NOBODY, HELPERS, size=(tokens, slots))
    of_vector = rng.choice(some, size=(tokens, HELPERS + 2))
    width = np.take_along_axis(of_vector, helper + 2, axis=1)
    return plan_of(helper, width, rng.integers(0, E, size=helper.shape))


@given(plan=plans(), rotation=st.sampled_from(["none", "hadamard"]))
def test_every_row_is_what_it_is_after_travelling_at_its_width(
    plan: SelectionPlan, rotation: Any
) -> None:
    hidden = vectors(len(plan.helper))
    shares = group(plan, hidden, layer=0, rotation=rotation)
    assert [share.helper for share in shares] == sorted(share.helper for share in shares)
    for share in shares:
        got = plain(share.hidden)
        assert len(set(share.tokens.tolist())) == len(share.tokens) == len(got)
        if share.helper == LOCAL:
            np.testing.assert_array_equal(got, hidden[share.tokens])
            assert share.payload_bits == 0
            continue
        widths = []
        for row, token in enumerate(share.tokens):
            (width,) = {*plan.width[token][plan.helper[token] == share.helper].tolist()}
            widths.append(width)
            arrived = round_trip(hidden[[token]], width, rotation=rotation)[0]
            np.testing.assert_array_equal(got[row].astype(np.float32), arrived)
        assert widths == sorted(widths)
        assert share.payload_bits == sum(row_bits(D, width) for width in widths)
        assert isinstance(share.hidden, Packed) != (set(widths) in ({16}, {32}))


@given(plan=plans())
def test_pairs_and_weights_follow_their_rows(plan: SelectionPlan) -> None:
    shares = group(plan, vectors(len(plan.helper)), layer=0)
    found: dict[tuple[int, int, int], float] = {}
    for share in shares:
        for (row, expert), weight in zip(share.pairs.tolist(), share.weights, strict=True):
            key = (share.helper, int(share.tokens[row]), expert)
            assert key not in found
            found[key] = float(weight * share.scale[row])
    wanted: dict[tuple[int, int, int], float] = {}
    for t, k in zip(*np.nonzero(plan.helper != NOBODY), strict=True):
        key = (int(plan.helper[t, k]), int(t), int(plan.expert[t, k]))
        wanted[key] = wanted.get(key, 0.0) + float(plan.weight[t, k])
    assert found == wanted


def test_what_is_added_up_does_not_depend_on_the_order_of_the_answers() -> None:
    plan = plan_of([[0, 1], [1, 0], [0, 1]], [[3, 8], [4, 6], [8, 2]])
    hidden = vectors(3)
    shares = group(plan, hidden, layer=0)
    outputs = {share.helper: plain(share.hidden) for share in shares}
    sums = [
        combine(shares, dict(order), num_tokens=3, hidden_size=D)
        for order in (list(outputs.items()), list(outputs.items())[::-1])
    ]
    np.testing.assert_array_equal(sums[0], sums[1])


def test_a_token_to_one_helper_at_two_widths_is_refused() -> None:
    plan = plan_of([[0, 1], [1, 1]], [[4, 4], [4, 8]])
    with pytest.raises(ValueError, match="layer 2: the plan sends token 1 to one helper at two"):
        group(plan, vectors(2), layer=2)
    plan = plan_of([[0, 1], [1, 1]], [[4, 8], [8, 8]])  # to each helper at one
    assert [share.payload_bits for share in group(plan, vectors(2), layer=2)] == [
        row_bits(D, 4),
        2 * row_bits(D, 8),
    ]


@pytest.mark.parametrize("width", [0, 1, 7, 12, 33, 64, -4, 10**9])
def test_a_width_that_there_is_not_is_refused(width: int) -> None:
    with pytest.raises(ValueError, match=f"layer 1: .* to helper 3 at {width} bits, it must be"):
        group(plan_of([[2, 3]], [[8, width]]), vectors(1), layer=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("width", WIDTHS)
def test_a_hidden_state_that_is_not_finite_is_named_with_its_layer(width: int, bad: float) -> None:
    hidden = vectors(4)
    hidden[2, 5] = bad
    plan = plan_of([[0], [NOBODY], [1], [0]], [[8], [0], [width], [width]])
    about = f"layer 7: the hidden state of token 2 has a number .* in {width} bits; send it at 16"
    with pytest.raises(ValueError, match=about):
        group(plan, hidden, layer=7)
    at_16 = plan_of([[0], [NOBODY], [1], [0]], [[8], [0], [16], [width]])
    _, share = group(at_16, hidden, layer=7)
    np.testing.assert_array_equal(plain(share.hidden), hidden[[2]].astype(np.float16))


def test_a_token_that_is_not_sent_may_be_anything() -> None:
    hidden = vectors(3)
    hidden[1] = np.nan
    (share,) = group(plan_of([[0], [NOBODY], [0]], [[4], [4], [4]]), hidden, layer=0)
    assert share.tokens.tolist() == [0, 2]
    assert np.isfinite(plain(share.hidden)).all()


@pytest.mark.parametrize(
    ("width", "reply_width", "said"),
    [
        (16, 16, (None, "none")),
        (32, 32, (None, "none")),
        (4, 16, (None, "none")),
        (16, 32, (32, "none")),
        (4, 8, (8, "hadamard")),
        (16, 8, (8, "hadamard")),
    ],
)
def test_what_goes_without_saying_is_not_said(width: int, reply_width: int, said: Any) -> None:
    (share,) = group(plan_of([[0]], [[width]]), vectors(1), layer=0, reply_width=reply_width)
    request = share.request(request_id=1, layer=0, rotation="hadamard")
    assert (request.reply_width, request.reply_rotation) == said
    assert request.answer_width == reply_width

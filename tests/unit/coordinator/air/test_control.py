"""Control bits that the air counts are those of the messages that are sent."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siftmoe.agent.wire import control, protocol
from siftmoe.agent.wire.packed import pack_runs
from siftmoe.agent.wire.work import Result
from siftmoe.coordinator.air.control import control_bits, header_bits, plan_control_bits
from siftmoe.coordinator.dispatch.grouping import group
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY, SelectionPlan, Status

D, E = 8, 12


def plan_of(helper, expert, width, reply_width) -> SelectionPlan:
    helper = np.asarray(helper)
    return SelectionPlan(
        helper=helper,
        expert=np.asarray(expert),
        weight=np.random.default_rng(0).uniform(-1.0, 1.0, helper.shape),
        width=np.asarray(width),
        reply_width=None if reply_width is None else np.asarray(reply_width),
        status=Status.FEASIBLE,
        energy_j=0.0,
        lower_bound_j=0.0,
        deviation=np.zeros(len(helper)),
    )


@st.composite
def cases(draw):
    tokens, slots = draw(st.integers(1, 200)), draw(st.integers(1, 4))
    helpers = draw(st.integers(1, 4))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    hosts = np.arange(E)[None, :] % helpers == np.arange(helpers)[:, None]
    hosts |= rng.random(hosts.shape) < draw(st.sampled_from([0.0, 0.3]))
    helper = rng.integers(NOBODY, helpers, size=(tokens, slots))
    expert = np.zeros_like(helper)
    for t, k in np.ndindex(*helper.shape):
        n = helper[t, k]
        expert[t, k] = rng.choice(np.flatnonzero(hosts[n])) if n >= 0 else E if n < LOCAL else 0
    ways = [
        np.take_along_axis(
            rng.choice(draw(st.sampled_from([[8], [3, 4], [4, 16, 32]])), (tokens, helpers + 2)),
            helper + 2,
            axis=1,
        )
        for _ in range(2)
    ]
    width, reply = (np.where(helper >= 0, way, 0) for way in ways)
    return plan_of(helper, expert, width, draw(st.sampled_from([None, reply]))), hosts


@given(case=cases())
def test_the_air_counts_the_bits_of_the_messages(case):
    plan, hosts = case
    hidden = np.random.default_rng(1).standard_normal((len(plan.helper), D)).astype(np.float32)
    up, down = plan_control_bits(plan, hosts, reply_width=6)
    sent = {share.helper: share for share in group(plan, hidden, layer=3, reply_width=6)}
    for n in range(len(hosts)):
        if n not in sent:
            assert up[n] == down[n] == 0.0
            continue
        residents = tuple(np.flatnonzero(hosts[n]).tolist())
        request = sent[n].request(request_id=9, layer=3, deadline_s=1.0, residents=residents)
        frames = protocol.encode(request)
        assert len(frames) == 2
        assert 8 * len(frames[0]) == up[n]
        known = SimpleNamespace(hidden_size=D, experts_of=lambda _layer, r=residents: r)
        got = protocol.decode(frames, known)
        np.testing.assert_array_equal(got.pairs, request.pairs)
        np.testing.assert_array_equal(got.weights, request.weights)
        rows = np.zeros((len(got.hidden), D), np.float32)
        output = pack_runs(rows, got.answer_runs, rotation="none")
        answer = Result(id=9, output=output, compute_s=0.1, queue_s=0.0, short=True)
        assert 8 * len(protocol.encode(answer)[0]) == down[n]


def test_a_token_alone_costs_what_pricing_is_told():
    hosts = np.zeros((2, E), bool)
    hosts[0, 4] = hosts[1, [2, 3, 7]] = True
    plan = plan_of([[0, 1], [NOBODY, NOBODY]], [[4, 7], [E, E]], [[8, 4], [0, 0]], None)
    up, down = plan_control_bits(plan, hosts, reply_width=6)
    beside = control_bits(hosts, reply_width=6)
    assert beside.tolist() == [0, 2]
    header = header_bits(Direction.UP)
    assert up.tolist() == [header, header + 8]  # whole bytes
    assert down.tolist() == [header_bits(Direction.DOWN)] * 2


def test_two_experts_of_a_row_cost_two_indices_and_one_weight():
    hosts = np.zeros((1, E), bool)
    hosts[0, :4] = True
    assert control_bits(hosts, pairs=2, reply_width=4).tolist() == [2 * 2 + 8]
    assert control_bits(hosts, pairs=2, reply_width=16).tolist() == [2 * 2 + 16]


@pytest.mark.parametrize(("things", "bits"), [(0, 0), (1, 0), (2, 1), (3, 2), (256, 8), (257, 9)])
def test_an_index_has_no_more_bits_than_it_needs(things, bits):
    assert control.bits_for(things) == bits

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from peers import Peer
from scaling_experts import D, E, compute, expected, plan_of, vectors

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire.protocol import Apply, Failure, Result, StatsReply
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.errors import AgentRefused, AgentUnreachable, DeadlineMissed
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY
from siftmoe.models.shape import ModelShape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


def answer(request: Apply) -> list[Any]:
    output = compute(request.hidden, request.pairs, request.weights)
    return [
        Result(
            id=request.id,
            output=output.astype(request.hidden.dtype),
            compute_s=2e-6,
            queue_s=1e-6,
        )
    ]


@contextlib.contextmanager
def dispatching(*peers: Peer, **options: Any) -> Iterator[Dispatcher]:
    shape = ModelShape(
        num_layers=1,
        num_experts=E,
        top_k=1,
        hidden_size=D,
        intermediate_size=8,
        activation="silu",
    )
    agents = [AgentEntry(name=f"a{n}", address=peer.address) for n, peer in enumerate(peers)]
    fleet = Fleet(agents, shape=shape, model_hash="m" * 64)
    try:
        with Client(fleet) as client:
            client.connect(timeout_s=20.0)
            yield Dispatcher(client, **{"deadline_s": 20.0, "check_one_in": None, **options})
    finally:
        for peer in peers:
            peer.close()


def peer(reply: Any = answer) -> Peer:
    return Peer(reply, hidden_size=D)


PLAN = plan_of(
    [[0, 1], [2, 0], [1, 1], [NOBODY, 2]],
    [[0, 1], [2, 3], [1, 3], [E, 0]],
    [[0.7, 0.3], [0.6, 0.4], [0.5, 0.5], [0.0, 1.0]],
)


def test_a_plan_runs_over_sockets_with_timings_per_helper() -> None:
    hidden = vectors(4)
    with dispatching(peer(), peer(), peer()) as dispatcher:
        result = dispatcher.run(PLAN, hidden, layer=0)
    np.testing.assert_allclose(result.output, expected(PLAN, hidden), rtol=1e-5, atol=1e-6)
    assert [(t.helper, t.tokens) for t in result.timings] == [(0, 2), (1, 2), (2, 2)]
    assert all(t.round_trip_s > 0.0 for t in result.timings)
    assert (result.compute_s, result.queue_s) == (2e-6, 1e-6)
    assert result.failures == {}


def test_the_sum_does_not_depend_on_who_answers_first() -> None:
    hidden = vectors(4)
    outputs = []
    for slow in range(3):
        peers = [
            peer((lambda request: [0.2, *answer(request)]) if n == slow else answer)
            for n in range(3)
        ]
        with dispatching(*peers) as dispatcher:
            result = dispatcher.run(PLAN, hidden, layer=0)
        assert result.slowest is not None
        assert result.slowest.helper == slow
        outputs.append(result.output)
    for output in outputs[1:]:
        np.testing.assert_array_equal(output, outputs[0])


def test_float16_payloads_are_asked_for_and_come_back() -> None:
    hidden = vectors(4)
    peers = [peer() for _ in range(3)]
    plan = replace(PLAN, width=np.where(PLAN.helper >= 0, 16, 0))
    with dispatching(*peers) as dispatcher:
        result = dispatcher.run(plan, hidden, layer=0, reply_width=16)
    assert {request.hidden.dtype for one in peers for request in one.requests} == {
        np.dtype(np.float16)
    }
    np.testing.assert_allclose(result.output, expected(PLAN, hidden), rtol=1e-2, atol=1e-2)


def test_the_deadline_travels_with_the_request() -> None:
    one = peer()
    with dispatching(one, deadline_s=15.0) as dispatcher:
        dispatcher.run(plan_of([[0]], [[0]], [[1.0]]), vectors(1), layer=0)
    (request,) = one.requests
    assert (request.layer, request.deadline_s) == (0, 15.0)


def test_local_experts_are_computed_here() -> None:
    hidden = vectors(2)
    plan = plan_of([[LOCAL, 0], [LOCAL, LOCAL]], [[0, 1], [2, 3]], [[0.5, 0.5], [0.25, 0.75]])
    layers = []

    def local(layer: int, *share: Any) -> NDArray[np.float32]:
        layers.append(layer)
        return compute(*share)

    with dispatching(peer(), local=local) as dispatcher:
        result = dispatcher.run(plan, hidden, layer=7)
        np.testing.assert_allclose(result.output, expected(plan, hidden), rtol=1e-5, atol=1e-6)
        alone = plan_of([[LOCAL]], [[0]], [[1.0]])
        assert dispatcher.run(alone, hidden[:1], layer=7).timings == ()
    assert layers == [7, 7]


def test_local_slots_without_local_experts_are_refused_before_anything_is_sent() -> None:
    one = peer()
    plan = plan_of([[LOCAL, 0]], [[0, 1]], [[0.5, 0.5]])
    with dispatching(one) as dispatcher, pytest.raises(ValueError, match="has no experts"):
        dispatcher.run(plan, vectors(1), layer=0)
    assert one.requests == []


def refuse(request: Apply) -> list[Any]:
    return [Failure(id=request.id, code=ErrorCode.OUT_OF_MEMORY, message="no room")]


def wrong_shape(request: Apply) -> list[Any]:
    output = np.zeros((len(request.hidden) + 1, D), np.float32)
    return [Result(id=request.id, output=output, compute_s=0.0, queue_s=0.0)]


def wrong_kind(request: Apply) -> list[Any]:
    return [StatsReply(id=request.id, counters={})]


@pytest.mark.parametrize(
    ("reply", "error", "text"),
    [
        (refuse, AgentRefused, r"'a1'.*out_of_memory\): no room"),
        (wrong_shape, AgentRefused, r"'a1' answered with an output of shape \(3, 3\), .* \(2, 3\)"),
        (wrong_kind, AgentRefused, r"'a1' answered with StatsReply"),
        (lambda _request: [], DeadlineMissed, r"'a1'.* no answer within 300 ms"),
    ],
)
def test_a_helper_that_gives_no_result_is_an_error_that_names_it(
    reply: Any, error: type[Exception], text: str
) -> None:
    hidden = vectors(4)
    with dispatching(peer(), peer(reply), peer(), deadline_s=0.3) as dispatcher:
        with pytest.raises(error, match=text):
            dispatcher.run(PLAN, hidden, layer=0)
        partial = dispatcher.attempt(PLAN, hidden, layer=0)
    assert list(partial.failures) == [1]
    left = plan_of(
        np.where(PLAN.helper == 1, NOBODY, PLAN.helper),
        np.where(PLAN.helper == 1, E, PLAN.expert),
        PLAN.weight,
    )
    np.testing.assert_allclose(partial.output, expected(left, hidden), rtol=1e-5, atol=1e-6)


def test_a_helper_that_is_not_ready_is_not_asked() -> None:
    peers = [peer(), peer(), peer()]
    with dispatching(*peers) as dispatcher:
        fleet = dispatcher._client.fleet
        fleet.set_state(2, AgentState.DEAD, reason="its process is gone", now_s=0.0)
        with pytest.raises(AgentUnreachable, match=r"'a2' .* is dead: its process is gone"):
            dispatcher.run(PLAN, vectors(4), layer=0)
    assert peers[2].requests == []


def test_a_deadline_is_positive() -> None:
    with pytest.raises(ValueError, match="deadline_s must be positive"):
        Dispatcher(None, deadline_s=0.0)  # type: ignore[arg-type]


def test_checks_are_not_counted_as_payload_of_the_plan() -> None:
    residents = tuple((0, e) for e in range(E))
    peers = [Peer(answer, hidden_size=D, residents=residents) for _ in range(4)]
    hidden = vectors(4)
    with dispatching(*peers, check_one_in=1) as dispatcher:
        checked = dispatcher.attempt(PLAN, hidden, layer=0)
    peers = [Peer(answer, hidden_size=D, residents=residents) for _ in range(4)]
    with dispatching(*peers) as dispatcher:
        plain = dispatcher.attempt(PLAN, hidden, layer=0)
    np.testing.assert_array_equal(checked.output, plain.output)
    assert checked.failures == {}
    assert (checked.uplink_bits, checked.downlink_bits) == (plain.uplink_bits, plain.downlink_bits)
    tokens = {t.helper: t.tokens for t in checked.timings}
    assert {n: tokens[n] for n in range(3)} == {0: 2, 1: 2, 2: 2}

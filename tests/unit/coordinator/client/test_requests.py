from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from peers import Peer

from siftmoe.agent.errors import ErrorCode, ExpertNotResident
from siftmoe.agent.wire.protocol import Apply, Failure, Result, Stats, StatsReply
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.client.sockets import SEND_LIMIT, resolve
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.errors import (
    AgentRefused,
    AgentUnreachable,
    ConfigError,
    DeadlineMissed,
)
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.models.shape import ModelShape

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = ModelShape(
    num_layers=1, num_experts=2, top_k=1, hidden_size=8, intermediate_size=8, activation="silu"
)
PLENTY_S = 20.0  # never waited for where all is well


def fleet_of(*addresses: str) -> Fleet:
    agents = [AgentEntry(name=f"a{n}", address=address) for n, address in enumerate(addresses)]
    return Fleet(agents, shape=SHAPE, model_hash="m" * 64)


@contextlib.contextmanager
def connected(*peers: Peer, ready: bool = True) -> Iterator[Client]:
    try:
        with Client(fleet_of(*[peer.address for peer in peers])) as client:
            if ready:
                client.connect(timeout_s=PLENTY_S)
            yield client
    finally:
        for peer in peers:
            peer.close()


def stats(client: Client) -> Stats:
    return Stats(id=client.next_id())


def echo(request: Any) -> list[Any]:
    return [StatsReply(id=request.id, counters={"asked": 1.0})]


def late(request: Any) -> list[Any]:
    return [0.4, StatsReply(id=request.id, counters={})]


def work(client: Client, rows: int, size: int) -> Apply:
    hidden = np.arange(rows * size, dtype=np.float32).reshape(rows, size)
    return Apply(
        id=client.next_id(),
        layer=0,
        hidden=hidden,
        pairs=np.array([[0, 0]], np.int32),
        weights=np.ones(1, np.float32),
    )


def give_back(request: Apply) -> list[Any]:
    return [Result(id=request.id, output=request.hidden, compute_s=0.1, queue_s=0.2)]


def test_every_agent_answers_its_own_request() -> None:
    with connected(*[Peer(echo) for _ in range(3)]) as client:
        assert client.fleet.ready().all()
        requests = {index: stats(client) for index in range(3)}
        done = client.exchange(requests, deadline_s=PLENTY_S)
        assert {index: reply.id for index, reply in done.require().items()} == {
            index: request.id for index, request in requests.items()
        }
        assert all(seconds > 0.0 for seconds in done.round_trip_s.values())
        named = client.exchange({"a2": stats(client)}, deadline_s=PLENTY_S)
        assert list(named.replies) == [2]


@pytest.mark.parametrize("rows", [1, 4096])
def test_arrays_arrive_as_they_were_small_and_zero_copy(rows: int) -> None:
    with connected(Peer(give_back)) as client:
        request = work(client, rows, 8)
        for _ in range(3):
            reply = client.exchange({0: request}, deadline_s=PLENTY_S).require()[0]
            assert isinstance(reply, Result)
            np.testing.assert_array_equal(reply.output, request.hidden)
            request = work(client, rows, 8)


def test_meanwhile_runs_while_agents_work_and_costs_no_reply() -> None:
    order = []
    with connected(Peer(lambda request: [0.1, *echo(request)])) as client:

        def compute() -> None:
            order.append(len(client._pending))
            time.sleep(0.3)

        done = client.exchange({0: stats(client)}, deadline_s=0.2, meanwhile=compute)
        assert order == [1]
        assert list(done.require()) == [0]


def test_a_slow_agent_misses_the_deadline_and_the_others_do_not_wait_for_it_twice() -> None:
    with connected(Peer(echo), Peer(lambda request: [2.0, *echo(request)])) as client:
        began = time.monotonic()
        done = client.exchange({n: stats(client) for n in range(2)}, deadline_s=0.1)
        assert time.monotonic() - began < 1.5
        assert list(done.replies) == [0]
        assert isinstance(done.failures[1], DeadlineMissed)
        with pytest.raises(DeadlineMissed, match=r"agent 'a1' \(tcp://.*no answer within 100 ms"):
            done.require()
        assert client.fleet[1].state is AgentState.READY


def test_a_late_reply_is_no_answer_to_a_later_request() -> None:
    with connected(Peer(late)) as client:
        first = client.exchange({0: stats(client)}, deadline_s=0.1)
        assert isinstance(first.failures[0], DeadlineMissed)
        request = stats(client)
        second = client.exchange({0: request}, deadline_s=PLENTY_S)
        assert second.require()[0].id == request.id
        assert client.discarded == 1


def test_an_error_says_which_agent_and_keeps_the_agents_own_error() -> None:
    def refuse(request: Any) -> list[Any]:
        code = ErrorCode.EXPERT_NOT_RESIDENT
        return [Failure(id=request.id, code=code, message="expert 1 of layer 0 is not here")]

    with connected(Peer(echo), Peer(refuse)) as client:
        done = client.exchange({n: stats(client) for n in range(2)}, deadline_s=PLENTY_S)
        with pytest.raises(AgentRefused, match=r"'a1' .*refused \(expert_not_resident\): expert 1"):
            done.require()
        assert isinstance(done.failures[1].__cause__, ExpertNotResident)
        assert list(done.replies) == [0]


def test_an_agent_that_found_the_deadline_passed_missed_it() -> None:
    def refuse(request: Any) -> list[Any]:
        return [Failure(id=request.id, code=ErrorCode.DEADLINE_EXCEEDED, message="waited 80 ms")]

    with connected(Peer(refuse)) as client:
        done = client.exchange({0: stats(client)}, deadline_s=PLENTY_S)
        assert isinstance(done.failures[0], DeadlineMissed)


def test_all_failures_are_named() -> None:
    def refuse(request: Any) -> list[Any]:
        return [Failure(id=request.id, code=ErrorCode.BUSY, message="full")]

    with connected(Peer(refuse), Peer(refuse)) as client:
        done = client.exchange({n: stats(client) for n in range(2)}, deadline_s=PLENTY_S)
        with pytest.raises(AgentRefused, match=r"'a0'.*; agent 'a1'"):
            done.require()


@pytest.mark.parametrize(
    "garbage", [[b"\xff\xff"], [b""], [b"x" * 600_000], [b"\x80"], [b"\x81\xa1v\x09", b"more"]]
)
def test_garbage_ends_the_wait_with_the_reason(garbage: list[bytes]) -> None:
    with connected(Peer(echo), Peer(lambda _request: [garbage])) as client:
        done = client.exchange({n: stats(client) for n in range(2)}, deadline_s=PLENTY_S)
        assert list(done.replies) == [0]
        with pytest.raises(AgentRefused, match=r"agent 'a1' .* what is no message"):
            done.require()


def test_a_reply_with_anothers_id_is_not_taken() -> None:
    ids = []

    def steal(request: Any) -> list[Any]:
        ids.append(request.id)
        return [StatsReply(id=request.id - 1, counters={})]

    with connected(Peer(late), Peer(steal)) as client:
        done = client.exchange({n: stats(client) for n in range(2)}, deadline_s=0.2)
        assert set(done.failures) == {0, 1}
        assert client.discarded >= 1


def test_a_flood_does_not_hold_up_the_deadline() -> None:
    def flood(request: Any) -> list[Any]:
        return [StatsReply(id=request.id + 1_000_000, counters={})] * 5_000

    with connected(Peer(flood)) as client:
        done = client.exchange({0: stats(client)}, deadline_s=0.1)
        # one that floods is refused, if that is noticed before the deadline
        assert isinstance(done.failures[0], DeadlineMissed | AgentUnreachable)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model_hash": "x" * 64}, "serves model xxxxxxxxxxxx…"),
        ({"hidden_size": 9}, "has hidden size 9, the model's is 8"),
        ({"residents": ((0, 7),)}, "says it hosts expert 7 of layer 0"),
    ],
)
def test_an_agent_of_another_model_is_refused(fields: dict[str, Any], reason: str) -> None:
    with connected(Peer(echo), Peer(echo, **fields), ready=False) as client:
        with pytest.raises(AgentUnreachable, match=reason):
            client.connect(timeout_s=PLENTY_S)
        assert client.fleet.ready().tolist() == [True, False]
        done = client.exchange({n: stats(client) for n in range(2)}, deadline_s=PLENTY_S)
        assert list(done.replies) == [0]
        assert isinstance(done.failures[1], AgentUnreachable)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda m: [Failure(id=m.id, code=ErrorCode.PROTOCOL, message="version 9")], "version 9"),
        (lambda m: [StatsReply(id=m.id, counters={})], "did not say who it is: StatsReply"),
        (lambda _: [[b"HTTP/1.1 400 Bad Request"]], "answers in no known way"),
    ],
)
def test_an_agent_that_does_not_say_who_it_is_is_refused(answer: Any, reason: str) -> None:
    with connected(Peer(hello=answer), ready=False) as client:
        with pytest.raises(AgentUnreachable, match=reason):
            client.connect(timeout_s=PLENTY_S)
        assert client.fleet[0].state is AgentState.REFUSED


def test_an_agent_that_is_not_there_is_named_and_may_come_later() -> None:
    first = Peer(echo)
    port = int(first.address.rpartition(":")[2])
    first.close()
    with Client(fleet_of(f"tcp://127.0.0.1:{port}")) as client:
        with pytest.raises(AgentUnreachable, match=r"'a0' .* nothing listens there yet"):
            client.connect(timeout_s=0.2)
        assert client.fleet[0].state is AgentState.CONNECTING


def test_an_agent_that_does_not_read_fills_its_pipe_and_is_told_of() -> None:
    with connected(Peer(lambda _request: [1.0])) as client:
        problems = []
        for _ in range(200):
            # Large enough that the kernel's buffers do not take them.
            request = work(client, 512, 1024)
            done = client.exchange({0: request}, deadline_s=1e-4)
            problems.append(str(done.failures[0]))
            if "unread" in problems[-1]:
                break
        assert f"{SEND_LIMIT} messages wait for it unread" in problems[-1]


def test_ids_are_used_once_and_deadlines_are_positive() -> None:
    with connected(Peer(echo)) as client:
        request = stats(client)
        client.exchange({0: request}, deadline_s=PLENTY_S)
        with pytest.raises(ValueError, match=f"request id {request.id} was used before"):
            client.exchange({0: request}, deadline_s=PLENTY_S)
        with pytest.raises(ValueError, match="deadline_s must be positive"):
            client.exchange({0: stats(client)}, deadline_s=0.0)
        with pytest.raises(ValueError, match="no agent is called 'zz'"):
            client.exchange({"zz": stats(client)}, deadline_s=1.0)
        assert client.exchange({}, deadline_s=1.0).require() == {}


def test_closing_twice_is_fine() -> None:
    with connected(Peer(echo)) as client:
        client.close()
        client.close()


def test_names_are_looked_up_and_two_agents_need_two_addresses() -> None:
    assert resolve("tcp://localhost:5555") == "tcp://127.0.0.1:5555"
    assert resolve("tcp://[::1]:5555") == "tcp://[::1]:5555"
    assert resolve("ipc:///run/a.sock") == "ipc:///run/a.sock"
    with pytest.raises(ConfigError, match=r"'tcp://no\.such\.host\.invalid:1': the host cannot"):
        resolve("tcp://no.such.host.invalid:1")
    with pytest.raises(ConfigError, match="agents 'a0' and 'a1' have the same address"):
        Client(fleet_of("tcp://localhost:5555", "tcp://127.0.0.1:5555"))

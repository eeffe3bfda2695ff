"""Replies of a served agent: results, errors, faults, peers that leave, its end."""

import logging
import threading
import time

import msgpack
import numpy as np
import pytest
import zmq
from served_agent import PATIENCE_MS, Bench, ask, check, hold, receive, request, send, wait_until

from siftmoe.agent.errors import ErrorCode, InternalFailure
from siftmoe.agent.service.requests import Service
from siftmoe.agent.serving import router, server
from siftmoe.agent.serving.server import Server
from siftmoe.agent.wire import protocol
from siftmoe.agent.wire.protocol import decode, encode


def test_a_request_is_answered(bench):
    with bench.client() as socket:
        for number, rows in enumerate([1, 7, 2_000]):
            message = request(number, rows=rows)
            reply = ask(socket, message)
            assert reply.id == number
            check(reply, message)


def test_a_row_that_is_not_finite_is_passed_on(bench, recwarn):
    message = request(1, rows=2)
    message.hidden[0] = np.inf
    message.weights[:] = 0.0
    with bench.client() as socket:
        output = ask(socket, message).output
    assert not np.isfinite(output[0]).any()
    assert not output[1].any()
    assert not recwarn.list


def test_hello_and_stats_are_answered_while_it_computes(bench):
    with bench.client() as busy, bench.client() as other:
        hold(bench, busy)
        assert ask(other, protocol.Hello(id=1)).name == "board"
        send(busy, request(2))
        wait_until(lambda: ask(other, protocol.Stats(id=3)).counters["queued"] == 1)
        assert busy.poll(0) == 0
        bench.gate.open.set()
        assert [receive(busy).id, receive(busy).id] == [1000, 2]


def test_a_fault_while_computing_is_answered_and_it_goes_on(bench, monkeypatch, caplog):
    with bench.client() as socket:
        with monkeypatch.context() as patch:
            patch.setattr(Service, "_together", lambda *_: 1 / 0)
            refusal = ask(socket, request(1))
        assert (refusal.id, refusal.code) == (1, ErrorCode.INTERNAL)
        assert "ZeroDivisionError" in caplog.text
        check(ask(socket, message := request(2)), message)


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"", b"delimiter of a REQ socket"],
        [b"\x00\xff" * 40, b"x"],
        encode(protocol.Result(id=1, output=np.zeros((1, 1), "f"), compute_s=0.0, queue_s=0.0)),
        encode(protocol.Failure(id=1, code=ErrorCode.BUSY, message="")),
        encode(request(1))[:-1],
    ],
)
def test_garbage_is_answered_and_changes_nothing(bench, frames):
    with bench.client() as socket:
        socket.send_multipart(frames)
        assert receive(socket).code is ErrorCode.PROTOCOL
        check(ask(socket, message := request(2)), message)


def test_an_older_protocol_is_refused_counted_and_logged_once(bench, caplog):
    """A message of another version is sent twice over one connection."""
    header = msgpack.packb({"v": 2, "kind": "hello", "id": 5})
    with bench.client() as socket, caplog.at_level(logging.WARNING):
        for _ in range(2):
            socket.send_multipart([header])
            refusal = receive(socket)
            assert (refusal.code, refusal.id) == (ErrorCode.PROTOCOL, 5)
            assert "version 2, this end speaks 1; install the same siftmoe" in refusal.message
        stats = ask(socket, protocol.Stats(id=6))
        assert stats.counters["answered_protocol"] == 2
    assert len([r for r in caplog.records if "version 2" in r.getMessage()]) == 1


def test_an_expert_that_is_not_here(bench):
    with bench.client() as socket:
        reply = ask(socket, request(1, expert=1))
        assert reply.code is ErrorCode.EXPERT_NOT_RESIDENT
        assert "expert 1 of layer 0" in reply.message


def test_a_peer_that_went_away_is_counted(bench):
    def leave_and_look():
        with bench.client() as leaving:
            hold(bench, leaving)
        time.sleep(0.02)  # for its end of the connection to be noticed
        bench.gate.open.set()
        counters = ask(other, protocol.Stats(id=1)).counters
        return counters.get("undeliverable_computing", 0) > 0

    with bench.client() as other:
        wait_until(leave_and_look)
        check(ask(other, message := request(2)), message)


def test_a_fault_while_listening_is_answered_and_it_goes_on(bench, monkeypatch, caplog):
    with bench.client() as socket:
        with monkeypatch.context() as patch:
            patch.setattr(Service, "reply", lambda *_, **__: 1 / 0)
            refusal = ask(socket, protocol.Hello(id=5))
        assert (refusal.id, refusal.code) == (5, ErrorCode.INTERNAL)
        assert "ZeroDivisionError" in caplog.text
        assert ask(socket, protocol.Hello(id=6)).name == "board"


def test_a_peer_that_comes_back_under_its_name_is_served(bench):
    for _ in range(3):
        socket = bench.client(routing_id=b"coordinator")
        check(ask(socket, message := request(1)), message)
        stale = socket
        with bench.client(routing_id=b"coordinator") as again:
            check(ask(again, message := request(2)), message)
        stale.close()


def test_a_router_can_ask_too(bench):
    """The coordinator asks all agents through one ROUTER that names its connections."""
    with bench.context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.rcvtimeo = PATIENCE_MS
        socket.router_mandatory = True
        socket.setsockopt(zmq.CONNECT_ROUTING_ID, b"board")
        socket.connect(bench.server.endpoint)
        message = request(3, rows=3)
        socket.send_multipart([b"board", *encode(message)])
        sender, *frames = socket.recv_multipart()
        assert sender == b"board"
        check(decode(frames), message)


def test_a_stuck_computation_does_not_hold_up_the_end(folder, monkeypatch):
    monkeypatch.setattr(server, "STOP_S", 0.05)
    bench = Bench(folder)
    with bench.client() as socket:
        hold(bench, socket)
        bench.server.stop()
        bench.thread.join(5.0)
        assert not bench.thread.is_alive()
    bench.close()


def test_many_clients_at_once(bench):
    """No answer is lost or swapped, however the two threads interleave."""
    failures = []

    def work(seed):
        with bench.client() as socket:
            rng = np.random.default_rng(seed)
            for number in range(40):
                message = request(seed * 1_000 + number, rows=int(rng.integers(1, 5)))
                reply = ask(socket, message)
                if reply.id != message.id:
                    failures.append((reply.id, message.id))
                check(reply, message)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
        assert not thread.is_alive()
    assert not failures
    assert sum(bench.gate.runs) >= 240


def test_an_agent_that_cannot_receive_ends_with_an_error(folder, monkeypatch, caplog):
    """It must not go on as a process that looks alive and answers no request."""
    bench = Bench(folder)
    bench.close()
    stuck = Server(bench.service, bind="tcp://127.0.0.1:*")
    monkeypatch.setattr(router, "receive", lambda _, **__: 1 / 0)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(stuck.endpoint)
        send(socket, request(1))
        with pytest.raises(InternalFailure, match="see its log"):
            stuck.run()
    assert "ZeroDivisionError" in caplog.text

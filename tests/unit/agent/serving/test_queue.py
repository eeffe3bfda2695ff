"""Requests that wait in a served agent: batches, turns, limits, deadlines and its end."""

import time
from functools import partial

from served_agent import Bench, ask, check, hold, receive, request, send, wait_until

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.service import backlog
from siftmoe.agent.wire import protocol


def test_what_is_queued_becomes_one_batch(bench):
    with bench.client() as first, bench.client() as second:
        hold(bench, first)
        messages = [request(n, rows=n) for n in range(1, 6)]
        for message in messages:
            send((first, second)[message.id % 2], message)
        wait_until(lambda: ask(second, protocol.Stats(id=9)).counters["queued"] == 5)
        bench.gate.open.set()
        assert receive(first).id == 1000
        replies = {r.id: r for r in [receive(s) for s in (first, first, second, second, second)]}
        for message in messages:
            check(replies[message.id], message)
        assert bench.gate.runs == [1, 15]


def test_a_full_queue_is_told_at_once(folder):
    bench = Bench(folder, queue_limit=4)
    with bench.client() as socket, bench.client() as other:
        hold(bench, socket)
        for number in (1, 2, 3):
            send(socket, request(number))
        refusal = receive(socket)
        assert (refusal.id, refusal.code) == (3, ErrorCode.BUSY)
        assert "the limit is 4" in refusal.message
        send(other, request(1))  # what one client left free
        wait_until(lambda: ask(other, protocol.Stats(id=9)).counters["queued"] == 3)
        bench.gate.open.set()
        assert {receive(socket).id for _ in range(3)} == {1000, 1, 2}
        assert receive(other).id == 1
    bench.close()


def test_a_client_with_little_is_served_before_one_with_much(bench, monkeypatch):
    monkeypatch.setattr(backlog, "TURN_PAIRS", 4)
    served = []
    monkeypatch.setattr(bench.server, "_compute", partial(_recorded, served, bench.server._compute))
    with bench.client() as greedy, bench.client() as modest:
        hold(bench, greedy)
        for number in range(20):
            send(greedy, request(number, rows=2))
        wait_until(lambda: ask(modest, protocol.Stats(id=9)).counters["queued"] == 20)
        send(modest, request(500))
        wait_until(lambda: ask(modest, protocol.Stats(id=9)).counters["queued_clients"] == 2)
        bench.gate.open.set()
        check(receive(modest), request(500))
        for _ in range(21):
            receive(greedy)
    assert served[0] == [500, 0, 1]  # one of the greedy client's has just been computed
    assert served[-1] == [18, 19]


def _recorded(served, compute, jobs):
    if jobs[0].request.id != 1000:
        served.append([job.request.id for job in jobs])
    compute(jobs)


def test_the_queue_is_limited_in_bytes_too(bench, monkeypatch):
    monkeypatch.setattr(backlog, "MAX_BYTES", 1_000)
    with bench.client() as socket:
        hold(bench, socket)
        send(socket, request(1, rows=100))
        send(socket, request(2))
        refusal = receive(socket)
        assert (refusal.id, refusal.code) == (2, ErrorCode.BUSY)
        bench.gate.open.set()
        assert {receive(socket).id for _ in range(2)} == {1000, 1}
        check(ask(socket, message := request(4, rows=100)), message)


def test_a_deadline_that_passes_in_the_queue(bench):
    with bench.client() as socket:
        hold(bench, socket)
        send(socket, request(1, deadline_s=0.005))
        send(socket, request(2, deadline_s=60.0))
        time.sleep(0.020)
        bench.gate.open.set()
        replies = {reply.id: reply for reply in [receive(socket) for _ in range(3)]}
        assert replies[1].code is ErrorCode.DEADLINE_EXCEEDED
        check(replies[2], request(2))


def test_whoever_waits_when_it_stops_is_told(bench):
    with bench.client() as socket:
        hold(bench, socket)
        send(socket, request(1))
        send(socket, request(2))
        wait_until(lambda: ask_stats(bench) == 2)
        bench.server.stop()
        assert {(r.id, r.code) for r in (receive(socket), receive(socket))} == {
            (1, ErrorCode.STOPPING),
            (2, ErrorCode.STOPPING),
        }
        bench.gate.open.set()
        check(receive(socket), request(1000))


def ask_stats(bench):
    with bench.client() as socket:
        return ask(socket, protocol.Stats(id=1)).counters["queued"]

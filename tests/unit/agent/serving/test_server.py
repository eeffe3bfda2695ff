"""The server with real sockets, in this process, so that a run can be held up at will."""

import logging
import threading
import time
from functools import partial
from types import SimpleNamespace

import msgpack
import numpy as np
import pytest
import zmq
from bundles import reference, shape_of, write_bundle

from siftmoe.agent.compute.runtime import Runtime
from siftmoe.agent.errors import ErrorCode, InternalFailure
from siftmoe.agent.service import backlog
from siftmoe.agent.service.requests import Identity, Service
from siftmoe.agent.service.telemetry import Telemetry
from siftmoe.agent.serving import router, server
from siftmoe.agent.serving.server import Server
from siftmoe.agent.wire import protocol
from siftmoe.agent.wire.protocol import decode, encode
from siftmoe.models.bundle.manifest import Manifest

SHAPE = shape_of()
PATIENCE_MS = 20_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


class Gate:
    """Stands before an expert: tells when a run has begun, and holds it until opened."""

    def __init__(self, session):
        self.session, self.runs = session, []
        self.entered, self.open = threading.Event(), threading.Event()
        self.open.set()

    def close(self):
        self.entered.clear()
        self.open.clear()

    def run(self, names, feed):
        self.runs.append(len(feed["hidden"]))
        self.entered.set()
        assert self.open.wait(PATIENCE_MS / 1e3)
        return self.session.run(names, feed)


class Bench:
    """A served agent and what a test does to it."""

    def __init__(self, folder, **options):
        runtime = Runtime.load(Manifest.load(folder), [(0, 0)], providers=["cpu"], threads=1)
        self.gate = Gate(runtime.experts[0, 0].session)
        runtime.experts[0, 0] = SimpleNamespace(session=self.gate, memory_bytes=0)
        self.service = Service(
            runtime=runtime,
            identity=Identity(name="board", version="1", model_hash="ab"),
            telemetry=Telemetry(started_s=time.monotonic()),
            clock=time.monotonic,
        )
        self.server = Server(self.service, bind="tcp://127.0.0.1:*", **options)
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        self.context = zmq.Context()

    def client(self, **options):
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        socket.rcvtimeo = PATIENCE_MS
        for name, value in options.items():
            setattr(socket, name, value)
        socket.connect(self.server.endpoint)
        return socket

    def close(self):
        self.gate.open.set()
        self.server.stop()
        self.thread.join(5.0)
        assert not self.thread.is_alive()
        self.context.destroy(linger=0)


@pytest.fixture
def bench(folder):
    bench = Bench(folder)
    yield bench
    bench.close()


def request(number, *, rows=1, expert=0, **options):
    hidden = np.random.default_rng(number).standard_normal((rows, 16)).astype(np.float32)
    pairs = np.array([(row, expert) for row in range(rows)], np.int32)
    weights = np.ones(rows, np.float32)
    return protocol.Apply(
        id=number, layer=0, hidden=hidden, pairs=pairs, weights=weights, **options
    )


def send(socket, message):
    socket.send_multipart(encode(message))


def receive(socket):
    return decode(socket.recv_multipart())


def ask(socket, message):
    send(socket, message)
    return receive(socket)


def check(reply, message):
    wanted = reference(SHAPE, 0, 0, message.hidden.astype(np.float64))
    np.testing.assert_allclose(reply.output, wanted, atol=1e-5)


def hold(bench, socket, number=1000):
    """Make the agent busy with a request until its gate is opened."""
    bench.gate.close()
    send(socket, request(number))
    assert bench.gate.entered.wait(PATIENCE_MS / 1e3)


def wait_until(condition):
    end_s = time.monotonic() + PATIENCE_MS / 1e3
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.002)


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
    """A message of another version, twice over one connection."""
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
    """It must not stay as a process that looks alive and answers nobody."""
    bench = Bench(folder)
    bench.close()
    stuck = Server(bench.service, bind="tcp://127.0.0.1:*")
    monkeypatch.setattr(router, "receive", lambda _: 1 / 0)
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(stuck.endpoint)
        send(socket, request(1))
        with pytest.raises(InternalFailure, match="see its log"):
            stuck.run()
    assert "ZeroDivisionError" in caplog.text

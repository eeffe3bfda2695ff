"""A served agent in this process, on real sockets, whose expert a test can hold up at will."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import numpy as np
import zmq
from bundles import reference, shape_of
from patience import scaled_s

from siftmoe.agent.compute.runtime import Runtime
from siftmoe.agent.service.requests import Identity, Service
from siftmoe.agent.service.telemetry import Telemetry
from siftmoe.agent.serving.server import Server
from siftmoe.agent.wire import protocol
from siftmoe.agent.wire.protocol import decode, encode
from siftmoe.models.bundle.manifest import Manifest

SHAPE = shape_of()
PATIENCE_MS = int(scaled_s(20.0) * 1e3)


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

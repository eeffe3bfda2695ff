"""Agents as a user gets them: processes of their own with real experts, and what they are asked."""

from __future__ import annotations

import contextlib

import numpy as np
import zmq
from bundles import reference, shape_of
from patience import scaled_s

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch
from siftmoe.agent.wire import protocol

SHAPE = shape_of()
#: Large enough that a run of many rows takes a while.
SLOW = shape_of(num_layers=1, num_experts=1, hidden_size=512, intermediate_size=2048)
PATIENCE_S = scaled_s(30.0)


def config(folder, **options):
    return AgentConfig(bundle=str(folder), provider="cpu", threads=1, **options)


@contextlib.contextmanager
def agent_on(folder, **options):
    agent = launch(config(folder, **options))
    try:
        yield agent
    finally:
        agent.stop()


@contextlib.contextmanager
def client(endpoint, *, keys=None, server_key=None):
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        if keys is not None:
            dealer.curve_publickey = keys.public.encode()
            dealer.curve_secretkey = keys.secret.encode()
            dealer.curve_serverkey = server_key.encode()
        dealer.rcvtimeo = int(PATIENCE_S * 1e3)
        dealer.connect(endpoint)
        yield dealer


def ask(dealer, message):
    dealer.send_multipart(protocol.encode(message))
    return protocol.decode(dealer.recv_multipart())


def request(number, pairs=((0, 0), (1, 2)), *, layer=0, rows=2, width=16, **options):
    hidden = np.random.default_rng(number).standard_normal((rows, width)).astype(np.float32)
    return protocol.Apply(
        id=number,
        layer=layer,
        hidden=hidden,
        pairs=np.array(pairs, np.int32),
        weights=np.linspace(0.5, 1.5, len(pairs), dtype=np.float32),
        **options,
    )


def wanted(message):
    total = np.zeros(message.hidden.shape)
    for (row, expert), weight in zip(message.pairs.tolist(), message.weights, strict=True):
        vector = message.hidden[row : row + 1].astype(np.float64)
        total[row] += weight * reference(SHAPE, message.layer, expert, vector)[0]
    return total


def assert_serves(endpoint):
    with client(endpoint) as dealer:
        message = request(77)
        np.testing.assert_allclose(ask(dealer, message).output, wanted(message), atol=1e-5)

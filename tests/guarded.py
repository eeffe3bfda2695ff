"""An agent's socket with its authenticator, and connections to it: friends and strangers."""

from __future__ import annotations

import contextlib
import socket
import time
from collections import Counter

import zmq
from patience import scaled_s

from siftmoe.agent.security.authenticator import Authenticator
from siftmoe.agent.security.keys import Credentials, KeyPair
from siftmoe.agent.serving.sockets import endpoint_of, open_router

PATIENCE_S = scaled_s(20.0)
FRIEND, STRANGER, AGENT = KeyPair.generate(), KeyPair.generate(), KeyPair.generate()


def until(condition):
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s
        time.sleep(0.005)


class Door:
    def __init__(self, *, encrypted=True, guarded=True):
        self.counts = Counter()
        self.knocking = []
        self.context, self.outside = zmq.Context(), zmq.Context()
        credentials = Credentials(AGENT, {FRIEND.public: "friend"}) if encrypted else None
        authenticator = None
        if guarded:
            authenticator = Authenticator(self.context, credentials=credentials, count=self._count)
        self.router = open_router(
            self.context,
            "tcp://127.0.0.1:*",
            insecure=False,
            keys=AGENT if encrypted else None,
        )
        if authenticator is not None:
            authenticator.guard(self.router)
        self.endpoint = endpoint_of(self.router)
        self.port = int(self.endpoint.rpartition(":")[2])

    def _count(self, name):
        self.counts[name] += 1

    def knock(self, keys=None, *, server=AGENT):
        """Connect and send, without waiting for a reply."""
        dealer = self.outside.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.reconnect_ivl = 100
        if keys is not None:
            dealer.curve_publickey = keys.public.encode()
            dealer.curve_secretkey = keys.secret.encode()
            dealer.curve_serverkey = server.public.encode()
        dealer.connect(self.endpoint)
        dealer.send(b"hello")
        self.knocking.append(dealer)  # a socket that nobody holds is closed
        return dealer

    def raw(self, *pieces):
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as connection:
            for piece in pieces:
                connection.sendall(piece)
            with contextlib.suppress(OSError):  # refused already, perhaps
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):
                    pass

    def wait_for(self, name, least=1):
        until(lambda: self.counts[name] >= least)

    def heard(self):
        return bool(self.router.poll(100))

    def close(self):
        self.outside.destroy(linger=0)
        self.router.close(linger=0)
        self.context.term()

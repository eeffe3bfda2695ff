"""Peers of a client that speak the protocol and misbehave as a test asks, on real sockets."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import zmq

from siftmoe.agent.wire.protocol import Hello, HelloReply, decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

POLL_MS = 20


class Peer:
    """A ROUTER on its own thread.

    ``answer(request)`` returns the messages (or raw frames) to send back, each after the pause
    that stands before it: ``[reply]``, ``[0.2, reply]``, ``[]``. ``again`` is the address of one
    that was closed.
    """

    def __init__(
        self,
        answer: Callable[[Any], list[Any]] | None = None,
        *,
        hello: Callable[[Hello], list[Any]] | None = None,
        host: str = "127.0.0.1",
        again: str = "",
        **fields: Any,
    ) -> None:
        self._answer = answer or (lambda _request: [])
        self._hello = hello or (lambda message: [hello_reply(message.id, **fields)])
        self.requests: list[Any] = []
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.sndhwm = 0  # what does not fit would be dropped
        self._socket.rcvhwm = 4  # a peer that does not read must not take all in the background
        self._socket.bind(again or f"tcp://{host}:*")
        self.address = self._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"peer {self.address}")
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()
        self._context.term()

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(POLL_MS):
                continue
            route, *frames = self._socket.recv_multipart()
            request = decode(frames)
            if isinstance(request, Hello):
                answers = self._hello(request)
            else:
                self.requests.append(request)
                answers = self._answer(request)
            for item in answers:
                if isinstance(item, float):
                    time.sleep(item)
                else:
                    reply = item if isinstance(item, list) else encode(item)
                    self._socket.send_multipart([route, *reply])


def hello_reply(request_id: int, **changes: Any) -> HelloReply:
    fields: dict[str, Any] = {
        "name": "peer",
        "version": "0.1.0",
        "model_hash": "m" * 64,
        "residents": ((0, 0), (0, 1)),
        "provider": "CPUExecutionProvider",
        "hidden_size": 8,
    }
    return HelloReply(id=request_id, **{**fields, **changes})

"""Agents that lie, on real sockets: they compute truly, with numpy, and answer as they are told."""

from __future__ import annotations

import threading
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zmq

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire.protocol import (
    Apply,
    Failure,
    Hello,
    HelloReply,
    Result,
    Stats,
    StatsReply,
    decode,
    encode,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.models.bundle.manifest import Manifest

#: Modes whose results are wrong and look right; what they make of the true output.
WRONG: Final = {
    "big1000": lambda y: 1000.0 * y,
    "negated": lambda y: -y,
    "zeros": np.zeros_like,
    "others": lambda y: np.roll(y, 1, axis=1),
}
#: Modes whose results cannot be used, or come in another way than they should.
ODD: Final = ("nan", "inf", "shape", "late", "twice", "old", "unasked", "boasts", "floods")
#: Unasked messages of one that floods, more than wait in a socket.
UNASKED: Final = 300
#: How late "late" is, and how long "floods" is away.
LATE_S: Final = 3.0
AWAY_S: Final = 0.3
_POLL_MS: Final = 50


class Liar:
    """A ROUTER on a thread of its own that answers as an agent does.

    Parameters
    ----------
    manifest : Manifest
    experts : sequence of (layer, expert)
        That it says it hosts.
    weights : callable
        `weights_of` of ``bundles``: shape, layer, expert -> projections gate, up, down.
    mode : str
        Of `WRONG` or `ODD`.
    honest : int
        Results that are true before the first lie.
    """

    def __init__(
        self,
        manifest: Manifest,
        experts: Sequence[tuple[int, int]],
        mode: str,
        *,
        weights: Callable[[Any, int, int], tuple[np.ndarray, ...]],
        honest: int = 2,
    ) -> None:
        if mode not in WRONG and mode not in ODD:
            raise ValueError(f"mode {mode!r} is none of {', '.join((*WRONG, *ODD))}")
        self._manifest, self._experts, self._mode = manifest, tuple(experts), mode
        self._honest = honest
        self._weights = lru_cache(maxsize=None)(
            lambda layer, e: [w.astype(np.float64) for w in weights(manifest.shape, layer, e)]
        )
        self.results = self.lies = 0
        self._context = zmq.Context()
        self._socket = self._bound("tcp://127.0.0.1:*")
        self.address = self._socket.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._context.term()

    def _bound(self, address: str) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        socket.linger, socket.sndhwm, socket.router_handover = 0, 0, True
        while True:
            try:
                socket.bind(address)
            except zmq.ZMQError:  # the one before is still being closed
                time.sleep(0.02)
            else:
                return socket

    def _run(self) -> None:
        while not self._stop.is_set():
            if not self._socket.poll(_POLL_MS):
                continue
            peer, *frames = self._socket.recv_multipart()
            message = decode(frames)
            if isinstance(message, Apply):
                self._answer(peer, message)
            elif isinstance(message, Hello):
                self._send(peer, self._hello(message))
            elif isinstance(message, Stats):
                self._send(peer, StatsReply(id=message.id, counters={}))
        self._socket.close()

    def _send(self, peer: bytes, *replies: Any) -> None:
        for reply in replies:
            self._socket.send_multipart([peer, *encode(reply)])

    def _hello(self, message: Hello) -> HelloReply:
        return HelloReply(
            id=message.id,
            name=self._mode,
            version="1",
            model_hash=self._manifest.model_hash,
            residents=self._experts,
            provider="CPUExecutionProvider",
            hidden_size=self._manifest.shape.hidden_size,
        )

    def _answer(self, peer: bytes, apply: Apply) -> None:
        output = self._compute(apply)
        self.results += 1
        mode = self._mode if self.results > self._honest else ""
        self.lies += bool(mode)
        if mode in WRONG:
            output = np.ascontiguousarray(WRONG[mode](output))
        elif mode in ("nan", "inf"):
            output[-1, 0] = np.nan if mode == "nan" else np.inf
        elif mode == "shape":
            output = np.concatenate((output, output[:1]))
        elif mode == "late":
            self._stop.wait(LATE_S)
        took_s = 1e9 if mode == "boasts" else 1e-6
        reply = Result(id=apply.id, output=output, compute_s=took_s, queue_s=0.0)
        busy = Failure(id=10**9, code=ErrorCode.BUSY, message="x")
        if mode == "old":
            self._send(peer, Result(id=apply.id - 1, output=-output, compute_s=0.0, queue_s=0.0))
        self._send(peer, reply, *[reply] * (mode == "twice"))
        self._send(peer, *[busy] * (UNASKED if mode in ("unasked", "floods") else 0))
        if mode == "floods":
            time.sleep(0.02)
            self._socket.close()
            self._stop.wait(AWAY_S)
            self._socket = self._bound(self.address)

    def _compute(self, apply: Apply) -> np.ndarray:
        """As an agent would, in float64: (n, d) float32."""
        hidden = plain(apply.hidden).astype(np.float64)
        output = np.zeros(hidden.shape)
        for (row, expert), weight in zip(apply.pairs.tolist(), apply.weights, strict=True):
            gate, up, down = self._weights(apply.layer, expert)
            g = gate @ hidden[row]
            output[row] += weight * (down @ (g / (1.0 + np.exp(-g)) * (up @ hidden[row])))
        return output.astype(np.float32)

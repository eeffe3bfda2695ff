"""Requests that wait for computation, whose turn is next, and whose turn it is to compute.

Clients take turns by what their requests cost, not by how many they send (start-time fair queueing;
P. Goyal, H. M. Vin, H. Cheng, "Start-time fair queueing", SIGCOMM 1996). Each request gets a start
tag, the later of the virtual time and the end of its client's request before it, and the smallest
tag is served first:

    S = max(v, F of the client's last request),   F = S + cost,   v = S of the last one taken

So whoever asks now and then waits for what is being computed, and not for all that a client
without restraint has sent before. What is taken together is one batch, and bounded.

One client may have as much waiting as is still free (dynamic thresholds; A. K. Choudhury,
E. L. Hahne, IEEE/ACM Transactions on Networking 6, 1998): half of all if it is alone, a third each
if they are two. However many there are, a newcomer finds room.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siftmoe.agent.errors import AgentBusy, AgentStopping

if TYPE_CHECKING:
    from siftmoe.agent.service.requests import Job

#: Arrays that may wait, beside the limit of requests; a client's first is admitted if less waits.
MAX_BYTES: Final = 256 * 1024 * 1024
#: Pairs (row, expert) after which a turn is over, since the next client waits for it. Larger
#: batches gained no throughput that could be measured (benchmarks/agent_clients.py).
TURN_PAIRS: Final = 128


@dataclass(slots=True)
class _Client:
    """What a client has waiting, and the virtual time at which its last request ends."""

    finish: int = 0
    requests: int = 0
    num_bytes: int = 0


class Backlog:
    """Bounded; what waits is taken a turn at a time, by one thread at a time.

    Parameters
    ----------
    limit : int
        Requests that may wait.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._waiting: list[
            tuple[int, int, int, int, Job]
        ] = []  # heap: start tag, arrival, cost, bytes
        self._arrivals = itertools.count()
        self._clients: dict[bytes, _Client] = {}
        self._virtual = 0
        self._bytes = 0
        self._taken = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._waiting)

    def figures(self) -> dict[str, float]:
        """Return how much waits: requests, bytes, and clients that they are of."""
        with self._lock:
            return {
                "queued": float(len(self._waiting)),
                "queued_bytes": float(self._bytes),
                "queued_clients": float(sum(c.requests > 0 for c in self._clients.values())),
            }

    def add(self, job: Job) -> None:
        """Let a request wait.

        Raises
        ------
        AgentBusy
            If its client, or all together, have as much waiting as they may.
        AgentStopping
            If nothing will be computed any more.
        """
        request = job.request
        size = request.hidden.nbytes + request.pairs.nbytes + request.weights.nbytes
        cost = len(request.pairs) or 1
        with self._lock:
            if self._closed:
                raise AgentStopping("the agent is stopping; ask another one")
            client = self._clients.get(job.peer)
            if client is None:
                client = self._account(job.peer)
            if (
                client.requests >= self._limit - len(self._waiting)
                or client.num_bytes >= MAX_BYTES - self._bytes
            ):
                raise self._busy(client)
            start = max(self._virtual, client.finish)
            heapq.heappush(self._waiting, (start, next(self._arrivals), cost, size, job))
            client.finish = start + cost
            client.requests += 1
            client.num_bytes += size
            self._bytes += size

    def claim(self) -> list[Job]:
        """Take what is next and with it the turn; nothing if another thread has the turn."""
        with self._lock:
            return [] if self._taken else self._take()

    def take_next(self) -> list[Job]:
        """Take what is next; with nothing, the turn is given back."""
        with self._lock:
            return self._take()

    def close(self) -> list[Job]:
        """Take all that waits, and let nothing wait any more."""
        with self._lock:
            self._closed = True
            jobs = [job for *_, job in sorted(self._waiting)]
            self._waiting.clear()
            self._clients.clear()
            self._bytes = 0
            return jobs

    def _take(self) -> list[Job]:
        if not self._waiting:  # nobody is owed anything any more
            self._taken, self._virtual = False, 0
            self._clients.clear()
            return []
        self._taken = True
        jobs: list[Job] = []
        room = TURN_PAIRS
        while self._waiting and room > 0:
            self._virtual, _, cost, size, job = heapq.heappop(self._waiting)
            client = self._clients[job.peer]
            client.requests -= 1
            client.num_bytes -= size
            self._bytes -= size
            room -= cost
            jobs.append(job)
        return jobs

    def _account(self, peer: bytes) -> _Client:
        """Open a client's account, and close those with nothing waiting if there are many."""
        if len(self._clients) >= 2 * self._limit:
            self._clients = {name: known for name, known in self._clients.items() if known.requests}
        client = self._clients[peer] = _Client()
        return client

    def _busy(self, client: _Client) -> AgentBusy:
        return AgentBusy(
            f"{len(self._waiting)} requests of {self._bytes} bytes are waiting, {client.requests} "
            f"of {client.num_bytes} bytes of them yours; the limit is {self._limit} and "
            f"{MAX_BYTES} bytes, and one client may have as much as is free; send fewer at a "
            f"time, or to another agent"
        )

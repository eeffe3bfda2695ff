"""Queue of requests that wait for computation, scheduled fairly between clients.

Clients share the agent by the cost of their requests, not by their number (start-time fair
queueing; P. Goyal, H. M. Vin, H. Cheng, "Start-time fair queueing", SIGCOMM 1996). Each request
gets a start tag S, the later of the virtual time v and the finish tag F of its client's previous
request, and the smallest tag is served first:

    S = max(v, F of the client's last request),   F = S + cost,   v = S of the last one taken

So a client that asks rarely waits for the current computation only, and not for everything that
another client has queued before. The requests that are taken together are one batch of bounded
size.

One client may queue as much as is still free (dynamic thresholds; A. K. Choudhury, E. L. Hahne,
IEEE/ACM Transactions on Networking 6, 1998): half of the queue if it is alone, a third each if
there are two. However many clients there are, a new one finds room.
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

#: Most bytes of arrays that wait, beside the limit of requests; a client's first request is
#: admitted if less is waiting.
MAX_BYTES: Final = 256 * 1024 * 1024
#: Pairs (row, expert) that end a turn, since the next client waits for its end. Larger batches
#: gained no measurable throughput (benchmarks/agents/clients.py).
TURN_PAIRS: Final = 128


@dataclass(slots=True)
class _Client:
    """A client's waiting requests and bytes, and the finish tag of its last request."""

    finish: int = 0
    requests: int = 0
    num_bytes: int = 0


class Backlog:
    """Bounded queue; one thread at a time holds the turn and takes batches.

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
        """Return the numbers of waiting requests, of their bytes and of their clients."""
        with self._lock:
            return {
                "queued": float(len(self._waiting)),
                "queued_bytes": float(self._bytes),
                "queued_clients": float(sum(c.requests > 0 for c in self._clients.values())),
            }

    def add(self, job: Job) -> None:
        """Queue a request.

        Raises
        ------
        AgentBusy
            If its client, or all clients together, have reached the limit.
        AgentStopping
            If the queue is closed.
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
        """Take the turn and the next batch; empty if another thread holds the turn."""
        with self._lock:
            return [] if self._taken else self._take()

    def take_next(self) -> list[Job]:
        """Take the next batch while holding the turn; if it is empty, the turn is released."""
        with self._lock:
            return self._take()

    def close(self) -> list[Job]:
        """Close the queue and return all waiting requests."""
        with self._lock:
            self._closed = True
            jobs = [job for *_, job in sorted(self._waiting)]
            self._waiting.clear()
            self._clients.clear()
            self._bytes = 0
            return jobs

    def _take(self) -> list[Job]:
        if not self._waiting:  # with an empty queue all tags start again
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
        """Add a client; if there are many, forget those with no waiting request."""
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

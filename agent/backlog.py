"""Requests that wait for computation, and whose turn it is to compute."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from siftmoe.agent.errors import AgentBusy, AgentStopping

if TYPE_CHECKING:
    from siftmoe.agent.service import Job

#: Hidden vectors that may wait, beside the limit of requests; one request is always admitted.
MAX_BYTES: Final = 256 * 1024 * 1024


class Backlog:
    """Bounded; what waits is taken all at once, by one thread at a time.

    Parameters
    ----------
    limit : int
        Requests that may wait.
    """

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._jobs: list[Job] = []
        self._bytes = 0
        self._taken = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Let a request wait.

        Raises
        ------
        AgentBusy
            If as much is waiting as may.
        AgentStopping
            If nothing will be computed any more.
        """
        with self._lock:
            if self._closed:
                raise AgentStopping("the agent is stopping; ask another one")
            if len(self._jobs) >= self._limit or self._bytes >= MAX_BYTES:
                raise AgentBusy(
                    f"{len(self._jobs)} requests of {self._bytes} bytes are waiting, the limit is "
                    f"{self._limit}; send fewer at a time, or to another agent"
                )
            self._jobs.append(job)
            self._bytes += job.request.hidden.nbytes

    def claim(self) -> list[Job]:
        """Take all that waits and with it the turn; nothing if another thread has the turn."""
        with self._lock:
            return [] if self._taken else self._take()

    def go_on(self) -> list[Job]:
        """Take what has come meanwhile; with nothing, the turn is given back."""
        with self._lock:
            return self._take()

    def close(self) -> list[Job]:
        """Take all that waits, and let nothing wait any more."""
        with self._lock:
            self._closed = True
            return self._take()

    def _take(self) -> list[Job]:
        jobs, self._jobs, self._bytes = self._jobs, [], 0
        self._taken = bool(jobs)
        return jobs

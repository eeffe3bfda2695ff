"""The agent's loop: one thread listens while one computes.

The listening thread receives, answers ``hello`` and ``stats`` at once, and queues requests that
need computation. If no thread computes, it takes a batch from the queue, leaves listening to the
other thread and computes itself: no request is handed from thread to thread, which costs as much as
sending it (leader and followers; D. C. Schmidt et al., Pattern-Oriented Software Architecture 2). A
very short computation is run inline, without passing the listening role on: waking the other thread
costs a fifth of the run of a small expert. The server does not wait for a batch to fill, and it has
no event loop: one costs 70 µs per call, as much as the whole round trip.
"""

from __future__ import annotations

import logging
import select
import threading
import time
from typing import TYPE_CHECKING, Final

import numpy as np
import zmq

from siftmoe.agent.errors import (
    AgentStopping,
    InternalFailure,
    ProtocolError,
    WireError,
)
from siftmoe.agent.security.authenticator import Authenticator
from siftmoe.agent.security.peer_log import PeerLog
from siftmoe.agent.security.unfinished import Unfinished
from siftmoe.agent.service.backlog import Backlog
from siftmoe.agent.service.pace import Pace
from siftmoe.agent.service.requests import Job
from siftmoe.agent.serving.router import SharedRouter
from siftmoe.agent.serving.sockets import open_router
from siftmoe.agent.serving.wakeup import Wakeup
from siftmoe.agent.wire.bounds import frame_limit
from siftmoe.agent.wire.messages import failure_of
from siftmoe.agent.wire.protocol import Apply, Hello, Message, Sound, Stats, decode

if TYPE_CHECKING:
    from siftmoe.agent.security.keys import Credentials
    from siftmoe.agent.service.requests import Service
    from siftmoe.agent.serving.notify import Supervisor
    from siftmoe.agent.wire.protocol import Frame, Reply

logger = logging.getLogger(__name__)

#: How long a running computation may delay the end of the process.
STOP_S: Final = 0.5
#: Computations expected to be shorter run inline: no thread listens until they end, which is short
#: beside the network's delays. ZeroMQ's own threads go on answering heartbeats.
INLINE_S: Final = 5e-3
#: Most messages that are received before the queue is looked at.
_AT_ONCE: Final = 256


class Server:
    """Serves a :class:`Service` on an address until :meth:`stop`.

    Parameters
    ----------
    service : Service
    bind : str
        ``tcp://HOST:PORT`` or ``ipc://PATH``.
    insecure : bool
        Allow an address that other machines reach without credentials.
    credentials : Credentials or None
        If given, connections are encrypted and only keys on the allow-list are admitted.
    queue_limit : int
        Requests that may wait for computation; one client may use as many places as are free. A
        further request is answered "busy".

    Raises
    ------
    AddressInUse, AddressUnusable
        If the address cannot be bound.
    """

    def __init__(
        self,
        service: Service,
        *,
        bind: str,
        insecure: bool = False,
        credentials: Credentials | None = None,
        queue_limit: int = 256,
    ) -> None:
        self._service = service
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        max_frame_bytes = frame_limit(service.runtime.hidden_size)
        unfinished = Unfinished(max_frame_bytes=max_frame_bytes)
        authenticator = Authenticator(
            self._context,
            credentials=credentials,
            count=service.telemetry.count,
            unfinished=unfinished,
        )
        try:
            socket = open_router(
                self._context,
                bind,
                insecure=insecure,
                max_frame_bytes=max_frame_bytes,
                keys=None if credentials is None else credentials.keys,
            )
        except Exception:
            authenticator.close()
            self._context.term()
            raise
        authenticator.guard(socket)
        self._router = SharedRouter(socket, count=service.telemetry.count, unfinished=unfinished)
        self._peer_log = PeerLog(logger)
        self.endpoint = self._router.endpoint
        self._backlog = Backlog(limit=queue_limit)
        self._pace = Pace()
        self._listening = threading.Lock()  # held by the thread that receives
        self._inline = False  # whether the computing thread also holds the listening role
        self._rounds = 0  # of the listening loop
        self._stopping = False
        self._failed = False
        self._ended = Wakeup()

    def stop(self) -> None:
        """End :meth:`run`; may be called from a signal handler or another thread."""
        self._stopping = True
        self._router.wake()
        self._ended.set()

    def waiting(self) -> dict[str, float]:
        """Return the queue's figures; may be called from any thread."""
        return self._backlog.figures()

    def run(self, supervisor: Supervisor | None = None) -> bool:
        """Serve until :meth:`stop`; return False if a computation was still running at the end.

        A supervisor that asks for watchdog messages gets them as long as the listening loop runs.

        Raises
        ------
        InternalFailure
            If the loop failed; the log has the traceback.
        """
        workers = [
            threading.Thread(target=self._work, name=f"worker-{number}", daemon=True)
            for number in (1, 2)
        ]
        for worker in workers:
            worker.start()
        # Signals are handled in this thread, so it must never be in a computation.
        while not self._stopping:
            self._wait(supervisor)
        clean = self._shut_down(workers)
        if self._failed:
            raise InternalFailure("the agent could not go on receiving; see its log")
        return clean

    def _wait(self, supervisor: Supervisor | None) -> None:
        """Wait for the end, at most until the next watchdog message is due."""
        if supervisor is None or supervisor.interval_s is None:
            select.select([self._ended], [], [])
            return
        seen = self._rounds
        self._router.wake()  # the listening loop goes around once
        select.select([self._ended], [], [], supervisor.interval_s)
        if self._rounds != seen:
            supervisor.alive()

    def _work(self) -> None:
        try:
            # A row that overflowed at the sender is computed as it is, without a warning on stderr.
            with np.errstate(all="ignore"):
                self._take_turns()
        except Exception:
            logger.exception("the agent ends: it cannot go on receiving")
            self._failed = True
            self.stop()

    def _take_turns(self) -> None:
        while not self._stopping:
            with self._listening:
                jobs = self._listen()
                self._inline = True
                while jobs and self._pace.expected_s(jobs) < INLINE_S:
                    self._compute(jobs)
                    if self._backlog:  # new clients are scheduled before the next batch
                        self._receive()
                    jobs = self._backlog.take_next() or self._listen()
                self._inline = False
            while jobs:
                self._compute(jobs)
                jobs = self._backlog.take_next()

    def _listen(self) -> list[Job]:
        """Receive until there is a batch to compute and no thread computes; return the batch."""
        while not self._stopping:
            self._rounds += 1
            may_be_more = self._receive()
            if jobs := self._backlog.claim():
                return jobs
            if may_be_more:
                continue
            self._router.wait()
        return []

    def _receive(self) -> bool:
        """Receive what has arrived; return False if nothing is left.

        ZeroMQ's descriptor announces later arrivals only, so everything must be received before
        waiting for it; but a flood of messages must not keep the queue from being computed.
        """
        for _ in range(_AT_ONCE):
            if self._stopping or (message := self._router.receive()) is None:
                return False
            self._handle(bytes(message[0]), message[1:])
        return True

    def _handle(self, peer: bytes, frames: list[Frame]) -> None:
        try:
            message = decode(frames, self._service.runtime)
        except ProtocolError as error:
            self._peer_log.warn_once("message", peer=peer.hex(), reason=str(error))
            self._refuse(peer, error, request_id=error.request_id)
            return
        try:
            self._dispatch(peer, message)
        except WireError as error:
            self._refuse(peer, error, request_id=message.id)
        except Exception:
            logger.exception("request %d failed", message.id)
            fault = InternalFailure("the agent failed on this request; see its log")
            self._refuse(peer, fault, request_id=message.id)

    def _dispatch(self, peer: bytes, message: Message) -> None:
        if isinstance(message, Apply):
            self._service.admit(message)
            self._router.check_unread(peer)
            self._backlog.add(Job(request=message, arrived_s=self._service.clock(), peer=peer))
        elif isinstance(message, Sound):
            self._service.sound(message, lambda reply: self._send(peer, reply, role="sounding"))
        elif isinstance(message, Hello | Stats):
            reply = self._service.reply(message, waiting=self.waiting())
            self._send(peer, reply, role="listening")
        else:
            error = ProtocolError(f"an agent answers requests, {type(message).__name__} is none")
            self._refuse(peer, error, request_id=message.id)

    def _refuse(self, peer: bytes, error: WireError, *, request_id: int) -> None:
        self._service.telemetry.count(f"answered_{error.code.value}")
        self._send(peer, failure_of(error, request_id=request_id), role="listening")

    def _compute(self, jobs: list[Job]) -> None:
        started_s = self._service.clock()
        open_jobs = {id(job): job for job in jobs}
        try:
            for answers in self._service.compute(jobs):
                for job, reply in answers:
                    del open_jobs[id(job)]
                    self._send(job.peer, reply, role="computing")
        except Exception:
            logger.exception("a computation failed, the agent goes on")
            error = InternalFailure("the agent failed on this request; see its log")
            for job in open_jobs.values():
                reply = failure_of(error, request_id=job.request.id)
                self._send(job.peer, reply, role="computing")
        self._pace.learn(jobs, self._service.clock() - started_s)

    def _send(self, peer: bytes, reply: Reply, *, role: str) -> None:
        """Send; while a computation runs inline no other thread waits for arrivals."""
        may_wake = role != "listening" and not self._inline
        self._router.send(peer, reply, role=role, may_wake=may_wake)

    def _shut_down(self, workers: list[threading.Thread]) -> bool:
        """Close the radio, refuse waiting requests, wait for a running computation, close."""
        if self._service.soundings is not None:
            self._service.soundings.close()
        for job in self._backlog.close():
            error = AgentStopping("the agent is stopping; ask another one")
            self._refuse(job.peer, error, request_id=job.request.id)
        end_s = time.monotonic() + STOP_S
        for worker in workers:
            worker.join(max(0.0, end_s - time.monotonic()))
        self._router.close()
        self._context.term()
        self._router.remove_path()
        if any(worker.is_alive() for worker in workers):
            return False
        self._router.release()
        self._ended.close()
        return True

"""The agent's loop: one thread moves messages, one computes.

The I/O thread receives, answers ``hello`` and ``stats`` at once, and queues what must be computed.
The compute thread takes whatever is queued as one batch, without waiting for more, and sends the
results itself: a ZeroMQ socket may be used by several threads if a lock stands around each use,
and handing a result to the other thread costs as much as sending it. Both are plain synchronous
loops: an event loop costs 70 µs a call, as much as the whole round trip.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import select
import threading
from typing import TYPE_CHECKING, Final

import zmq

from siftmoe.agent.errors import AgentBusy, AgentStopping, InternalFailure, ProtocolError, WireError
from siftmoe.agent.messages import failure_of
from siftmoe.agent.protocol import Apply, Hello, Message, Sound, Stats, decode, encode
from siftmoe.agent.service import Job
from siftmoe.agent.sockets import endpoint_of, open_router, remove_path, send

if TYPE_CHECKING:
    from siftmoe.agent.protocol import Reply
    from siftmoe.agent.service import Service

logger = logging.getLogger(__name__)

#: Hidden vectors that may wait, beside the limit of requests; one request is always admitted.
MAX_QUEUED_BYTES: Final = 256 * 1024 * 1024
#: How long a computation that runs may hold up the end of the process.
STOP_S: Final = 0.5


class Server:
    """Serves a :class:`Service` on an address until :meth:`stop`.

    Parameters
    ----------
    service : Service
    bind : str
        ``tcp://HOST:PORT`` or ``ipc://PATH``.
    insecure : bool
        Allow an address that other machines reach.
    queue_limit : int
        Requests that may wait for computation; a further one is answered "busy".
    heartbeat_ms, heartbeat_timeout_ms : int, ms
        How often peers are asked for a sign of life, and when one is given up.

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
        queue_limit: int = 256,
        heartbeat_ms: int = 100,
        heartbeat_timeout_ms: int = 300,
    ) -> None:
        self._service = service
        self._queue_limit = queue_limit
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            self._router = open_router(
                self._context,
                bind,
                insecure=insecure,
                heartbeat_ms=heartbeat_ms,
                heartbeat_timeout_ms=heartbeat_timeout_ms,
            )
        except Exception:
            self._context.term()
            raise
        self.endpoint = endpoint_of(self._router)
        self._inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._socket_lock = threading.Lock()  # around every use of the router
        self._bytes_in = 0  # written by the I/O thread only
        self._bytes_out = 0  # written by the compute thread only
        self._stopping = False
        self._closed = False
        self._wake_out, self._wake_in = os.pipe()
        os.set_blocking(self._wake_in, False)
        os.set_blocking(self._wake_out, False)

    def stop(self) -> None:
        """End :meth:`run`; may be called from a signal handler or another thread."""
        self._stopping = True
        if not self._closed:
            self._wake()

    def run(self) -> bool:
        """Serve until :meth:`stop`; False if a computation had to be left behind."""
        worker = threading.Thread(target=self._compute_loop, name="compute", daemon=True)
        worker.start()
        poll = select.poll()
        poll.register(_option(self._router, zmq.FD), select.POLLIN)
        poll.register(self._wake_out, select.POLLIN)
        try:
            while not self._stopping:
                self._receive()
                if any(descriptor == self._wake_out for descriptor, _ in poll.poll()):
                    self._hush()
        finally:
            clean = self._shut_down(worker)
        return clean

    def _receive(self) -> None:
        """Take all that has arrived; ZeroMQ's descriptor only tells of what comes after."""
        while not self._stopping:
            with self._socket_lock:
                if not self._something_arrived():
                    return
                peer, *frames = self._router.recv_multipart(zmq.NOBLOCK)
            self._handle(peer, frames)

    def _something_arrived(self) -> bool:
        return bool(_option(self._router, zmq.EVENTS) & zmq.POLLIN)

    def _handle(self, peer: bytes, frames: list[bytes]) -> None:
        try:
            message = decode(frames)
        except ProtocolError as error:
            self._refuse(peer, error, request_id=error.request_id)
            return
        try:
            self._dispatch(peer, message)
        except Exception:
            logger.exception("request %d failed", message.id)
            fault = InternalFailure("the agent failed on this request; see its log")
            self._refuse(peer, fault, request_id=message.id)

    def _dispatch(self, peer: bytes, message: Message) -> None:
        if isinstance(message, Apply):
            self._admit(peer, message)
        elif isinstance(message, Hello | Stats | Sound):
            self._send(peer, self._service.reply(message, queued=self._inbox.qsize()))
        else:
            self._refuse(peer, _not_a_request(message), request_id=message.id)

    def _admit(self, peer: bytes, request: Apply) -> None:
        waiting, held = self._inbox.qsize(), self._bytes_in - self._bytes_out
        if waiting >= self._queue_limit or held >= MAX_QUEUED_BYTES:
            error = AgentBusy(
                f"{waiting} requests of {held} bytes are waiting, the limit is "
                f"{self._queue_limit}; send fewer at a time, or to another agent"
            )
            self._refuse(peer, error, request_id=request.id)
            return
        self._bytes_in += request.hidden.nbytes
        self._inbox.put(Job(request=request, arrived_s=self._service.clock(), peer=peer))

    def _refuse(self, peer: bytes, error: WireError, *, request_id: int) -> None:
        self._service.telemetry.count(f"answered_{error.code.value}")
        self._send(peer, failure_of(error, request_id=request_id))

    def _send(self, peer: bytes, reply: Reply) -> bool:
        """Send, or count what cannot be sent; True if something has arrived meanwhile.

        Sending may take the sign of an arrival that the I/O thread waits for.
        """
        frames = encode(reply)
        with self._socket_lock:
            if self._closed:
                return False
            sent = send(self._router, peer, frames)
            arrived = self._something_arrived()
        if not sent:
            self._service.telemetry.count(f"undeliverable_{threading.current_thread().name}")
            logger.info("peer %s is gone or does not read; a reply is lost", peer.hex())
        return arrived

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it will wake anyway
            os.write(self._wake_in, b"\0")

    def _hush(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_out, 4096)

    def _compute_loop(self) -> None:
        while True:
            jobs = self._take()
            if jobs is None:
                return
            open_jobs = {id(job): job for job in jobs}
            try:
                for answers in self._service.compute(jobs):
                    for job, reply in answers:
                        del open_jobs[id(job)]
                        self._answer(job, reply)
            except Exception:
                logger.exception("the compute thread failed and goes on")
                for job in open_jobs.values():
                    error = InternalFailure("the agent failed on this request; see its log")
                    self._answer(job, failure_of(error, request_id=job.request.id))

    def _take(self) -> list[Job] | None:
        """Wait for a job and take all that are queued; None if the agent stops."""
        jobs = []
        job = self._inbox.get()
        while job is not None:
            jobs.append(job)
            if not self._inbox.qsize():
                return jobs
            job = self._inbox.get()
        if jobs:
            self._inbox.put(None)  # the end comes after what was taken before it
        return jobs or None

    def _answer(self, job: Job, reply: Reply) -> None:
        self._bytes_out += job.request.hidden.nbytes
        if self._send(job.peer, reply):
            self._wake()

    def _shut_down(self, worker: threading.Thread) -> bool:
        """Answer who still waits, let a running computation end, close."""
        with contextlib.suppress(queue.Empty):
            while job := self._inbox.get_nowait():
                error = AgentStopping("the agent is stopping; ask another one")
                self._refuse(job.peer, error, request_id=job.request.id)
        self._inbox.put(None)
        worker.join(STOP_S)
        with self._socket_lock:
            self._closed = True
            self._router.close()
        self._context.term()
        remove_path(self.endpoint)
        if worker.is_alive():
            return False
        os.close(self._wake_out)
        os.close(self._wake_in)
        return True


def _option(socket: zmq.Socket[bytes], option: int) -> int:
    return int(socket.getsockopt(option))


def _not_a_request(message: Message) -> ProtocolError:
    return ProtocolError(f"an agent answers requests, {type(message).__name__} is none")

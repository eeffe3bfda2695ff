"""The agent's service: requests and a clock in, replies out, without sockets and threads."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.agent.board.heat import Heat
from siftmoe.agent.errors import (
    DeadlineExceeded,
    InternalFailure,
    NotFinite,
    NotSupported,
    WireError,
)
from siftmoe.agent.service.finite import check_finite
from siftmoe.agent.wire.messages import failure_of
from siftmoe.agent.wire.packed import Packed, Vectors, pack_runs, plain_all, row_widths
from siftmoe.agent.wire.packed_check import check_widths
from siftmoe.agent.wire.protocol import (
    Apply,
    Failure,
    Hello,
    HelloReply,
    Reply,
    Result,
    Sound,
    Stats,
    StatsReply,
)
from siftmoe.models.vectors.records import ROW_WIDTHS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from siftmoe.agent.board.heat import Thermometer
    from siftmoe.agent.board.power import BoardPower
    from siftmoe.agent.compute.runtime import Runtime
    from siftmoe.agent.service.sounding import Soundings
    from siftmoe.agent.service.telemetry import Telemetry

    Float32Array = NDArray[np.float32]

logger = logging.getLogger(__name__)

#: Most rows of one run of merged requests. More would add no throughput (the processor is the limit
#: well below) and would let many requests together take more memory than any one of them.
MAX_BATCH_ROWS: Final = 4_096

_S_TO_MS = 1e3


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Name, version, model and radio of an agent, as ``hello`` reports them."""

    name: str
    version: str
    model_hash: str
    radio: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request for computation, its arrival time (s, the service's clock) and its peer."""

    request: Apply
    arrived_s: float
    peer: bytes


Answer = tuple[Job, Result | Failure]


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """Answers requests on a runtime.

    Parameters
    ----------
    runtime : Runtime
    identity : Identity
    telemetry : Telemetry
    clock : callable
        Returns monotonic seconds.
    soundings, board, thermometer : Soundings, BoardPower, Thermometer, or None
    widths : tuple of int, bit
        Bits per entry of the vectors that it accepts and sends.
    """

    runtime: Runtime
    identity: Identity
    telemetry: Telemetry
    clock: Callable[[], float]
    soundings: Soundings | None = None
    board: BoardPower | None = None
    thermometer: Thermometer | None = None
    widths: tuple[int, ...] = ROW_WIDTHS

    def reply(self, request: Hello | Stats, *, waiting: Mapping[str, float]) -> Reply:
        """Answer a request that needs no computation."""
        if isinstance(request, Hello):
            return self._hello(request)
        return self.stats(request.id, waiting=waiting)

    def stats(self, request_id: int, *, waiting: Mapping[str, float]) -> StatsReply:
        """Return counters and the state of the board; may be called from any thread."""
        counters = self.telemetry.figures(now_s=self.clock(), waiting=waiting)
        powers_w = {}
        if self.board is not None:
            counters.update(self.board.figures())
            powers_w = self.board.powers_w()
        heat = Heat() if self.thermometer is None else self.thermometer.read()
        counters.update(heat.counters)
        return StatsReply(
            id=request_id,
            counters=counters,
            power_w=powers_w,
            temperature_c=heat.temperature_c,
            limit_c=heat.limit_c,
            throttling=heat.throttling,
        )

    def sound(self, request: Sound, answer: Callable[[Reply], None]) -> None:
        """Queue a pilot exchange; ``answer`` is called later, from another thread.

        Raises
        ------
        NotSupported
            If the agent has no radio.
        AgentBusy
            If too many exchanges wait.
        """
        if self.soundings is None:
            raise NotSupported(
                f"agent {self.identity.name!r} has no radio to sound with; start it with --radio"
            )
        self.soundings.submit(request, answer)

    def _hello(self, request: Hello) -> HelloReply:
        return HelloReply(
            id=request.id,
            name=self.identity.name,
            version=self.identity.version,
            model_hash=self.identity.model_hash,
            residents=self.runtime.residents,
            provider=self.runtime.provider,
            hidden_size=self.runtime.hidden_size,
            radio=self.identity.radio,
            dtype="float16" if self.runtime.dtype == "float16" else "float32",
            memory_bytes=self.runtime.memory_bytes,
            widths=self.widths,
            sequences=True,
            short=True,
        )

    def admit(self, request: Apply) -> None:
        """Raise UnknownWidth if the request or its answer has a width that is not served."""
        if self.widths != ROW_WIDTHS:
            what = f"agent {self.identity.name!r}"
            widths = {*row_widths(request.hidden), *(width for width, _ in request.answer_runs)}
            check_widths(widths, known=self.widths, what=what, request_id=request.id)

    def compute(self, jobs: Sequence[Job]) -> Iterator[list[Answer]]:
        """Compute requests, those of one layer together, and yield answers as they are ready.

        Every job is answered exactly once. A job that fails does not affect the others.
        """
        for batch in _batches(jobs):
            late: list[Job] = []
            in_time: list[Job] = []
            for job in batch:
                (late if self._is_late(job) else in_time).append(job)
            if late:
                yield [(job, self._too_late(job)) for job in late]
            if in_time:
                started_s = self.clock()
                answers = self._together(in_time)
                self.telemetry.count("batches")
                self.telemetry.count("compute_s", self.clock() - started_s)
                yield answers

    def _is_late(self, job: Job) -> bool:
        deadline_s = job.request.deadline_s
        return deadline_s is not None and self.clock() - job.arrived_s >= deadline_s

    def _too_late(self, job: Job) -> Failure:
        self.telemetry.count("deadline_exceeded")
        waited_ms = (self.clock() - job.arrived_s) * _S_TO_MS
        deadline_ms = (job.request.deadline_s or 0.0) * _S_TO_MS
        error = DeadlineExceeded(
            f"agent {self.identity.name!r}: waited {waited_ms:.1f} ms, the deadline was "
            f"{deadline_ms:.1f} ms; not computed"
        )
        return failure_of(error, request_id=job.request.id)

    def _together(self, jobs: list[Job]) -> list[Answer]:
        if len(jobs) == 1:
            return [(jobs[0], self._alone(jobs[0]))]
        started_s = self.clock()
        try:
            outputs = self._apply_merged([job.request for job in jobs])
        except Exception as error:  # noqa: BLE001  each job alone shows which one fails
            logger.debug(
                "batch of %d failed (%s); its jobs are computed one by one", len(jobs), error
            )
            return [(job, self._alone(job)) for job in jobs]
        return [
            (job, self._checked(job, output, started_s))
            for job, output in zip(jobs, outputs, strict=True)
        ]

    def _alone(self, job: Job) -> Result | Failure:
        request, started_s = job.request, self.clock()
        try:
            output = apply_request(self.runtime, request)
        except WireError as error:
            self.telemetry.count("refused")
            return failure_of(error, request_id=request.id)
        except Exception as error:
            logger.exception("request %d of layer %d failed", request.id, request.layer)
            self.telemetry.count("failed")
            failure = InternalFailure(f"agent {self.identity.name!r}: {error}; see its log")
            return failure_of(failure, request_id=request.id)
        return self._checked(job, output, started_s)

    def _checked(self, job: Job, output: Float32Array, started_s: float) -> Result | Failure:
        """Return the result, or a failure if an expert has computed NaN or infinity."""
        try:
            check_finite(self.runtime, job.request, output)
        except NotFinite as error:
            logger.info("request %d failed: %s", job.request.id, error)
            self.telemetry.count("failed")
            failure = NotFinite(f"agent {self.identity.name!r}: {error}")
            return failure_of(failure, request_id=job.request.id)
        return self._result(job, output, started_s)

    def _apply_merged(self, requests: list[Apply]) -> list[NDArray[np.float32]]:
        for request in requests:
            self.runtime.check(request.layer, request.hidden, request.pairs[:, 1].tolist())
        sizes = [len(request.hidden) for request in requests]
        starts = np.cumsum([0, *sizes[:-1]], dtype=np.int32)
        pairs = np.concatenate([request.pairs for request in requests])
        pairs[:, 0] += np.repeat(starts, [len(request.pairs) for request in requests])
        output = self.runtime.apply(
            requests[0].layer,
            np.concatenate(plain_all([request.hidden for request in requests])),
            pairs=pairs,
            weights=np.concatenate([request.weights for request in requests]),
        )
        return np.split(output, starts[1:])

    def _result(self, job: Job, output: Float32Array, started_s: float) -> Result:
        self.telemetry.count("served")
        self.telemetry.count("rows", len(output))
        return Result(
            id=job.request.id,
            output=answer_to(job.request, output),
            compute_s=self.clock() - started_s,
            queue_s=max(0.0, started_s - job.arrived_s),
            short=job.request.residents is not None,
        )


def apply_request(runtime: Runtime, request: Apply) -> Float32Array:
    """Compute a request's weighted sums, (n, d); errors as `Runtime.apply`."""
    hidden = request.hidden
    if isinstance(hidden, Packed):
        runtime.check(request.layer, hidden, ())  # rows of a wrong size are not unpacked
        hidden = hidden.rows()
    return runtime.apply(request.layer, hidden, pairs=request.pairs, weights=request.weights)


def answer_to(request: Apply, output: Float32Array) -> Vectors:
    """Convert sums (n, d) to the widths and rotation that the request asks for."""
    return pack_runs(output, request.answer_runs, rotation=request.reply_rotation)


def _batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """Group jobs by layer in the order of arrival, each group with at most MAX_BATCH_ROWS."""
    if len(jobs) == 1:
        yield list(jobs)
        return
    groups: dict[int, list[Job]] = {}
    rows: dict[int, int] = {}
    for job in jobs:
        layer, size = job.request.layer, len(job.request.hidden)
        if layer in groups and rows[layer] + size > MAX_BATCH_ROWS:
            yield groups.pop(layer)
        rows[layer] = size + (rows[layer] if layer in groups else 0)
        groups.setdefault(layer, []).append(job)
    yield from groups.values()

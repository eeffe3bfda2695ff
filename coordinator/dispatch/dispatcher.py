"""Runs a plan on the agents: sends the requests, collects the results, sums the output."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.agent.wire.protocol import Result, plain, plain_all
from siftmoe.coordinator.client.exchange import raise_first
from siftmoe.coordinator.dispatch.asking import Asked, ask
from siftmoe.coordinator.dispatch.grouping import combine, group
from siftmoe.coordinator.dispatch.results import DispatchResult, timing_of
from siftmoe.coordinator.dispatch.sampling import ONE_IN, check_bits, with_checks
from siftmoe.coordinator.dispatch.verification import Sent, Verifier
from siftmoe.coordinator.errors import AgentDistrusted, AgentRefused, AgentUnreachable
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.selection.problem import LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from siftmoe.agent.wire.protocol import Message
    from siftmoe.coordinator.client.requests import Client
    from siftmoe.coordinator.dispatch.grouping import Share
    from siftmoe.coordinator.dispatch.results import HelperTiming
    from siftmoe.coordinator.dispatch.verification import LocalExperts
    from siftmoe.coordinator.selection.problem import SelectionPlan
    from siftmoe.models.vectors.quantise import Rotation

    Float32Array = NDArray[np.float32]
    FloatArray = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]
    Outputs = dict[int, Rows]

_log = logging.getLogger(__name__)


class Dispatcher:
    """Runs plans over a client.

    Parameters
    ----------
    client : Client
    deadline_s : float, s
        Time limit of a layer's results, in real time.
    rotation : "none" or "hadamard"
        Of quantised vectors, both ways.
    local : LocalExperts or None
        Computes the slots that a plan assigns to the user's device, in parallel to the helpers.
    patience_s : float, s
        Time limit of the wait for a helper while none is ready: a board starts in a minute.
    check_one_in : int or None
        One row in so many is computed twice, where an expert has two hosts or there is a
        ``reference``; None: none is.
    reference : LocalExperts or None
        Computes rows again on the user's device, which is believed.
    rng : np.random.Generator or None
        Draws those rows; None: no helper can foresee them.
    """

    def __init__(
        self,
        client: Client,
        *,
        deadline_s: float,
        rotation: Rotation = "hadamard",
        local: LocalExperts | None = None,
        patience_s: float = 120.0,
        check_one_in: int | None = ONE_IN,
        reference: LocalExperts | None = None,
        rng: np.random.Generator | None = None,
    ) -> None:
        if not deadline_s > 0.0:
            raise ValueError(f"deadline_s must be positive, got {deadline_s}")
        self._client = client
        self._deadline_s = deadline_s
        self._rotation: Rotation = rotation
        self._local = local
        self._patience_s = patience_s
        self._verifier = Verifier(
            client, one_in=check_one_in, reference=reference, rng=rng or np.random.default_rng()
        )
        self._boasted: set[int] = set()

    @property
    def deadline_s(self) -> float:
        """Time limit of a layer's results, in real time."""
        return self._deadline_s

    def attend(self) -> None:
        """Update the helpers' states; if none is ready, wait for one.

        For hot helpers the wait has no limit: idle boards cool.

        Raises
        ------
        AgentUnreachable
            If none became ready in time.
        """
        client = self._client
        client.poll()
        if client.fleet.ready().any():
            return
        _log.warning("no helper is left; waiting for one")
        while not client.wait_somebody(timeout_s=self._patience_s):
            if any(agent.state is AgentState.HOT for agent in client.fleet):
                _log.warning(
                    "whoever is left is hot: %s; waiting for them to cool (avoid_hot = false "
                    "under [faults] uses them as they are)",
                    client.fleet.excluded(),
                )
                continue
            raise AgentUnreachable(
                f"no helper was ready for {self._patience_s:g} s: {client.fleet.excluded()}; "
                f"start one. What was booked is kept"
            )

    def run(
        self, plan: SelectionPlan, hidden: Float32Array, *, layer: int, reply_width: int = 32
    ) -> DispatchResult:
        """Compute a layer as planned.

        Parameters
        ----------
        plan : SelectionPlan
        hidden : (T, d) float32
        layer : int
        reply_width : int, bit
            As of `attempt`.

        Raises
        ------
        AgentUnreachable, DeadlineMissed, AgentRefused
            If a helper gave no result; the message names it with its reason.
        """
        result = self.attempt(plan, hidden, layer=layer, reply_width=reply_width)
        raise_first(result.failures)
        return result

    def attempt(
        self,
        plan: SelectionPlan,
        hidden: Float32Array,
        *,
        layer: int,
        reply_width: int = 32,
        deadline_s: float | None = None,
        usual_norm: FloatArray | None = None,
    ) -> DispatchResult:
        """Compute a layer as far as helpers answer; check ``failures`` before using the output.

        A connected helper that failed is excluded until it answers a hello; one whose results are
        wrong, for good.

        Parameters
        ----------
        plan : SelectionPlan
        hidden : (T, d) float32
        layer : int
        reply_width : int, bit
            Of an entry of the replies, where the plan does not choose it.
        deadline_s : float or None, s
            Shorter than the layer's if missing results are to be requested from others.
        usual_norm : (E,) float64 or None
            Mean norm of each expert's output, where it is known.

        Raises
        ------
        ValueError
            If vectors cannot be sent in the plan's widths, see `group`.
        """
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        asked = Asked(layer, reply_width, self._rotation, deadline_s)
        checks = self._verifier.checks(plan, asked)
        shares = group(
            *with_checks(plan, hidden, checks),
            layer=layer,
            rotation=self._rotation,
            reply_width=reply_width,
        )
        remote = [share for share in shares if share.helper != LOCAL]
        outputs: Outputs = {}
        local = self._local_work(shares, layer, outputs)
        exchange = ask(self._client, remote, asked, meanwhile=local)
        failures, given_up_s = dict(exchange.failures), dict(exchange.given_up_s)
        answers: dict[int, Result] = {}
        for share in remote:
            reply = exchange.replies.get(share.helper)
            if isinstance(reply, Result) and reply.output.shape == share.hidden.shape:
                answers[share.helper] = reply
            elif reply is not None:
                name = self._client.fleet[share.helper].name
                failures[share.helper] = AgentRefused(f"agent {name!r} {_problem(reply, share)}")
        rows = plain_all([answer.output for answer in answers.values()])
        answered = [share for share in remote if share.helper in answers]
        for share, row in zip(answered, rows, strict=True):
            outputs[share.helper] = share.scaled(row)  # once, for all that follows
        wrong = self._verifier.verify(
            Sent(plan, hidden, shares, checks), outputs, asked=asked, usual_norm=usual_norm
        )
        for helper, failure in {**failures, **wrong}.items():
            failures[helper] = failure
            given_up_s.setdefault(helper, exchange.round_trip_s.get(helper, 0.0))
            outputs.pop(helper, None)
            answers.pop(helper, None)
            if not isinstance(failure, AgentDistrusted):
                self._client.rest(helper, reason=str(failure))
        total = combine(
            shares,
            outputs,
            num_tokens=len(hidden) + len(checks),
            hidden_size=hidden.shape[1],
        )
        bits = check_bits(checks, hidden.shape[1])
        planned = [s for s in remote if not checks or s.tokens.min() < len(hidden)]
        return DispatchResult(
            output=total[: len(hidden)],
            timings=tuple(
                self._timing(
                    share,
                    answers[share.helper],
                    exchange.round_trip_s[share.helper],
                    num_tokens=len(hidden),
                )
                for share in remote
                if share.helper in answers
            ),
            failures=failures,
            given_up_s=given_up_s,
            uplink_bits={
                s.helper: s.payload_bits - bits.get(s.helper, (0, 0))[0]
                for s in planned
                if s.helper in exchange.sent
            },
            downlink_bits={
                s.helper: 8 * answers[s.helper].output.nbytes - bits.get(s.helper, (0, 0))[1]
                for s in planned
                if s.helper in answers
            },
        )

    def _timing(
        self, share: Share, result: Result, round_trip_s: float, *, num_tokens: int
    ) -> HelperTiming:
        """Return the times of a result; those that exceed its round trip count as 0."""
        timing = timing_of(share, result, round_trip_s, num_tokens=num_tokens)
        if timing.compute_s + timing.queue_s <= round_trip_s:
            return timing
        if share.helper not in self._boasted:
            self._boasted.add(share.helper)
            _log.warning(
                "agent %r reports %g s of computing and %g s of waiting in a round trip of %g s; "
                "its times are not believed, and count as 0 wherever they exceed the round trip",
                self._client.fleet[share.helper].name,
                timing.compute_s,
                timing.queue_s,
                round_trip_s,
            )
        return replace(timing, compute_s=0.0, queue_s=0.0)

    def _local_work(
        self, shares: list[Share], layer: int, outputs: Outputs
    ) -> Callable[[], None] | None:
        """Return the computation on the user's device; None if there is none."""
        if not shares or shares[0].helper != LOCAL:
            return None
        share, local = shares[0], self._local
        if local is None:
            raise ValueError("the plan leaves slots on the user's device, which has no experts")

        def compute() -> None:
            outputs[LOCAL] = local(layer, plain(share.hidden), share.pairs, share.weights)

        return compute


def _problem(reply: Message, share: Share) -> str:
    """Why a reply is no result for this share; empty if it is one."""
    if not isinstance(reply, Result):
        return f"answered with {type(reply).__name__}, asked for was a result"
    return (
        f"answered with an output of shape {reply.output.shape}, what it was given has "
        f"{share.hidden.shape}"
    )

"""Runs a plan on the agents: sends the requests, collects the results, sums the output."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

from siftmoe.agent.wire.protocol import Result, plain, plain_all
from siftmoe.coordinator.client.exchange import raise_first
from siftmoe.coordinator.dispatch.grouping import combine, group
from siftmoe.coordinator.dispatch.results import DispatchResult, timing_of
from siftmoe.coordinator.errors import AgentRefused, AgentUnreachable
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.selection.problem import LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.agent.wire.protocol import Apply, Message, Vectors
    from siftmoe.coordinator.client.requests import Client
    from siftmoe.coordinator.dispatch.grouping import Share
    from siftmoe.coordinator.selection.problem import SelectionPlan
    from siftmoe.models.vectors.quantise import Rotation

    Float32Array = NDArray[np.float32]
    Outputs = dict[int, NDArray[np.floating[Any]]]

_log = logging.getLogger(__name__)


class LocalExperts(Protocol):
    """Experts computed on the user's device."""

    def __call__(
        self, layer: int, hidden: Float32Array, pairs: NDArray[np.int32], weights: Float32Array
    ) -> Float32Array:
        """Weighted sum over experts: hidden [n, d], pairs [m, 2], weights [m] -> [n, d]."""
        ...


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
    """

    def __init__(
        self,
        client: Client,
        *,
        deadline_s: float,
        rotation: Rotation = "hadamard",
        local: LocalExperts | None = None,
        patience_s: float = 120.0,
    ) -> None:
        if not deadline_s > 0.0:
            raise ValueError(f"deadline_s must be positive, got {deadline_s}")
        self._client = client
        self._deadline_s = deadline_s
        self._rotation: Rotation = rotation
        self._local = local
        self._patience_s = patience_s

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
    ) -> DispatchResult:
        """Compute a layer as far as helpers answer; check ``failures`` before using the output.

        A connected helper that failed is excluded until it answers a hello.

        Parameters
        ----------
        plan : SelectionPlan
        hidden : (T, d) float32
        layer : int
        reply_width : int, bit
            Of an entry of the replies; the plan has the widths of the requests.
        deadline_s : float or None, s
            Shorter than the layer's if missing results are to be requested from others.

        Raises
        ------
        ValueError
            If vectors cannot be sent in the plan's widths, see `group`.
        """
        deadline_s = self._deadline_s if deadline_s is None else deadline_s
        shares = group(plan, hidden, layer=layer, rotation=self._rotation)
        remote = [share for share in shares if share.helper != LOCAL]
        outputs: Outputs = {}
        answers: dict[int, Vectors] = {}
        exchange = self._client.exchange(
            {
                share.helper: self._request(share, layer, reply_width, deadline_s)
                for share in remote
            },
            deadline_s=deadline_s,
            meanwhile=self._local_work(shares, layer, outputs),
        )
        failures, given_up_s = dict(exchange.failures), dict(exchange.given_up_s)
        timings = []
        for share in remote:
            reply = exchange.replies.get(share.helper)
            if isinstance(reply, Result) and reply.output.shape == share.hidden.shape:
                answers[share.helper] = reply.output
                timings.append(timing_of(share, reply, exchange.round_trip_s[share.helper]))
            elif reply is not None:
                name = self._client.fleet[share.helper].name
                failures[share.helper] = AgentRefused(f"agent {name!r} {_problem(reply, share)}")
                given_up_s[share.helper] = exchange.round_trip_s[share.helper]
        for helper, failure in failures.items():
            self._client.rest(helper, reason=str(failure))
        outputs.update(zip(answers, plain_all(list(answers.values())), strict=True))
        return DispatchResult(
            output=combine(shares, outputs, num_tokens=len(hidden), hidden_size=hidden.shape[1]),
            timings=tuple(timings),
            failures=failures,
            given_up_s=given_up_s,
            uplink_bits={s.helper: s.payload_bits for s in remote if s.helper in exchange.sent},
            downlink_bits={helper: 8 * answer.nbytes for helper, answer in answers.items()},
        )

    def _request(self, share: Share, layer: int, reply_width: int, deadline_s: float) -> Apply:
        return share.request(
            request_id=self._client.next_id(),
            layer=layer,
            deadline_s=deadline_s,
            reply_width=reply_width,
            rotation=self._rotation,
        )

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

"""Verifies helpers' results: samples rows to compute twice, and excludes helpers that are wrong."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

import numpy as np

from siftmoe.agent.wire.protocol import Result, plain
from siftmoe.coordinator.dispatch.asking import ask
from siftmoe.coordinator.dispatch.grouping import group
from siftmoe.coordinator.dispatch.inspection import Inspection
from siftmoe.coordinator.dispatch.plausibility import Scores
from siftmoe.coordinator.dispatch.sampling import Sampler, only_checks
from siftmoe.coordinator.errors import AgentDistrusted
from siftmoe.coordinator.selection.problem import LOCAL
from siftmoe.models.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from siftmoe.coordinator.client.requests import Client
    from siftmoe.coordinator.dispatch.asking import Asked
    from siftmoe.coordinator.dispatch.grouping import Share
    from siftmoe.coordinator.dispatch.sampling import Check
    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.coordinator.selection.problem import SelectionPlan

    Float32Array = NDArray[np.float32]
    FloatArray = NDArray[np.float64]
    BoolArray = NDArray[np.bool_]
    Rows = NDArray[np.floating[Any]]


_log = logging.getLogger(__name__)

#: Largest share of a run's time in which the user's device computes rows again.
MOST_SHARE: Final = 0.01


class LocalExperts(Protocol):
    """Experts computed on the user's device."""

    def __call__(
        self, layer: int, hidden: Float32Array, pairs: NDArray[np.int32], weights: Float32Array
    ) -> Float32Array:
        """Weighted sum over experts: hidden [n, d], pairs [m, 2], weights [m] -> [n, d]."""
        ...


class Sent(NamedTuple):
    """What a layer's requests were made from, and their shares, rows of checks included."""

    plan: SelectionPlan
    hidden: Float32Array
    shares: list[Share]
    checks: list[Check]


class Verifier:
    """Verifies the results of a run.

    Parameters
    ----------
    client : Client
    one_in : int or None
        One row in so many is computed twice; None: none is.
    reference : LocalExperts or None
        Computes rows on the user's device, which is believed; None: replicas compute them.
    rng : np.random.Generator
    clock : callable
        Seconds; the user's device spends at most `MOST_SHARE` of them on computing again.
    """

    def __init__(
        self,
        client: Client,
        *,
        one_in: int | None,
        reference: LocalExperts | None,
        rng: np.random.Generator,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._reference = reference
        self._sampler = None if one_in is None else Sampler(one_in, rng)
        self._scores = Scores()
        self._clock = clock
        self._began_s, self._spent_s = clock(), 0.0

    def checks(self, plan: SelectionPlan, asked: Asked) -> list[Check]:
        """Choose rows of a layer that are computed twice."""
        if self._sampler is None:
            return []

        def hosts() -> BoolArray:
            fleet = self._client.fleet
            sent = plan.helper >= 0
            widths = np.unique(plan.width[sent]).tolist()
            replies = [asked.reply_width]
            if plan.reply_width is not None:
                replies = np.unique(plan.reply_width[sent]).tolist()
            able: BoolArray = np.all(fleet.knows((*widths, *replies)), axis=1)
            if len(replies) > 1:
                able &= fleet.answers_mixed()
            return fleet.hosts(asked.layer) & able[:, None]

        idle = self._spent_s <= MOST_SHARE * (self._clock() - self._began_s)
        return self._sampler.choose(
            plan,
            hosts,
            local=self._reference is not None and idle,
            reply_width=asked.reply_width,
        )

    def verify(
        self,
        sent: Sent,
        outputs: Mapping[int, Rows],
        *,
        asked: Asked,
        usual_norm: FloatArray | None,
    ) -> dict[int, CoordinatorError]:
        """Find the helpers whose results must not be used, and exclude the distrusted ones."""
        inspection = Inspection(
            self._client.fleet.names,
            sent.shares,
            outputs,
            num_tokens=len(sent.hidden),
            usual=usual_norm,
        )
        inspection.judge_norms(self._scores)
        for number, check in enumerate(sent.checks):
            inspection.judge(
                number,
                check,
                local=self._compute_again(inspection, check, asked.layer),
                third=lambda check: self._third(sent, check, asked),
            )
        for helper, failure in inspection.failures.items():
            if isinstance(failure, AgentDistrusted):
                self._client.distrust(helper, reason=str(failure))
        return inspection.failures

    def _compute_again(self, inspection: Inspection, check: Check, layer: int) -> Rows | None:
        """Compute a check's row on the user's device; None if another helper has done so."""
        if check.replica != LOCAL or self._reference is None:
            return None
        vector = inspection.sent_row(check)
        if vector is None:
            return None
        pairs = np.stack((np.zeros_like(check.expert), check.expert), axis=1).astype(np.int32)
        weights = check.weight.astype(np.float32)
        began_s = self._clock()
        try:
            row: Rows = self._reference(layer, vector.astype(np.float32), pairs, weights)[0]
        except ModelError as error:
            _log.warning("the user's device cannot compute rows again, replicas will: %s", error)
            self._reference = None
            return None
        self._spent_s += self._clock() - began_s
        return row

    def _third(self, sent: Sent, check: Check, asked: Asked) -> Rows | None:
        """Request a check's row from another host of its experts; None if there is none."""
        if self._sampler is None:
            return None
        hosts = self._client.fleet.hosts(asked.layer)
        pair = {check.suspect, check.replica}
        for helper in self._sampler.replicas(hosts, check.expert, but=pair):
            more, row = only_checks(sent.plan, sent.hidden, [replace(check, replica=helper)])
            shares = group(
                more,
                row,
                layer=asked.layer,
                rotation=asked.rotation,
                reply_width=asked.reply_width,
            )
            reply = ask(self._client, shares, asked).replies.get(helper)
            if isinstance(reply, Result) and reply.output.shape == shares[0].hidden.shape:
                again: Rows = shares[0].scaled(plain(reply.output))[0]
                return again
        return None

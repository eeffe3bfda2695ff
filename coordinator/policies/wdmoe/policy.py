r"""WDMoE: drop light experts from slow devices and divide the band anew.

The user's device waits in every layer for the slowest device, :math:`\max_k t_k` with
:math:`t_k = q_k \tau_k`, :math:`\tau_k` the time of one token there. Dropping a token whose
weight on a device is small raises that device's weight-to-latency ratio
:math:`\mathrm{WLR}_k = \sum_{t \text{ on } k} w_{t,k} / t_k`, and so does bandwidth; the two are
alternated until the latency stops falling. Stated in WDMoE (arXiv 2411.06681): the waiting, the
ratio, a threshold that tunes the dropping, the division of the band. The two rules of dropping
are this project's reconstruction (docs/explanation/theory.md, section 4).

WDMoE's downlink goes from the user's device to the experts; it is the *uplink* of the rest of this
package.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.loads.hosting import keep_slots
from siftmoe.coordinator.policies.topk import finish_plan
from siftmoe.coordinator.policies.wdmoe.devices import WdmoeLinks, wdmoe_links
from siftmoe.coordinator.policies.wdmoe.dropping import drop_by_cosine, drop_from_slowest
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY, SelectionPlan, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.policy import PolicyRun
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Latency must fall by this share for another round.
_LEAST_GAIN = 1e-9


class WdmoeRule(str, Enum):
    """Which experts are dropped."""

    #: From the slowest device its lightest token, again and again, while that is light enough.
    GREEDY = "greedy"
    #: A token's lightest device, where its weights do not go along with the devices' latencies.
    COSINE = "cosine"


@dataclass(frozen=True, slots=True, kw_only=True)
class WdmoeResult:
    """A plan with its division of the band.

    Parameters
    ----------
    plan : SelectionPlan
    bandwidth_hz : (N,) float64, Hz
    latency_s : float, s
        Latency of the slowest device.
    """

    plan: SelectionPlan
    bandwidth_hz: FloatArray
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Wdmoe:
    """WDMoE's selection as a policy.

    Parameters
    ----------
    links : callable or None
        Returns the devices as they are now, one entry per helper of the problem; asked once per
        selection. A run tells it.
    rule : WdmoeRule or str
    min_weight : float
        ``GREEDY``: a token's weight on a device from which it is never dropped.
    threshold : float
        ``COSINE``: a token drops while the cosine between its weights and its devices' latencies
        is at most this.
    max_rounds : int
        Most alternations of selection and bandwidth.
    """

    links: Callable[[], WdmoeLinks] | None = None
    rule: WdmoeRule | str = WdmoeRule.GREEDY
    min_weight: float = 0.35
    threshold: float = 0.8
    max_rounds: int = 20

    def for_run(self, run: PolicyRun) -> Wdmoe:
        """Look at the run's links at each selection."""
        return replace(self, links=lambda: wdmoe_links(run.links(), run.air()))

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Drop experts; see `solve` for the bandwidths."""
        return self.solve(problem).plan

    def solve(self, problem: SelectionProblem) -> WdmoeResult:
        """Alternate selection and bandwidth until the latency stops falling.

        Every token keeps at least one expert. Deviation budgets are not looked at.

        Returns
        -------
        WdmoeResult
            The plan's energy is that of the problem's table at the plan's loads.

        Raises
        ------
        ValueError
            If it was told no links.
        """
        started = time.perf_counter()
        if self.links is None:
            raise ValueError("wdmoe needs the links of a run; prepare it with prepare_policy")
        links = self.links()
        helper = keep_slots(problem, problem.gate_weights > 0.0)
        outage = bool(((helper == NOBODY) & (problem.gate_weights > 0.0)).any())
        weights, local = _weights_on_helpers(problem, helper)
        band = _uniform(weights, links.bandwidth_hz)
        latency, best, best_band = np.inf, weights, band
        for _ in range(self.max_rounds):
            weights = self._drop(weights, local, links.token_latency(band))
            now, band = links.allocate(np.count_nonzero(weights, axis=0).astype(np.float64))
            if not now < latency * (1.0 - _LEAST_GAIN):
                break
            latency, best, best_band = now, weights, band
        plan = _plan(problem, helper, best, outage=outage, started=started)
        return WdmoeResult(plan=plan, bandwidth_hz=best_band, latency_s=latency)

    def _drop(self, weights: FloatArray, local: IntArray, token_s: FloatArray) -> FloatArray:
        if WdmoeRule(self.rule) is WdmoeRule.GREEDY:
            return drop_from_slowest(weights, local, token_s, self.min_weight)
        return drop_by_cosine(weights, local, token_s, threshold=self.threshold)


def _weights_on_helpers(problem: SelectionProblem, helper: IntArray) -> tuple[FloatArray, IntArray]:
    """Weight of every token on every helper, (T, N), and its slots that are served locally."""
    weights = np.zeros((problem.num_tokens, problem.num_helpers))
    rows, slots = np.nonzero(helper >= 0)
    np.add.at(weights, (rows, helper[rows, slots]), problem.gate_weights[rows, slots])
    return weights, (helper == LOCAL).sum(axis=1)


def _uniform(weights: FloatArray, bandwidth_hz: float) -> FloatArray:
    active = np.asarray(weights.any(axis=0))
    return np.where(active, bandwidth_hz / max(1, int(active.sum())), 0.0)


def _plan(
    problem: SelectionProblem,
    helper: IntArray,
    weights: FloatArray,
    *,
    outage: bool,
    started: float,
) -> SelectionPlan:
    """Skip the slots whose helper was dropped."""
    rows = np.arange(problem.num_tokens)[:, None]  # [T, 1]
    dropped = (helper >= 0) & (weights[rows, np.maximum(helper, 0)] == 0.0)  # [T, K]
    kept = np.where(dropped, NOBODY, helper)
    expert = np.where(kept == NOBODY, problem.num_experts, problem.routed_experts)
    status = Status.INFEASIBLE if outage else Status.FEASIBLE
    return finish_plan(problem, kept, expert, rescale=False, status=status, started=started)

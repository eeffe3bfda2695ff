r"""Widths by the channel alone: keeps every expert and sends fewer bits over bad links.

.. math:: \min_{b, v} \sum_n e_n\Big(\sum_t s_{b_{t,n}}\Big) + e'_n\Big(\sum_t s_{v_{t,n}}\Big)
          + \lambda \sum_{t,n} D_{b_{t,n}} + D'_{v_{t,n}}

with :math:`D_b, D'_v` the mean cost of a vector at width b to a helper, and at v back, over all
layers, experts and weights. The
baseline for a joint choice of helper, expert and width: it adapts optimally to the radio, and uses
of the model only the mean cost of few bits. Our own
(docs/explanation/theory.md, section 8).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from siftmoe.coordinator.policies.baselines.restriction import only_skips, solve_restricted
from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.selection.problem import BudgetKind
from siftmoe.coordinator.selection.profiled import channel_nats

if TYPE_CHECKING:
    from siftmoe.coordinator.selection.policy import PolicyRun
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

#: Cost of a skip relative to the narrowest vector: large, so that no reachable slot is skipped.
_NEVER = 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelWidth:
    """Keep every slot; choose widths by the channel.

    Parameters
    ----------
    nats : tuple of float, nat
        Mean cost of a vector at each of the problem's widths to helpers, ascending.
    answer_nats : tuple of float, nat
        The same of answers.
    solver : SiftMoE
    """

    budgets: ClassVar = ("price",)
    chooses_widths: ClassVar = True

    nats: tuple[float, ...] = ()
    answer_nats: tuple[float, ...] = ()
    solver: SiftMoE = field(default_factory=SiftMoE)

    def for_run(self, run: PolicyRun) -> ChannelWidth:
        """Take the costs of widths from the run's profile.

        Raises
        ------
        ValueError
            If the run leaves no width to choose.
        """
        if run.profile is None or not run.widths.chosen:
            raise ValueError("channel-width chooses widths; give it bits=auto, or the run")
        nats, answers = channel_nats(run.profile, run.widths)
        return replace(self, nats=nats, answer_nats=answers)

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Solve the price form with a deviation that depends on the width alone.

        Raises
        ------
        ValueError
            If the problem has no widths to choose from, or its budget is no price.
        """
        precision = problem.precision
        if precision is None or (len(self.nats), len(self.answer_nats)) != (
            precision.num_widths,
            precision.num_replies,
        ):
            raise ValueError(
                f"channel-width chooses from {len(self.nats)} widths to helpers and "
                f"{len(self.answer_nats)} back, and has others"
            )
        if problem.budget.kind is not BudgetKind.PRICE:
            raise ValueError("channel-width needs a price as its budget")
        experts = problem.num_experts
        own = np.repeat(np.array(self.nats)[:, None], experts, axis=1)  # [B, E]
        never = _NEVER * max(*self.nats, *self.answer_nats)
        skip = np.full_like(own, never)
        # an answer's noise is a share of a skip
        replies = replace(precision.replies, noise=np.array(self.answer_nats) / never, fitted=False)
        weightless = problem.gate_weights <= 0.0
        restricted = replace(
            problem,
            gate_weights=np.where(weightless, 0.0, 1.0),
            deviation=only_skips(keep=np.zeros(experts), skip=skip[0]),
            precision=replace(
                precision, deviation=only_skips(keep=own, skip=skip), replies=replies
            ),
            token_factor=None,
        )
        return solve_restricted(problem, restricted, solver=self.solver, rescale=True)

r"""Biases the router by the price of links: other experts are routed to, none stands in.

In the manner of cache-conditional routing (arXiv 2412.00099), which adds to the logits of experts
that are in a cache: here an expert's logit falls by the price of its cheapest link. With logits
:math:`z_{te}` (nats), the marginal energy :math:`c_e` of the cheapest host at the loads of the
other tokens, and a price :math:`\lambda` in joule per nat, a token takes the K experts with the
largest

.. math:: z_{te} - c_e / \lambda

and weighs them by the softmax of their unbiased logits, scaled to the sum of its own gate weights.
Nothing of the experts' similarity is used. The price and its form are ours.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from siftmoe.coordinator.policies.loads.hosting import keep_slots
from siftmoe.coordinator.policies.topk import finish_plan
from siftmoe.coordinator.selection.problem import NOBODY, BudgetKind, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Times that each token chooses: at the loads of those before it, then at those of all others.
_PASSES = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class RouterBias:
    """Route by the router's logits less the price of links.

    Parameters
    ----------
    keep : int
        Experts of each token that are routed to in any case, those of largest logit.
    """

    budgets: ClassVar = ("price",)
    reads_router: ClassVar = True

    keep: int = 1

    def __post_init__(self) -> None:
        if self.keep < 0 or self.keep != int(self.keep):
            raise ValueError(f"router-bias: keep must be a whole number, 0 or more: {self.keep}")

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Choose experts, and hosts for them at least energy.

        Returns
        -------
        SelectionPlan
            ``INFEASIBLE`` where fewer experts are in reach than a token has slots.

        Raises
        ------
        ValueError
            If the budget is no price, or the problem has no logits or widths to choose from.
        """
        started = time.perf_counter()
        if problem.budget.kind is not BudgetKind.PRICE:
            raise ValueError("router-bias needs a price as its budget")
        if problem.router_logits is None:
            raise ValueError(
                "router-bias needs the logits of the model's router, and this problem has none; "
                "run it on a model"
            )
        wanted = problem.gate_weights > 0.0
        expert, weight = _route(problem, problem.router_logits, keep=int(self.keep))
        served = replace(problem, routed_experts=expert % problem.num_experts, gate_weights=weight)
        helper = keep_slots(served, wanted & (expert < problem.num_experts))
        out = wanted & (helper == NOBODY)
        plan = finish_plan(
            problem,
            helper,
            np.where(helper == NOBODY, problem.num_experts, expert),
            rescale=False,
            status=Status.INFEASIBLE if out.any() else Status.FEASIBLE,
            started=started,
        )
        return replace(plan, weight=np.where(helper == NOBODY, 0.0, weight))


class _Loads:
    """Loads of helpers, and what the next token costs on each expert's cheapest host."""

    def __init__(self, problem: SelectionProblem) -> None:
        table = np.concatenate(
            (problem.energy, np.full((problem.num_helpers, 1), np.inf)), axis=1
        )  # [N, Q+2]
        with np.errstate(invalid="ignore"):  # beyond a power limit: infinite less infinite
            step = np.diff(table, axis=1)
        self._step = np.where(np.isnan(step), np.inf, step)  # [N, Q+1]
        self._rows = np.arange(problem.num_helpers)
        self._load = np.zeros(problem.num_helpers, dtype=np.int64)
        self._hosts, self._local = problem.hosts, problem.local

    def prices(self) -> tuple[FloatArray, IntArray]:
        """Price of each expert, (E,) J, 0 at home, and the host that asks it; -1 for none."""
        marginal = self._step[self._rows, self._load]  # [N]
        each = np.where(self._hosts, marginal[:, None], np.inf)  # [N, E]
        price: FloatArray = np.where(self._local, 0.0, each.min(axis=0))
        host = np.where(self._local | ~np.isfinite(price), -1, each.argmin(axis=0))
        return price, host

    def add(self, hosts: IntArray, count: int) -> None:
        """Add a token to these helpers, or remove it."""
        self._load[np.unique(hosts[hosts >= 0])] += count


def _route(
    problem: SelectionProblem, logits: FloatArray, *, keep: int
) -> tuple[IntArray, FloatArray]:
    """Experts and weights of every slot, (T, K); E where none is in reach.

    Tokens choose one after the other, and again at the loads of all others.
    """
    none, slots = problem.num_experts, problem.top_k
    expert = np.full((problem.num_tokens, slots), none, dtype=np.int64)
    first = np.argsort(-logits, axis=1, kind="stable")[:, :keep]
    loads = _Loads(problem)
    sent = np.full((problem.num_tokens, slots), -1, dtype=np.int64)
    for again in range(_PASSES):
        for t in range(problem.num_tokens):
            if again:
                loads.add(sent[t], -1)
            price, host = loads.prices()
            biased = np.where(np.isfinite(price), problem.budget.value * logits[t] - price, -np.inf)
            kept = first[t][np.isfinite(biased[first[t]])]
            biased[kept] = np.inf
            expert[t] = _in_slots(problem, t, biased)
            sent[t] = np.where(expert[t] < none, np.append(host, -1)[expert[t]], -1)
            loads.add(sent[t], 1)
    return expert, _weights(problem, logits, expert)


def _in_slots(problem: SelectionProblem, t: int, biased: FloatArray) -> IntArray:
    """Experts of a token's slots, (K,); a routed expert that is chosen again keeps its slot."""
    wanted = np.flatnonzero(problem.gate_weights[t] > 0.0)
    best = np.argsort(-biased, kind="stable")[: len(wanted)]
    chosen = best[biased[best] > -np.inf]
    routed = problem.routed_experts[t]
    others = iter(chosen[~np.isin(chosen, routed[wanted])])
    row = np.full(problem.top_k, problem.num_experts, dtype=np.int64)
    for i in wanted:
        row[i] = routed[i] if routed[i] in chosen else next(others, problem.num_experts)
    return row


def _weights(problem: SelectionProblem, logits: FloatArray, expert: IntArray) -> FloatArray:
    """Softmax of the unbiased logits over a token's experts, times the sum of its gate weights."""
    served = expert < problem.num_experts
    padded = np.pad(logits, ((0, 0), (0, 1)), constant_values=-np.inf)  # [T, E+1]
    z = np.take_along_axis(padded, expert, axis=1)  # [T, K]
    share = np.exp(z - z.max(axis=1, keepdims=True, initial=-1e300))
    share = np.where(served, share, 0.0)
    total = share.sum(axis=1, keepdims=True)
    whole = problem.gate_weights.sum(axis=1, keepdims=True)
    weights: FloatArray = np.divide(
        whole * share, total, out=np.zeros_like(share), where=total > 0.0
    )
    return weights

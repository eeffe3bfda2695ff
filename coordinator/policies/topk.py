r"""Top-K and Top-1: the routed experts serve their own slots, whatever it costs.

These baselines know no budget. The only choice left is which host serves an expert that several
helpers hold: a token pays a helper once, so its slots are covered by the helpers of least total
marginal energy (exact for one token, by a shortest path over the sets of covered slots), token
after token, until no token can improve alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled
from siftmoe.coordinator.selection import LOCAL, NOBODY, SelectionPlan, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Slots of a token whose covers are enumerated: 2**K states.
MAX_SLOTS = 12
#: Rounds of single-token improvements; each lowers the energy, and a few suffice.
_MAX_ROUNDS = 16
#: The same constants for the compiled code, which cannot read the module of selections.
_LOCAL = LOCAL
_NOBODY = NOBODY


@dataclass(frozen=True, slots=True, kw_only=True)
class TopK:
    """Keep every slot.

    Parameters
    ----------
    rescale : bool
        Multiply a kept expert's weight by ``problem.scale[i, i]``.
    """

    rescale: bool = False

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Send every slot to a host of its own expert.

        Returns
        -------
        SelectionPlan
            ``INFEASIBLE`` where an expert has no host that can be reached within its power limit;
            such slots are skipped, those that matter least first.
        """
        started = time.perf_counter()
        helper = keep_slots(problem, np.ones(problem.routed_experts.shape, dtype=np.bool_))
        expert = np.where(helper == NOBODY, problem.num_experts, problem.routed_experts)
        return finish_plan(
            problem,
            helper,
            expert,
            rescale=self.rescale,
            status=Status.INFEASIBLE if np.any(helper == NOBODY) else Status.FEASIBLE,
            started=started,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopOne:
    r"""Keep the slot with the largest gate weight.

    Parameters
    ----------
    rescale : bool
        The kept expert also stands in for the dropped slots, with the least-squares factors of
        the problem, where that is better than to skip them: its weight becomes
        :math:`g_1 \alpha_{11} + \sum_i g_i \alpha_{i1}`, at no further transmission. Without
        least-squares factors in the problem's table this changes little.
    """

    rescale: bool = False

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Send the heaviest slot of every token to a host of its expert.

        Returns
        -------
        SelectionPlan
            ``INFEASIBLE`` where that expert cannot be reached; the token is skipped then.
        """
        started = time.perf_counter()
        rows = np.arange(problem.num_tokens)
        best = problem.gate_weights.argmax(axis=1)  # [T]
        chosen = np.zeros(problem.routed_experts.shape, dtype=np.bool_)
        chosen[rows, best] = True
        helper = keep_slots(problem, chosen)
        expert = np.where(helper == NOBODY, problem.num_experts, problem.routed_experts)
        outage = helper[rows, best] == NOBODY
        if self.rescale:
            _stand_in(problem, helper, expert, best=best)
        return finish_plan(
            problem,
            helper,
            expert,
            rescale=self.rescale,
            status=Status.INFEASIBLE if outage.any() else Status.FEASIBLE,
            started=started,
        )


def _stand_in(
    problem: SelectionProblem, helper: IntArray, expert: IntArray, *, best: IntArray
) -> None:
    """Let each token's kept expert serve its dropped slots where that deviates less."""
    rows = np.arange(problem.num_tokens)
    host = helper[rows, best][:, None]  # [T, 1]
    kept = problem.routed_experts[rows, best][:, None]  # [T, 1]
    routed = problem.routed_experts
    better = problem.deviation[routed, kept] < problem.deviation[routed, problem.num_experts]
    use = better & (helper == NOBODY) & (host != NOBODY)  # [T, K]
    helper[use] = np.broadcast_to(host, use.shape)[use]
    expert[use] = np.broadcast_to(kept, use.shape)[use]


def keep_slots(problem: SelectionProblem, chosen: BoolArray) -> IntArray:
    """Find hosts for the chosen slots, each served by its own expert.

    Parameters
    ----------
    problem : SelectionProblem
    chosen : (T, K) bool
        Slots to keep.

    Returns
    -------
    (T, K) int64
        Helper of each slot, ``LOCAL``, or ``NOBODY`` if it was not chosen or no host of its
        expert has capacity left.

    Raises
    ------
    ValueError
        If a token has more than ``MAX_SLOTS`` slots.
    """
    if problem.top_k > MAX_SLOTS:
        raise ValueError(
            f"hosts of replicated experts are enumerated for at most {MAX_SLOTS} slots per "
            f"token, got {problem.top_k}"
        )
    skip = problem.deviation[:, -1][problem.routed_experts] * problem.slot_weights()  # [T, K]
    order = np.argsort(-np.where(chosen, skip, 0.0).sum(axis=1), kind="stable")
    return _assign(
        np.ascontiguousarray(problem.routed_experts, dtype=np.int64),
        np.ascontiguousarray(chosen),
        np.ascontiguousarray(problem.hosts),
        np.ascontiguousarray(problem.local),
        np.ascontiguousarray(problem.energy, dtype=np.float64),
        order,
    )


def finish_plan(
    problem: SelectionProblem,
    helper: IntArray,
    expert: IntArray,
    *,
    rescale: bool,
    status: Status,
    started: float,
) -> SelectionPlan:
    """Weights, deviation and energy of an assignment.

    Parameters
    ----------
    problem : SelectionProblem
    helper, expert : (T, K) int64
        As in ``SelectionPlan``.
    rescale : bool
        Apply ``problem.scale``.
    status : Status
    started : float, s
        ``time.perf_counter()`` at the policy's start.
    """
    routed = problem.routed_experts
    factor = problem.scale[routed, expert] if rescale else 1.0
    weight = np.where(helper == NOBODY, 0.0, problem.gate_weights * factor)
    deviation = (problem.slot_weights() * problem.deviation[routed, expert]).sum(axis=1)  # [T]
    plan = SelectionPlan(
        helper=helper,
        expert=expert,
        weight=weight,
        status=status,
        energy_j=float("nan"),
        lower_bound_j=float("nan"),
        deviation=deviation,
    )
    loads = plan.loads(problem.num_helpers)
    energy = float(problem.energy[np.arange(problem.num_helpers), loads].sum())
    return SelectionPlan(
        helper=helper,
        expert=expert,
        weight=weight,
        status=status,
        energy_j=energy,
        lower_bound_j=float("nan"),
        deviation=deviation,
        solve_s=time.perf_counter() - started,
    )


@compiled
def _cover(
    experts: IntArray,
    chosen: BoolArray,
    hosts: BoolArray,
    local: BoolArray,
    marginal: FloatArray,
    helper: IntArray,
) -> float:
    """Cheapest helpers that serve a token's chosen slots; fills ``helper``, returns their cost."""
    slots = len(experts)
    num_helpers = hosts.shape[0]
    covers = np.zeros(num_helpers, dtype=np.int64)  # bit i: helper n serves slot i
    full = 0
    for i in range(slots):
        helper[i] = _NOBODY
        if not chosen[i]:
            continue
        if local[experts[i]]:
            helper[i] = _LOCAL
            continue
        for n in range(num_helpers):
            if hosts[n, experts[i]] and np.isfinite(marginal[n]):
                covers[n] |= 1 << i
                full |= 1 << i
    if full == 0:
        return 0.0
    useful = np.flatnonzero(covers)
    cost = np.full(full + 1, np.inf)
    via = np.zeros(full + 1, dtype=np.int64)
    previous = np.zeros(full + 1, dtype=np.int64)
    cost[0] = 0.0
    for covered in range(full):  # ascending: a set is final before it is extended
        if not np.isfinite(cost[covered]):
            continue
        for m in useful:
            more = covered | covers[m]
            if cost[covered] + marginal[m] < cost[more]:
                cost[more] = cost[covered] + marginal[m]
                via[more] = m
                previous[more] = covered
    rest = full
    while rest:
        for i in range(slots):
            if (covers[via[rest]] >> i) & 1:
                helper[i] = via[rest]
        rest = previous[rest]
    return float(cost[full])


@compiled
def _shift(row: IntArray, load: IntArray, marginal: FloatArray, energy: FloatArray, by: int) -> int:
    """Add or remove a token's helpers to the loads; count its slots that nobody serves."""
    nobody = 0
    for i in range(len(row)):
        n = row[i]
        if n == _NOBODY:
            nobody += 1
        if n < 0 or n in row[:i]:
            continue
        load[n] += by
        marginal[n] = energy[n, load[n] + 1] - energy[n, load[n]]
    return nobody


@compiled
def _assign(
    experts: IntArray,
    chosen: BoolArray,
    hosts: BoolArray,
    local: BoolArray,
    energy: FloatArray,
    order: IntArray,
) -> IntArray:
    """Insert tokens in order, then let each improve alone until none can."""
    tokens, slots = experts.shape
    load = np.zeros(hosts.shape[0], dtype=np.int64)
    table = np.concatenate((energy, np.full((len(energy), 1), np.inf)), axis=1)  # [N, Q+2]
    marginal = table[:, 1] - table[:, 0]
    helper = np.full((tokens, slots), _NOBODY, dtype=np.int64)
    row = np.empty(slots, dtype=np.int64)
    for t in order:
        _cover(experts[t], chosen[t], hosts, local, marginal, helper[t])
        _shift(helper[t], load, marginal, table, 1)
    for _ in range(_MAX_ROUNDS):
        changed = False
        for t in order:
            nobody = _shift(helper[t], load, marginal, table, -1)
            before = 0.0
            for i in range(slots):
                n = helper[t, i]
                if n >= 0 and n not in helper[t, :i]:
                    before += marginal[n]
            after = _cover(experts[t], chosen[t], hosts, local, marginal, row)
            fewer = (row == _NOBODY).sum() < nobody
            if fewer or after < before * (1.0 - 1e-12):
                helper[t] = row
                changed = True
            _shift(helper[t], load, marginal, table, 1)
        if not changed:
            break
    return helper

r"""Chooses the host of an expert that several helpers hold.

A token pays a helper once, so its slots are covered by the helpers of least total marginal
energy: exact for one token, by a shortest path over the sets of covered slots. Tokens are
inserted one after the other, those that lose most by a skip first, and then improve alone until
none can; every such move lowers the energy, so this ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled
from siftmoe.coordinator.selection.problem import LOCAL, NOBODY

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Slots of a token whose covers are enumerated: 2**K states.
MAX_SLOTS = 12
#: Rounds of single-token improvements; a few suffice, this many end in any case.
_MAX_ROUNDS = 16


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
    if problem.precision is not None:
        raise ValueError("this policy chooses no widths; give it one for all vectors")
    weights = problem.slot_weights()
    skip = weights * problem.deviation[problem.routed_experts, -1]  # [T, K]
    loss = np.where(np.isfinite(skip), skip, weights)  # by weight where no deviation is known
    order = np.argsort(-np.where(chosen, loss, 0.0).sum(axis=1), kind="stable")
    return _assign(
        np.ascontiguousarray(problem.routed_experts, dtype=np.int64),
        np.ascontiguousarray(chosen),
        np.ascontiguousarray(problem.hosts),
        np.ascontiguousarray(problem.local),
        np.ascontiguousarray(problem.energy, dtype=np.float64),
        order,
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
        helper[i] = NOBODY
        if not chosen[i]:
            continue
        if local[experts[i]]:
            helper[i] = LOCAL
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
        if n == NOBODY:
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
    helper = np.full((tokens, slots), NOBODY, dtype=np.int64)
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
            fewer = (row == NOBODY).sum() < nobody
            if fewer or after < before * (1.0 - 1e-12):
                helper[t] = row
                changed = True
            _shift(helper[t], load, marginal, table, 1)
        if not changed:
            break
    return helper

r"""All helper sets worth considering, listed: the minimal feasible sets of every token.

A set is worth considering only if no member can be left out, since energy does not fall with
load. Where a budget leaves a token few such sets (with two slots usually under ten), best
response, the search around it and the dual are scans of short lists. Tokens with the same sets
form a group; the dual and the exact closing work on groups. docs/explanation/theory.md, section
2.2.

A list of sets is ``helper`` (C, K), padded with N, whose row in a table of costs is zero, and
``start`` (G+1,): the sets of group g are rows ``start[g]:start[g+1]``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    IndexArray = NDArray[np.int32]
    BoolArray = NDArray[np.bool_]
    WordArray = NDArray[np.uint64]

#: Sets listed per problem at most; beyond, they are searched for as prices ask.
MOST_SETS = 1_000_000
#: Steps of the listing per set that it may list: more, and an exact search per token is quicker.
_STEPS_PER_SET = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Minimal feasible sets, by group of tokens that share them.

    Parameters
    ----------
    start : (G+1,) int64
    helper : (C, K) int32
        Members, padded with N.
    group : (M,) int64
        Group of each listed token.
    size : (G,) int64
        Tokens per group.
    """

    start: IntArray
    helper: IndexArray
    group: IntArray
    size: IntArray


def list_columns(
    *,
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    reachable: BoolArray,
    cap: FloatArray,
    most: int = MOST_SETS,
) -> Columns | None:
    """List the minimal feasible sets of tokens that need a helper, or None if there are too many.

    Arguments are those of ``cover``; every token must have a feasible set and need one.
    """
    if routed.shape[1] == 2:
        order = np.argsort(np.where(reachable, served, np.inf), axis=1)  # [E, N]
        order = plain(order[:, : int(reachable.sum())], np.int64)
        start, helper = _minimal_pairs(routed, weights, served, base, order, cap, most)
    else:
        start, helper = _minimal_sets(
            routed, weights, served, base, np.flatnonzero(reachable), cap, most
        )
    if start[-1] > most:
        return None
    return _grouped(start, helper)


def _grouped(start: IntArray, helper: IndexArray) -> Columns:
    """Merge tokens that have the same sets."""
    keys = _fingerprints(start, helper)  # [M, 3]
    as_one = np.ascontiguousarray(keys).view([("", keys.dtype)] * 3)[:, 0]
    _, first, group, size = np.unique(
        as_one, return_index=True, return_inverse=True, return_counts=True
    )
    if first.size == group.size:
        return Columns(start=start, helper=helper, group=np.arange(group.size), size=size)
    length = start[first + 1] - start[first]  # [G]
    merged = np.concatenate([[0], np.cumsum(length)])
    rows = np.repeat(start[first] - merged[:-1], length) + np.arange(merged[-1])  # [C]
    return Columns(start=merged, helper=helper[rows], group=group, size=size)


@compiled
def _fingerprints(start: IntArray, helper: IndexArray) -> WordArray:
    """Two independent 64-bit sums of hashed sets, and their number: equal for equal lists."""
    keys = np.zeros((start.size - 1, 3), np.uint64)
    for t in range(start.size - 1):
        keys[t, 2] = np.uint64(start[t + 1] - start[t])
        for k in range(start[t], start[t + 1]):
            a, b = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
            for n in helper[k]:
                a = (a ^ np.uint64(n + 1)) * np.uint64(0xBF58476D1CE4E5B9)
                a ^= a >> np.uint64(29)
                b = (b + np.uint64(n + 1)) * np.uint64(0x94D049BB133111EB)
                b ^= b >> np.uint64(31)
            keys[t, 0] += a * np.uint64(0xFF51AFD7ED558CCD)
            keys[t, 1] += b * np.uint64(0xC4CEB9FE1A85EC53)
    return keys


@compiled
def _minimal_pairs(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    order: IntArray,
    cap: FloatArray,
    most: int,
) -> tuple[IntArray, IndexArray]:
    """List single helpers and pairs; ``order`` (E, reachable) is by ascending ``served``.

    Walking both slots' helpers in ascending deviation visits feasible pairs only.
    """
    tokens, (reach, helpers) = routed.shape[0], (order.shape[1], served.shape[1])
    start = np.zeros(tokens + 1, np.int64)
    helper = np.empty((most + reach * reach + reach, 2), np.int32)
    alone = np.empty(helpers, np.bool_)
    count = 0
    for t in range(tokens):
        a, b = routed[t]
        u, v = weights[t]
        for n in order[a]:
            alone[n] = u * served[a, n] + v * served[b, n] <= cap[t]
            if alone[n]:
                helper[count] = n, helpers
                count += 1
        for n in order[a]:
            room = cap[t] - u * served[a, n]
            if room < v * served[b, order[b, 0]]:
                break
            if alone[n]:
                continue
            for m in order[b]:
                if v * served[b, m] > room:
                    break
                turned = u * served[a, m] + v * served[b, n] <= cap[t]
                if not alone[m] and (n < m or not turned):
                    helper[count] = min(n, m), max(n, m)
                    count += 1
        start[t + 1] = count
        if count > most:
            start[-1] = count
            break
    return start, helper[:count].copy()


@compiled
def _minimal_sets(
    routed: IntArray,
    weights: FloatArray,
    served: FloatArray,
    base: FloatArray,
    reachable: IntArray,
    cap: FloatArray,
    most: int,
) -> tuple[IntArray, IndexArray]:
    """List sets of any size by depth-first search over ascending helpers.

    A branch ends where not even all later helpers together reach the cap; a feasible set is
    not extended, and is listed if no member can be left out.
    """
    (tokens, slots), (reach, helpers) = routed.shape, (reachable.size, served.shape[1])
    start = np.zeros(tokens + 1, np.int64)
    helper = np.empty((most + 1, slots), np.int32)
    d, ahead = np.empty((reach, slots)), np.empty((reach + 1, slots))
    cur, at = np.empty((slots + 1, slots)), np.empty(slots + 1, np.int64)
    count = 0
    steps = 0
    for t in range(tokens):
        for i in range(slots):
            cur[0, i] = ahead[reach, i] = weights[t, i] * base[routed[t, i]]
            for k in range(reach - 1, -1, -1):
                d[k, i] = weights[t, i] * served[routed[t, i], reachable[k]]
                ahead[k, i] = min(ahead[k + 1, i], d[k, i])
        depth = 0
        at[0] = -1
        while depth >= 0:
            at[depth] += 1
            steps += 1
            k = at[depth]
            hope = 0.0
            total = 0.0
            if k < reach:
                for i in range(slots):
                    hope += min(cur[depth, i], ahead[k, i])
            if k >= reach or hope > cap[t]:
                depth -= 1
                continue
            for i in range(slots):
                cur[depth + 1, i] = min(cur[depth, i], d[k, i])
                total += cur[depth + 1, i]
            if total > cap[t]:
                if depth + 1 < slots:
                    at[depth + 1] = k
                    depth += 1
            elif _is_minimal(d, cur[0], at[: depth + 1], cap[t]):
                helper[count] = helpers
                for j in range(depth + 1):
                    helper[count, j] = reachable[at[j]]
                count += 1
            share = most * (t + 32) / (tokens + 32)  # give up early where it will be too much
            if count > share or steps > _STEPS_PER_SET * share:
                start[-1] = most + 1
                return start, helper[:0].copy()
        start[t + 1] = count
    return start, helper[:count].copy()


@compiled
def _is_minimal(d: FloatArray, base: FloatArray, members: IntArray, cap: float) -> bool:
    for leave in range(members.size):
        total = 0.0
        for i in range(base.size):
            least = base[i]
            for j in range(members.size):
                if j != leave:
                    least = min(least, d[members[j], i])
            total += least
        if total <= cap:
            return False
    return True

r"""One slot per token: the exact least-energy assignment, by augmenting paths.

A token t can be served by :math:`A_t = \{n : d_{t,n} \le \epsilon\}`. Tokens of equal sets form
a group, so with :math:`x_{g,n}` tokens of group g on helper n the problem is a transportation
problem with a convex cost on each helper's load. Tokens are inserted one at a time: a
breadth-first search over the exchange graph (a -> b if some group has a token on a and may use
b) finds the helpers that a chain of reassignments can load, and the one of least
:math:`e_n(q_n + 1) - e_n(q_n)` takes the extra token. All costs stand on the last arc, so these
are successive shortest paths, which keep a flow of least cost for its value; a token without a
path never gets one later, so as many tokens are served as can be. Our derivation;
docs/explanation/theory.md, section 2.1.

Helper sets are rows of 64-bit words, so there is no limit on N.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]
    WordArray = NDArray[np.uint64]

_ONE = np.uint64(1)
#: A de Bruijn word: its product with 1 << k has a different top six bits for every k.
_DE_BRUIJN = np.uint64(0x03F79D71B4CB0A89)
_BIT_OF = np.array(
    [k for _, k in sorted((((0x03F79D71B4CB0A89 << k) % 2**64) >> 58, k) for k in range(64))]
)


def group_by_reach(
    *, expert: IntArray, weight: FloatArray, served: FloatArray, reachable: BoolArray, cap: float
) -> tuple[IntArray, BoolArray]:
    r"""Group tokens by the helpers that can serve them within the cap.

    The condition is :math:`F \le \epsilon / g`: the sets of one expert are nested in the gate
    weight, so a token's group is its expert and how many helpers its weight admits.

    Parameters
    ----------
    expert, weight : (T,) int64 and float64
        The token's only slot.
    served : (E, N) float64
        Of ``HelperTables``.
    reachable : (N,) bool
    cap : float
        Largest deviation, rounding slack included.

    Returns
    -------
    group : (T,) int64
        Index into ``allowed``.
    allowed : (G, N) bool
        Distinct helper sets.
    """
    helpers = served.shape[1]
    ordered = np.sort(np.where(reachable, served, np.inf), axis=1)  # [E, N]
    key = _admitted(expert, weight, ordered, cap) + expert * (helpers + 1)  # [T]
    present = np.bincount(key, minlength=served.shape[0] * (helpers + 1)) > 0
    keys = np.flatnonzero(present)
    rank = np.cumsum(present) - 1
    count, of = keys % (helpers + 1), keys // (helpers + 1)
    limit = np.where(count > 0, ordered[of, count - 1], -1.0)  # [G]
    return rank[key], reachable & (served[of] <= limit[:, None])


@compiled
def _admitted(expert: IntArray, weight: FloatArray, ordered: FloatArray, cap: float) -> IntArray:
    """How many helpers can serve each token, by binary search in ascending deviations."""
    count = np.zeros(expert.size, np.int64)
    for t in range(expert.size):
        low, high = 0, ordered.shape[1]
        while low < high:
            middle = (low + high) // 2
            value = ordered[expert[t], middle]
            within = value < np.inf and weight[t] * value <= cap
            low, high = (middle + 1, high) if within else (low, middle)
        count[t] = low
    return count


def pack_sets(member: BoolArray) -> WordArray:
    """Membership (G, N) as bits, (G, ceil(N / 64)); helper n is bit n % 64 of word n // 64."""
    groups, helpers = member.shape
    padded = np.zeros((groups, -(-helpers // 64) * 64), dtype=bool)
    padded[:, :helpers] = member
    words = np.packbits(padded, axis=1, bitorder="little").view(np.dtype("<u8"))
    return np.ascontiguousarray(words.astype(np.uint64))


@compiled
def _search(
    source: WordArray,
    exchange: WordArray,
    loads: IntArray,
    marginal: FloatArray,
    parent: IntArray,
    queue: IntArray,
) -> int:
    """Find the helper of least marginal energy that a path from ``source`` reaches, or -1.

    ``exchange[a]`` are the helpers to which some token on a could move.
    """
    words = source.size
    head = tail = 0
    best = np.inf
    end = -1
    unseen = np.empty(words, np.uint64)
    for w in range(words):
        unseen[w] = ~np.uint64(0)
    at = -1
    while True:
        for w in range(words):
            fresh = (source[w] if at < 0 else exchange[at, w]) & unseen[w]
            unseen[w] &= ~fresh
            while fresh:
                lowest = fresh & (~fresh + _ONE)
                fresh ^= lowest
                n = 64 * w + _BIT_OF[(lowest * _DE_BRUIJN) >> np.uint64(58)]
                parent[n] = at
                queue[tail] = n
                tail += 1
                if marginal[n, loads[n]] < best:
                    best = marginal[n, loads[n]]
                    end = n
        if head == tail:
            return end
        at = queue[head]
        head += 1


@compiled
def _refresh(exchange: WordArray, assigned: IntArray, allowed: WordArray, n: int) -> None:
    """Recompute where the tokens on helper n could go."""
    exchange[n] = 0
    for g in range(allowed.shape[0]):
        if assigned[n, g] > 0:
            for w in range(allowed.shape[1]):
                exchange[n, w] |= allowed[g, w]


@compiled
def _can_use(allowed: WordArray, g: int, n: int) -> bool:
    bit: bool = (allowed[g, n // 64] >> np.uint64(n % 64)) & _ONE != 0
    return bit


@compiled
def assign_groups(
    group: IntArray, allowed: WordArray, marginal: FloatArray, order: IntArray
) -> tuple[IntArray, IntArray, BoolArray]:
    """Insert tokens in ``order`` along augmenting paths.

    Parameters
    ----------
    group : (T,) int64
        Group of each token.
    allowed : (G, words) uint64
        Helpers that serve the group, as bits.
    marginal : (N, Q) float64, J
        Energy of one more token, infinite where a helper is full; Q > T.
    order : (M,) int64
        Tokens to insert, the most important first.

    Returns
    -------
    assigned : (N, G) int64
        Tokens of a group on a helper.
    loads : (N,) int64
    placed : (T,) bool
        Which tokens are served.
    """
    helpers, words = marginal.shape[0], allowed.shape[1]
    assigned = np.zeros((helpers, allowed.shape[0]), np.int64)
    loads = np.zeros(helpers, np.int64)
    placed = np.zeros(group.size, np.bool_)
    exchange = np.zeros((helpers, words), np.uint64)
    parent, queue = np.empty(helpers, np.int64), np.empty(helpers, np.int64)
    for t in order:
        n = _search(allowed[group[t]], exchange, loads, marginal, parent, queue)
        if n < 0:
            continue
        placed[t] = True
        loads[n] += 1
        while True:  # walk back: the token before on the path moves one helper on
            before = parent[n]
            mover = group[t]
            if before >= 0:
                mover = 0
                while assigned[before, mover] == 0 or not _can_use(allowed, mover, n):
                    mover += 1
            assigned[n, mover] += 1
            for w in range(words):
                exchange[n, w] |= allowed[mover, w]
            if before < 0:
                break
            assigned[before, mover] -= 1
            if assigned[before, mover] == 0:
                _refresh(exchange, assigned, allowed, before)
            n = before
    return assigned, loads, placed


@compiled
def hand_out(group: IntArray, assigned: IntArray, placed: BoolArray) -> IntArray:
    """Give each placed token one of its group's places: helper (T,), -1 for none."""
    helper = np.full(group.size, -1, np.int64)
    left = assigned.copy()
    at = np.zeros(assigned.shape[1], np.int64)
    for t in range(group.size):
        if placed[t]:
            g = group[t]
            while left[at[g], g] == 0:
                at[g] += 1
            left[at[g], g] -= 1
            helper[t] = at[g]
    return helper

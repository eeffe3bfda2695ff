"""What a plan sends in a band that all helpers share: requests, answers, who hears them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled
from siftmoe.coordinator.energy.one_band import by_link

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.medium import Medium
    from siftmoe.coordinator.energy.one_band import OneBand
    from siftmoe.coordinator.selection.problem import SelectionPlan

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


def requests(medium: Medium, plan: SelectionPlan) -> tuple[IntArray, IntArray, IntArray]:
    """Transmissions of a plan's requests: token, the helper they are made for, and width.

    Raises
    ------
    ValueError
        If a token is broadcast at several widths: all hear the same vector.
    """
    token, helper, width, mixed = vectors(
        np.ascontiguousarray(plan.helper),
        np.ascontiguousarray(plan.width),
        medium.up.noise_w,
        medium.broadcast,
    )
    if mixed >= 0:
        raise ValueError(
            f"a plan broadcasts token {mixed} at several widths; one vector has one width for "
            f"all who hear it"
        )
    return token, helper, width


def answers(medium: Medium, plan: SelectionPlan) -> tuple[IntArray, IntArray, IntArray]:
    """Answers to a plan: token, helper and width."""
    only = next(iter(medium.reply_bits))
    reply = np.full_like(plan.helper, only) if plan.reply_width is None else plan.reply_width
    token, helper, width, _ = vectors(
        np.ascontiguousarray(plan.helper),
        np.ascontiguousarray(reply),
        medium.up.noise_w,
        False,
    )
    return token, helper, width


def heard(medium: Medium, plan: SelectionPlan) -> list[list[int]]:
    """Helpers that hear each token, ascending."""
    sets: list[list[int]] = [[] for _ in plan.helper]
    for token, helper, _ in zip(*requests(medium, plan), strict=True):
        if medium.broadcast:
            within = medium.up.noise_w <= medium.up.noise_w[helper]
            sets[token] = np.flatnonzero(within).tolist()
        else:
            sets[token].append(int(helper))
    return sets


def payloads(medium: Medium, plan: SelectionPlan) -> tuple[FloatArray, FloatArray]:
    """Bits of a plan over each link, up and down, (N,) each."""
    return (
        _bits_by_link(medium, requests(medium, plan), medium.bits),
        _bits_by_link(medium, answers(medium, plan), medium.reply_bits),
    )


def _bits_by_link(
    medium: Medium, sent: tuple[IntArray, IntArray, IntArray], sizes: dict[int, float]
) -> FloatArray:
    _, helper, width = sent
    return by_link(helper, vector_bits(width, sizes), medium.num_helpers)


def priced_energy(medium: Medium, plan: SelectionPlan) -> float:
    """Priced energy of a plan, J; infinite where it does not fit its windows."""
    total = _band_energy(medium, medium.up, requests(medium, plan), medium.bits)
    if medium.down is not None:
        total += _band_energy(medium, medium.down, answers(medium, plan), medium.reply_bits)
    return total


def _band_energy(
    medium: Medium,
    band: OneBand,
    sent: tuple[IntArray, IntArray, IntArray],
    sizes: dict[int, float],
) -> float:
    if not medium.apart:
        return band.price * band.divide(_bits_by_link(medium, sent, sizes)).energy_j
    token, helper, width = sent
    return band.price * band.divide_each(token, helper, vector_bits(width, sizes)).energy_j


def vector_bits(width: IntArray, sizes: dict[int, float]) -> FloatArray:
    """Bits of vectors of these widths, (m,).

    Raises
    ------
    ValueError
        If one has a width without a size.
    """
    at = np.searchsorted(list(sizes), width)
    if not np.array_equal(np.append(list(sizes), 0)[at], width):
        raise ValueError(f"a plan sends vectors of {np.unique(width)} bits, not {[*sizes]}")
    bits: FloatArray = np.append(list(sizes.values()), 0.0)[at]
    return bits


@compiled
def vectors(
    helper: IntArray, width: IntArray, noise_w: FloatArray, worst_only: bool
) -> tuple[IntArray, IntArray, IntArray, int]:
    """Vectors of a plan: token, helper and width of each; a token goes to a helper once at a width.

    ``worst_only``: of each token that to its worst link. Returns last the first token that this
    leaves at several widths, or -1.
    """
    tokens, slots = helper.shape
    found = np.empty((3, tokens * slots), np.int64)
    size, mixed = 0, -1
    for t in range(tokens):
        first = size
        for i in range(slots):
            n, b = helper[t, i], width[t, i]
            if n < 0:
                continue
            if worst_only and size > first:
                if b != found[2, first] and mixed < 0:
                    mixed = t
                if noise_w[n] > noise_w[found[1, first]]:
                    found[1, first] = n
                continue
            known = False
            for j in range(first, size):
                known = known or (found[1, j] == n and found[2, j] == b)
            if not known:
                found[0, size], found[1, size], found[2, size] = t, n, b
                size += 1
    return found[0, :size].copy(), found[1, :size].copy(), found[2, :size].copy(), mixed

"""Sampling of helpers' rows for a second computation by a replica or by the user's device.

A check is one more row of the replica's ordinary request: it costs no round trip, and neither side
can tell it from a row of the plan. One row in N is checked, which costs 1/N of the rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.selection.problem import LOCAL, NOBODY
from siftmoe.models.vectors.packing import row_bits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionPlan

    Float32Array = NDArray[np.float32]
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Rows of which one is checked: 0.8% of the rows are computed twice.
ONE_IN: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Check:
    """A helper's row for one token, computed a second time.

    Parameters
    ----------
    token : int
    suspect : int
        The helper whose row it is.
    replica : int
        The helper that computes it again; ``LOCAL``: the user's device.
    expert, weight : (p,)
        What the row sums up.
    width, reply_width : int, bit
        Of the vector that both get, and of their answers.
    """

    token: int
    suspect: int
    replica: int
    expert: IntArray
    weight: FloatArray
    width: int
    reply_width: int


class Sampler:
    """Draws rows at random, so that no helper can foresee which.

    Parameters
    ----------
    one_in : int
        Mean number of rows of which one is drawn.
    rng : np.random.Generator
    """

    def __init__(self, one_in: int, rng: np.random.Generator) -> None:
        if one_in < 1:
            raise ValueError(f"one_in must be at least 1, got {one_in}")
        self._one_in, self._rng = one_in, rng
        self._gap = int(rng.geometric(1.0 / one_in)) - 1  # rows until the next one

    def draw(self, count: int) -> list[int]:
        """Return which of the next ``count`` rows are drawn."""
        found = []
        while self._gap < count:
            found.append(self._gap)
            self._gap += int(self._rng.geometric(1.0 / self._one_in))
        self._gap -= count
        return found

    def choose(
        self,
        plan: SelectionPlan,
        hosts: Callable[[], BoolArray],
        *,
        local: bool,
        reply_width: int,
    ) -> list[Check]:
        """Choose the checks of a layer.

        Parameters
        ----------
        plan : SelectionPlan
        hosts : callable
            Returns which helper may compute which expert again, (N, E).
        local : bool
            Whether the user's device can compute rows; it is then preferred.
        reply_width : int, bit
            Of the answers, where the plan does not choose it.

        Returns
        -------
        list of Check
            Of the drawn rows, those that somebody can compute again.
        """
        sent = np.flatnonzero(plan.helper >= 0)
        drawn = self.draw(len(sent))
        if not drawn:
            return []
        able = hosts()
        checks: dict[tuple[int, int], Check] = {}
        for i in drawn:
            token, slot = divmod(int(sent[i]), plan.helper.shape[1])
            suspect = int(plan.helper[token, slot])
            mine = plan.helper[token] == suspect
            replicas = self.replicas(able, plan.expert[token, mine], but={suspect})
            if not (local or replicas):
                continue
            checks[token, suspect] = Check(
                token=token,
                suspect=suspect,
                replica=LOCAL if local else replicas[0],
                expert=plan.expert[token, mine],
                weight=plan.weight[token, mine],
                width=int(plan.width[token, slot]),
                reply_width=(
                    reply_width if plan.reply_width is None else int(plan.reply_width[token, slot])
                ),
            )
        return list(checks.values())

    def replicas(self, hosts: BoolArray, expert: IntArray, *, but: Iterable[int]) -> list[int]:
        """Helpers that host all of these experts, in random order."""
        able: BoolArray = np.all(hosts[:, expert], axis=1)
        able[list(but)] = False
        return [int(n) for n in self._rng.permutation(np.flatnonzero(able))]


def check_bits(checks: list[Check], size: int) -> dict[int, tuple[int, int]]:
    """Bits that checks add to each replica's request and reply, for vectors of ``size`` entries."""
    bits: dict[int, tuple[int, int]] = {}
    for check in checks:
        if check.replica != LOCAL:
            up, down = bits.get(check.replica, (0, 0))
            more = row_bits(size, check.width), row_bits(size, check.reply_width)
            bits[check.replica] = (up + more[0], down + more[1])
    return bits


def with_checks(
    plan: SelectionPlan, hidden: Float32Array, checks: list[Check]
) -> tuple[SelectionPlan, Float32Array]:
    """Append a row for each check to a plan and its hidden states.

    Row T + i is that of the i-th check; a check by the user's device has an empty one.
    """
    if not checks:
        return plan, hidden
    more, rows = only_checks(plan, hidden, checks)
    return replace(
        plan,
        helper=np.concatenate((plan.helper, more.helper)),
        expert=np.concatenate((plan.expert, more.expert)),
        weight=np.concatenate((plan.weight, more.weight)),
        width=np.concatenate((plan.width, more.width)),
        reply_width=(
            None
            if plan.reply_width is None or more.reply_width is None
            else np.concatenate((plan.reply_width, more.reply_width))
        ),
    ), np.concatenate((hidden, rows))


def only_checks(
    plan: SelectionPlan, hidden: Float32Array, checks: list[Check]
) -> tuple[SelectionPlan, Float32Array]:
    """Return the rows of some checks as a plan of their own, and their hidden states."""
    shape = (len(checks), plan.helper.shape[1])
    helper, expert = np.full(shape, NOBODY), np.zeros(shape, np.int64)
    weight, width, reply = np.zeros(shape), np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for i, check in enumerate(checks):
        if check.replica == LOCAL:
            continue
        count = len(check.expert)
        helper[i, :count], expert[i, :count] = check.replica, check.expert
        weight[i, :count], width[i, :count] = check.weight, check.width
        reply[i, :count] = check.reply_width
    tokens = [check.token for check in checks]
    replies = None if plan.reply_width is None else reply
    more = replace(
        plan, helper=helper, expert=expert, weight=weight, width=width, reply_width=replies
    )
    return more, hidden[tokens]

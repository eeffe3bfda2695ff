r"""Near-optimal loads over listed helper sets, with a certificate and an exact closing.

Best response from the least flexible token on; a second start at the certificate's prices;
iterated local search; cutting planes; and an integer program over what is left, as far as
``Effort`` asks for them. docs/explanation/theory.md, section 2.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.batch.exchange import exchange
from siftmoe.coordinator.policies.batch.search import cheapest_rows, settle, shake
from siftmoe.coordinator.policies.certificates.certify import tighten_if_asked
from siftmoe.coordinator.policies.certificates.dual import Certificate, ascend

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.certificates.columns import Columns
    from siftmoe.coordinator.policies.loads.effort import Effort
    from siftmoe.coordinator.policies.loads.model import LoadModel

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Rounds of local search to repair exceeded capacities before the integer program.
_MENDING_ROUNDS = 300
#: Time limit of that program in seconds.
_MENDING_S = 5.0
#: Times that best response follows exchanges at full helpers.
_MOST_EXCHANGES = 20
#: Rounds of local search between two looks at the gap.
_ROUNDS_AT_ONCE = 200


@dataclass(slots=True, kw_only=True)
class _Assignment:
    """Which row each token uses, and the loads (N+1,) that follow."""

    choice: IntArray
    loads: IntArray

    def take(self, other: _Assignment) -> None:
        self.choice, self.loads = other.choice, other.loads


class ListedSearch:
    """Search over one list of columns.

    Parameters
    ----------
    columns, model, effort
        Options, their costs, and limits of the search.
    """

    def __init__(self, columns: Columns, model: LoadModel, effort: Effort) -> None:
        self._columns, self._model, self._effort = columns, model, effort
        self._marginal, self._total = model.with_overflow()
        self._random = np.random.default_rng(effort.seed).integers(1, 2**63, 1, dtype=np.uint64)
        self._helpers = model.capacity.size
        self._now = self._start_empty()

    def solve(self) -> tuple[IntArray, float]:
        """Rows of ``Columns.helper`` (M,), and the lower bound.

        The bound is NaN if none was asked for, and infinite if no assignment keeps the
        capacities; the rows then exceed them as little as was found.
        """
        if self._exceeds() and not self._mend():
            return self._now.choice, float("inf")
        self._exchange()
        if not self._effort.certificate:
            self._shake(self._effort.rounds)
            self._exchange()
            return self._now.choice, float("nan")
        certificate = self._ascend()
        self._restart(certificate)
        self._search(certificate)
        certificate = tighten_if_asked(
            self._demand,
            self._model,
            certificate,
            scale=self._scale(),
            upper=self._energy(),
            effort=self._effort,
        )
        bound = certificate.bound
        if self._gap(certificate) > self._effort.tolerance and self._effort.closing_s:
            bound = self._close(certificate)
        return self._now.choice, bound

    def _assign(self, choice: IntArray) -> _Assignment:
        members = self._columns.helper[choice]  # [M, K]
        loads = np.bincount(members.ravel(), minlength=self._helpers + 1)
        loads[-1] = 0
        return _Assignment(choice=choice.copy(), loads=loads)

    def _start_empty(self) -> _Assignment:
        tokens = self._columns.group.size
        empty = _Assignment(
            choice=np.full(tokens, -1, dtype=np.int64),
            loads=np.zeros(self._helpers + 1, dtype=np.int64),
        )
        return self._settle(empty)

    def _settle(self, assignment: _Assignment) -> _Assignment:
        columns = self._columns
        flexibility = np.diff(columns.start)[columns.group]
        settle(
            columns.start,
            columns.helper,
            columns.group,
            self._marginal,
            np.argsort(flexibility, kind="stable"),
            assignment.choice,
            assignment.loads,
        )
        return assignment

    def _energy(self, assignment: _Assignment | None = None) -> float:
        loads = (assignment or self._now).loads[:-1]
        return float(self._total[np.arange(self._helpers), loads].sum())

    def _exceeds(self) -> bool:
        return bool(np.any(self._now.loads[:-1] > self._model.capacity))

    def _keep_better(self, candidate: _Assignment) -> None:
        if self._energy(candidate) < self._energy():
            self._now.take(candidate)

    def _mend(self) -> bool:
        """Bring the loads within the capacities; False if that is impossible or did not succeed."""
        self._shake(_MENDING_ROUNDS)
        if not self._exceeds():
            return True
        from siftmoe.coordinator.policies.certificates.closing import least_overflow

        choice, _ = least_overflow(self._columns, self._model, time_limit_s=_MENDING_S)
        if choice is not None:
            self._keep_better(self._settle(self._assign(choice)))
        return not self._exceeds()

    def _exchange(self) -> None:
        """Let tokens change places at full helpers, and respond to that, until none does."""
        columns, now = self._columns, self._now
        at = (columns.start, columns.helper, columns.group, self._marginal)
        for _ in range(_MOST_EXCHANGES):
            if not exchange(*at, self._total, self._model.capacity, now.choice, now.loads):
                return
            self._settle(now)

    def _shake(self, rounds: int) -> None:
        columns = self._columns
        if rounds and columns.group.size:
            shake(
                columns.start,
                columns.helper,
                columns.group,
                self._marginal,
                self._total,
                self._now.choice,
                self._now.loads,
                rounds,
                self._random,
            )

    def _scale(self) -> FloatArray:
        """Marginal energies around the current loads, the unit of each price, (N,)."""
        at, loads = np.arange(self._helpers), self._now.loads[:-1]
        below = self._marginal[at, np.maximum(loads - 1, 0)]
        return (below + self._marginal[at, loads]) / 2

    def _demand(self, prices: FloatArray) -> tuple[float, FloatArray]:
        columns = self._columns
        cost = np.append(prices, 0.0)
        rows = cheapest_rows(columns.start, columns.helper, cost)
        members = columns.helper[rows]  # [G, K]
        value = float(columns.size @ cost[members].sum(axis=1))
        times = np.repeat(columns.size, members.shape[1])
        demand = np.bincount(members.ravel(), weights=times, minlength=prices.size + 1)
        return value, demand[:-1].astype(np.float64)

    def _ascend(self) -> Certificate:
        scale = self._scale()
        return ascend(
            self._demand,
            self._model,
            scale,
            scale=scale,
            upper=self._energy(),
            steps=self._effort.steps,
            tolerance=self._effort.tolerance,
        )

    def _gap(self, certificate: Certificate) -> float:
        return certificate.gap(self._energy())

    def _restart(self, certificate: Certificate) -> None:
        """Start once more from the sets that are cheapest at the certificate's prices."""
        columns = self._columns
        rows = cheapest_rows(columns.start, columns.helper, np.append(certificate.prices, 0.0))
        self._keep_better(self._settle(self._assign(rows[columns.group])))

    def _search(self, certificate: Certificate) -> None:
        """Local search in portions, until the certificate's gap is within the tolerance."""
        left = self._effort.rounds
        while left and self._gap(certificate) > self._effort.tolerance:
            portion = min(left, _ROUNDS_AT_ONCE)
            self._shake(portion)
            left -= portion

    def _close(self, certificate: Certificate) -> float:
        from siftmoe.coordinator.policies.certificates.closing import close_gap

        closing = close_gap(
            self._columns,
            self._model,
            certificate,
            upper=self._energy(),
            time_limit_s=self._effort.closing_s,
        )
        if closing.choice is not None:
            self._keep_better(self._settle(self._assign(closing.choice)))
        return closing.bound

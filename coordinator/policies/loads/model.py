r"""Load model: the energy table :math:`e_n(q)` as the policies use it.

All that the algorithms need is that :math:`e_n` is convex, nondecreasing, zero at zero, and
finite up to a capacity :math:`Q_n`; so any energy model that keeps this can stand behind it.
docs/explanation/theory.md, sections 0 and 2.4.

Tokens choose between *ways* to send them. A way draws on D rows of the table, its *resources*, and
a token occupies a number of columns of each, the way's *units*. Where all vectors have one width,
ways and resources are the helpers and a token is one unit; where widths are chosen a way draws on
its helper's requests and answers, see ``siftmoe.coordinator.selection.precision``. Ways that draw
on the same rows lie side by side and are a *group*.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: How far below its predecessor a marginal may lie, as a share of the energy so far.
_CONVEXITY_SLACK = 1e-9
#: How far marginals may differ, as a share, and still count as equal.
_LINEARITY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    r"""Energies of loads 0..Q, their differences, and the ways that use them.

    Parameters
    ----------
    energy : (R, Q+1) float64, J
        :math:`e_r(q)`, infinite beyond the capacity.
    capacity : (R,) int64
        :math:`Q_r \le Q`.
    marginal : (R, Q+1) float64, J
        :math:`e_r(q+1) - e_r(q)`, infinite from the capacity on.
    independent : bool
        Whether tokens do not influence each other: there is one, or all e_r are linear and no
        capacity binds.
    resource, units : (H, D) int64
        Of each way.
    """

    energy: FloatArray
    capacity: IntArray
    marginal: FloatArray
    independent: bool
    resource: IntArray
    units: IntArray

    @property
    def num_ways(self) -> int:
        """H."""
        return len(self.resource)

    def ways(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Resources and units (H, D) and group (H,) of each way, first way of each group (G+1,)."""
        fresh = np.ones(self.num_ways, dtype=bool)
        fresh[1:] = self.resource[1:, 0] != self.resource[:-1, 0]
        begin = np.append(np.flatnonzero(fresh), self.num_ways)
        return self.resource, self.units, np.cumsum(fresh) - 1, begin

    @property
    def by_unit(self) -> bool:
        """Whether every token is one unit of one resource, whichever way it goes."""
        return self.units.shape[1] == 1 and bool(np.all(self.units == 1))

    @property
    def reachable(self) -> BoolArray:
        """Ways that can take a token, (H,)."""
        reach: BoolArray = np.all(self.capacity[self.resource] >= self.units, axis=1)
        return reach

    @property
    def first(self) -> FloatArray:
        """Energy of the first token by each way, (H,), infinite where out of reach."""
        return self.costs(np.zeros_like(self.capacity))

    def loads(self, sets: IntArray) -> IntArray:
        """Units that sets of ways (T, W), padded with -1, put on each resource, (R,)."""
        ways = sets[sets >= 0]
        taken = np.bincount(
            self.resource[ways].reshape(-1),
            weights=self.units[ways].reshape(-1),
            minlength=self.capacity.size,
        )
        return taken.astype(np.int64)

    def costs(self, loads: IntArray) -> FloatArray:
        """Energy of one more token by each way at given loads, (H,)."""
        at = loads[self.resource]  # [H, D]
        after = np.minimum(at + self.units, self.energy.shape[1] - 1)
        before = self.energy[self.resource, np.minimum(at, self.capacity[self.resource])]
        fits = at + self.units <= self.capacity[self.resource]
        each = np.where(fits, self.energy[self.resource, after] - before, np.inf)
        return np.asarray(each.sum(axis=1), dtype=np.float64)

    def at_unit_prices(self, prices: FloatArray) -> FloatArray:
        """Price of a token by each way at prices of a unit of each resource (R,), (H,)."""
        return np.asarray((self.units * prices[self.resource]).sum(axis=1), dtype=np.float64)

    def only(self, ways: IntArray) -> LoadModel:
        """Model of some of the ways, in ascending order; the resources stay."""
        return replace(
            self,
            resource=np.ascontiguousarray(self.resource[ways]),
            units=np.ascontiguousarray(self.units[ways]),
        )

    def total(self, loads: IntArray) -> float:
        """Energy of loads (R,), J."""
        return float(self.energy[np.arange(loads.size), loads].sum())

    def slope(self, loads: IntArray) -> FloatArray:
        """Energy of a unit around given loads (R,), J: the mean of the last and the next."""
        at = np.arange(loads.size)
        above, below = self.marginal[at, loads], self.marginal[at, np.maximum(loads - 1, 0)]
        mean = np.where(np.isfinite(above), (above + below) / 2, below)
        return np.where(self.capacity > 0, mean, 0.0)

    def with_overflow(self) -> tuple[FloatArray, FloatArray]:
        """Let loads exceed the capacity at a price above everything else.

        Returns marginals (R+1, Q+1), the last row zero, and their cumulation (R, Q+1). So a
        search may pass through states that break a capacity, and rests in one only if it finds
        none that keeps them.
        """
        most_load = self.energy.shape[1] - 1
        load = np.arange(most_load + 1)
        over = load[None, :] - self.capacity[:, None]  # [R, Q+1]
        most = self.energy[np.arange(self.capacity.size), self.capacity]  # [R]
        fine = 2.0 * float(most.sum()) or 1.0
        marginal = np.zeros((self.capacity.size + 1, most_load + 1))
        marginal[:-1] = np.where(over >= 0, fine * (1.0 + over), self.marginal)
        excess = np.maximum(over, 0)
        total = np.where(over > 0, most[:, None] + fine * excess * (excess + 1) / 2, self.energy)
        return marginal, total


def model_loads(problem: SelectionProblem) -> LoadModel:
    """Check a problem's energy table and take it apart.

    Raises
    ------
    ValueError
        If some e_r is not zero at zero, falls, or is not convex.
    """
    precision = problem.precision
    if precision is None:
        resource = np.arange(problem.num_helpers)[:, None]
        units, most = np.ones_like(resource), 1
    else:
        resource, units = precision.resource, precision.way_units
        most = precision.most_units
    whole = problem.num_tokens * most
    energy = plain(problem.energy[:, : whole + 1], np.float64)
    marginal, capacity, linear, wrong = _differences(energy)
    if wrong >= 0:
        raise ValueError(
            f"selection problem: energy of helper {wrong % max(1, problem.num_helpers)} must be 0 "
            f"for load 0, finite up to a capacity, and convex and nondecreasing in between: "
            f"optimality rests on that"
        )
    largest = np.zeros(len(energy), dtype=np.int64)
    np.maximum.at(largest, resource, units)
    uncapped = np.all((capacity >= problem.num_tokens * largest) | (capacity == 0))
    return LoadModel(
        energy=energy,
        capacity=capacity,
        marginal=marginal,
        independent=problem.num_tokens == 1 or bool(uncapped and linear),
        resource=plain(resource, np.int64),
        units=plain(units, np.int64),
    )


@compiled
def _differences(energy: FloatArray) -> tuple[FloatArray, IntArray, bool, int]:
    """Marginals, capacities, whether all are linear, and the first bad helper or -1."""
    helpers, loads = energy.shape
    marginal = np.full((helpers, loads), np.inf)
    capacity = np.zeros(helpers, np.int64)
    linear, wrong = True, -1
    for n in range(helpers):
        good = energy[n, 0] == 0.0
        before = 0.0
        q = 0
        while q + 1 < loads and np.isfinite(energy[n, q + 1]):
            step = energy[n, q + 1] - energy[n, q]
            slack = _CONVEXITY_SLACK * abs(energy[n, q + 1])
            good = good and step >= before - slack and step >= 0.0
            linear = linear and abs(step - marginal[n, 0] if q else 0.0) <= _LINEARITY * step
            before = max(before, step)  # rounding must not bend the curve down
            marginal[n, q] = before
            q += 1
        capacity[n] = q
        for beyond in range(q + 1, loads):
            good = good and not np.isfinite(energy[n, beyond])
        if not good and wrong < 0:
            wrong = n
    return marginal, capacity, linear, wrong

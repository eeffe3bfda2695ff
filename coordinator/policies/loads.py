r"""What loads cost: the table :math:`e_n(q)` as the policies use it.

All that the algorithms need is that :math:`e_n` is convex, nondecreasing, zero at zero, and
finite up to a capacity :math:`Q_n`; so any energy model that keeps this can stand behind it.
docs/theory.md, sections 0 and 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.policies.compiled import compiled, plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: How far below its predecessor a marginal may lie, as a share of the energy so far.
_CONVEXITY_SLACK = 1e-9
#: How far marginals may differ, as a share, and still count as equal.
_LINEARITY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadModel:
    r"""Energies of loads 0..T and their differences.

    Parameters
    ----------
    energy : (N, T+1) float64, J
        :math:`e_n(q)`, infinite beyond the capacity.
    capacity : (N,) int64
        :math:`Q_n \le T`.
    marginal : (N, T+1) float64, J
        :math:`e_n(q+1) - e_n(q)`, infinite from the capacity on.
    independent : bool
        Whether tokens do not influence each other: there is one, or all e_n are linear and no
        capacity binds.
    """

    energy: FloatArray
    capacity: IntArray
    marginal: FloatArray
    independent: bool

    @property
    def reachable(self) -> BoolArray:
        """Helpers that can take a token, (N,)."""
        reach: BoolArray = self.capacity > 0
        return reach

    @property
    def first(self) -> FloatArray:
        """Energy of the first token, (N,), infinite where out of reach."""
        first: FloatArray = self.marginal[:, 0].copy()
        return first

    def total(self, loads: IntArray) -> float:
        """Energy of loads (N,), J."""
        return float(self.energy[np.arange(loads.size), loads].sum())

    def with_overflow(self) -> tuple[FloatArray, FloatArray]:
        """Let loads exceed the capacity at a price above everything else.

        Returns marginals (N+1, T+1), the last row zero, and their cumulation (N, T+1). So a
        search may pass through states that break a capacity, and rests in one only if it finds
        none that keeps them.
        """
        tokens = self.energy.shape[1] - 1
        load = np.arange(tokens + 1)
        over = load[None, :] - self.capacity[:, None]  # [N, T+1]
        most = self.energy[np.arange(self.capacity.size), self.capacity]  # [N]
        fine = 2.0 * float(most.sum()) or 1.0
        marginal = np.zeros((self.capacity.size + 1, tokens + 1))
        marginal[:-1] = np.where(over >= 0, fine * (1.0 + over), self.marginal)
        excess = np.maximum(over, 0)
        total = np.where(over > 0, most[:, None] + fine * excess * (excess + 1) / 2, self.energy)
        return marginal, total


def model_loads(problem: SelectionProblem) -> LoadModel:
    """Check a problem's energy table and take it apart.

    Raises
    ------
    ValueError
        If some e_n is not zero at zero, falls, or is not convex.
    """
    energy = plain(problem.energy[:, : problem.num_tokens + 1], np.float64)
    marginal, capacity, linear, wrong = _differences(energy)
    if wrong >= 0:
        raise ValueError(
            f"selection problem: energy of helper {wrong} must be 0 for load 0, finite up to a "
            f"capacity, and convex and nondecreasing in between: optimality rests on that"
        )
    uncapped = np.all((capacity == problem.num_tokens) | (capacity == 0))
    independent = problem.num_tokens == 1 or bool(uncapped and linear)
    return LoadModel(energy=energy, capacity=capacity, marginal=marginal, independent=independent)


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

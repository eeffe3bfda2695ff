r"""What loads cost: the table :math:`e_n(q)` as the policies use it.

All that the algorithms need is that :math:`e_n` is convex, nondecreasing, zero at zero, and
finite up to a capacity :math:`Q_n`; so any energy model that keeps this can stand behind it.
docs/theory.md, sections 0 and 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: How far below its predecessor, relative to the largest energy so far, a marginal may lie.
_CONVEXITY_SLACK = 1e-9


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
    """

    energy: FloatArray
    capacity: IntArray
    marginal: FloatArray

    @property
    def reachable(self) -> BoolArray:
        """Helpers that can take a token, (N,)."""
        reach: BoolArray = self.capacity > 0
        return reach

    @property
    def first(self) -> FloatArray:
        """Energy of the first token, (N,), infinite where out of reach."""
        first: FloatArray = self.marginal[:, 0]
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
    tokens = problem.num_tokens
    energy = problem.energy[:, : tokens + 1]
    finite = np.isfinite(energy)
    capacity = finite.sum(axis=1) - 1
    if np.any(energy[:, 0] != 0.0) or np.any(finite[:, :-1] < finite[:, 1:]):
        raise ValueError(
            "selection problem: energy must be 0 for load 0 and finite up to a capacity"
        )
    marginal = np.full_like(energy, np.inf)
    np.subtract(energy[:, 1:], energy[:, :-1], out=marginal[:, :-1], where=finite[:, 1:])
    _check_convex(energy, marginal)
    return LoadModel(energy=energy, capacity=capacity, marginal=marginal)


def _check_convex(energy: FloatArray, marginal: FloatArray) -> None:
    step = marginal[:, :-1]  # [N, T]
    if step.size == 0:
        return
    slack = _CONVEXITY_SLACK * energy[:, :-1]
    bad = step[:, :1] < 0.0
    if step.shape[1] > 1:
        with np.errstate(invalid="ignore"):
            bend = step[:, 1:] - step[:, :-1] < -slack[:, 1:]
        bad = bad | bend.any(axis=1, keepdims=True)
    if bad.any():
        helper = int(np.flatnonzero(bad[:, 0])[0])
        raise ValueError(
            f"selection problem: energy of helper {helper} is not convex and nondecreasing in its "
            f"load; the optimality of siftmoe's policies rests on that"
        )


def is_independent(model: LoadModel) -> bool:
    """Whether tokens do not influence each other: e_n(q) = q e_n(1), and no capacity binds."""
    tokens = model.energy.shape[1] - 1
    if tokens == 1:
        return True
    reach = model.reachable
    if np.any(model.capacity[reach] < tokens):
        return False
    line = np.arange(tokens + 1) * model.first[reach, None]  # [reachable, T+1]
    return bool(np.allclose(model.energy[reach], line, rtol=1e-12, atol=0.0))

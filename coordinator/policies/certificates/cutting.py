r"""Cutting planes: refine a certificate to its last digits.

Kelley's method in a box around the best prices. The tokens' side of the bound is learnt from
cuts, :math:`z_0 \le v_k + D_k^T (\mu - \mu_k)` with demand :math:`D_k`; the helpers' side is known
in closed form, :math:`z_n \le e_n(q) - \mu_n q`, and enters as the lines of the loads around
those met so far. The linear program only proposes prices; what counts is the bound evaluated at
them. docs/explanation/theory.md, section 2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

from siftmoe.coordinator.policies.certificates.dual import Certificate, helper_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.policies.certificates.dual import TokenOracle
    from siftmoe.coordinator.policies.loads.model import LoadModel

    FloatArray = NDArray[np.float64]

#: First half-width of the box, as a share of the coordinates' units, and when to give up.
_FIRST_RADIUS, _LAST_RADIUS = 0.05, 1e-9
#: Growth of the box after a better bound, and shrinkage after none.
_GROW, _SHRINK = 2.0, 0.5
#: Loads on both sides of a supply whose lines are given to the program.
_NEIGHBOURS = 3


def tighten(
    tokens: TokenOracle,
    model: LoadModel,
    certificate: Certificate,
    *,
    scale: FloatArray,
    upper: float,
    rounds: int,
    tolerance: float = 0.0,
) -> Certificate:
    """Improve a certificate; arguments are those of ``dual.ascend``."""
    master = _Master(model, scale=scale, unit=upper)
    best, radius, prices = certificate, _FIRST_RADIUS, certificate.prices
    for _ in range(rounds):
        value, demand = tokens(prices)
        earned, supply = helper_side(model, prices, demand)
        master.add(prices, value=value, demand=demand, supply=supply)
        better = value + earned > best.bound
        if better:
            best = Certificate(bound=value + earned, prices=prices)
        radius *= _GROW if better else _SHRINK
        if best.gap(upper) <= tolerance or radius < _LAST_RADIUS:
            break
        proposal = master.solve(best.prices, radius=radius)
        if proposal is None or proposal[0] - best.bound <= 0.1 * tolerance * upper:
            break
        prices = proposal[1]
    return best


class _Master:
    """The linear program over prices y (P,), in units, z_0, and z_n (N,)."""

    def __init__(self, model: LoadModel, *, scale: FloatArray, unit: float) -> None:
        self._model, self._unit = model, unit
        self._movable = scale > 0.0  # a price without a unit is known and stays
        self._scale = np.where(self._movable, scale, 1.0)
        self._cuts: list[tuple[FloatArray, float]] = []
        self._lines: set[tuple[int, int]] = set()

    def add(
        self, prices: FloatArray, *, value: float, demand: FloatArray, supply: FloatArray
    ) -> None:
        """Take in what was met at ``prices``."""
        offset = (value - float(demand @ prices)) / self._unit
        self._cuts.append((demand * self._scale / self._unit, offset))
        for n, capacity in enumerate(self._model.capacity):
            for q in range(int(supply[n]) - _NEIGHBOURS, int(supply[n]) + _NEIGHBOURS + 1):
                if 0 <= q <= capacity:
                    self._lines.add((n, q))

    def solve(self, centre: FloatArray, *, radius: float) -> tuple[float, FloatArray] | None:
        """Propose prices in the box: (promised bound, prices), or None if the program fails."""
        total, helpers = self._scale.size, self._model.capacity.size
        slopes = -np.array([slope for slope, _ in self._cuts])  # [cuts, P]
        lines = np.array(sorted(self._lines))  # [lines, 2]
        of, load = lines[:, 0], lines[:, 1]
        rows = len(self._cuts)
        row_of_cut, column = np.indices(slopes.shape)
        row_of_line = rows + np.arange(of.size)
        matrix = coo_array(
            (
                np.concatenate(
                    [
                        slopes.ravel(),
                        np.ones(rows + of.size),
                        load * self._scale[of] / self._unit,
                    ]
                ),
                (
                    np.concatenate([row_of_cut.ravel(), np.arange(rows), row_of_line, row_of_line]),
                    np.concatenate([column.ravel(), np.full(rows, total), total + 1 + of, of]),
                ),
            ),
            shape=(rows + of.size, total + 1 + helpers),
        )
        limit = np.concatenate(
            [[offset for _, offset in self._cuts], self._model.energy[of, load] / self._unit]
        )
        middle = centre / self._scale
        around = np.where(self._movable, radius, 0.0)
        box = np.stack([np.maximum(0.0, middle - around), middle + around], axis=1)
        free = np.tile([[-np.inf, np.inf]], (1 + helpers, 1))
        cost = np.concatenate([np.zeros(total), -np.ones(1 + helpers)])
        found = milp(
            cost,
            bounds=Bounds(*np.concatenate([box, free]).T),
            constraints=LinearConstraint(matrix.tocsr(), -np.inf, limit),
        )
        if found.x is None:
            return None
        return -float(found.fun) * self._unit, np.maximum(0.0, found.x[:total]) * self._scale

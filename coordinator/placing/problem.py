r"""The placement problem: which helper hosts which expert, as plain arrays.

Symbols: ``L`` expert layers, ``E`` experts of a layer, ``N`` helpers, ``S`` channel states. A slot
of expert i in layer l is served by the hosted expert j and the helper n that cost least, or
skipped. With a set X of placed pairs (helper, expert) the expected cost of a token is

.. math:: C(X) = \sum_{l,i} p_{li}\,\frac1S \sum_s \min\Big(b_{li},
          \min_{(n,j) \in X_l} \big(c_{sn} + f_{lij}\big)\Big)

with :math:`p` the slots of an expert per token, :math:`c` the price of a vector on a link,
:math:`f = \lambda \overline{w}^2 q` the priced loss, and b the cost without any host.
:math:`C(\emptyset) - C(X)` is a mean of facility locations, so it is monotone and submodular.
Our own (docs/explanation/placement.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementProblem:
    r"""A placement problem.

    Parameters
    ----------
    slots : (L, E) float64
        Slots of each expert per token, :math:`p`.
    loss_j : (L, E, E+1) float64, J
        Priced loss :math:`f` of serving a slot of expert i by expert j; last column: of skipping
        it. Infinite: not allowed.
    link_j : (S, N) float64, J
        Price of one token's vector to each helper in each channel state; infinite: out of reach.
    num_bytes : (L, E) int64
        Memory that an expert takes.
    capacity_bytes : (N,) int64
        Memory of each helper for experts.
    most_hosts : int
        Hosts that an expert may have.

    Raises
    ------
    ValueError
        If shapes do not fit, a value is negative or NaN, or a helper is never in reach.
    """

    slots: FloatArray
    loss_j: FloatArray
    link_j: FloatArray
    num_bytes: IntArray
    capacity_bytes: IntArray
    most_hosts: int

    def __post_init__(self) -> None:
        layers, experts = self.slots.shape
        wanted = {
            "loss_j": (layers, experts, experts + 1),
            "link_j": (len(self.link_j), self.num_helpers),
            "num_bytes": (layers, experts),
        }
        for name, shape in wanted.items():
            got = getattr(self, name).shape
            if got != shape:
                raise ValueError(f"placement problem: {name} must have shape {shape}, got {got}")
        for name in ("slots", "loss_j", "link_j", "capacity_bytes"):
            if not (getattr(self, name) >= 0).all():  # a NaN is not
                raise ValueError(f"placement problem: {name} must not be negative or NaN")
        if not (self.num_bytes > 0).all():
            raise ValueError("placement problem: num_bytes must be positive")
        if not np.isfinite(self.slots).all() or not np.isfinite(self.link_j).any(axis=0).all():
            raise ValueError("placement problem: a helper is out of reach in every channel state")
        if not 1 <= self.most_hosts <= self.num_helpers:
            raise ValueError(
                f"placement problem: an expert may have 1 to {self.num_helpers} hosts, "
                f"got {self.most_hosts}"
            )

    @property
    def num_helpers(self) -> int:
        """N."""
        return int(self.capacity_bytes.shape[0])

    @property
    def num_layers(self) -> int:
        """L."""
        return int(self.slots.shape[0])

    @property
    def num_experts(self) -> int:
        """E."""
        return int(self.slots.shape[1])

    @property
    def num_states(self) -> int:
        """S."""
        return int(self.link_j.shape[0])

    def unserved_j(self) -> FloatArray:
        """Cost of a slot of each expert that no helper serves, (L, E) J.

        That of skipping it. Where a skip is not allowed, the largest price of a link: every
        expert has a host in the end, and the function must start at a finite value.
        """
        skip = self.loss_j[:, :, -1]
        dearest = float(self.link_j[np.isfinite(self.link_j)].max())
        unserved: FloatArray = np.where(np.isfinite(skip), skip, dearest)
        return unserved

    def cost_j(self, hosts: BoolArray) -> float:
        """Return the expected cost of a token under a placement, J.

        Parameters
        ----------
        hosts : (N, L, E) bool
        """
        return float((self.slots * self.slot_costs_j(hosts)).sum()) / self.num_states

    def slot_costs_j(self, hosts: BoolArray) -> FloatArray:
        """Cost of a slot of each expert in each state, (S, L, E) J; argument as `cost_j`."""
        found: FloatArray = np.tile(self.unserved_j(), (self.num_states, 1, 1))
        for layer in range(self.num_layers):
            held = np.where(hosts[:, layer], self.link_j[:, :, None], np.inf)  # [S, N, E]
            reach = held.min(axis=1)  # [S, E], cheapest link to each expert
            served = reach[:, None, :] + self.loss_j[layer, None, :, :-1]  # [S, E, E]
            found[:, layer] = np.minimum(found[:, layer], served.min(axis=2))
        return found

    def used_bytes(self, hosts: BoolArray) -> IntArray:
        """Memory that a placement takes on each helper, (N,)."""
        used: IntArray = np.tensordot(hosts.astype(np.int64), self.num_bytes, axes=2)
        return used

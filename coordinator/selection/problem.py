r"""Selection problem of one layer and its plan, as plain arrays.

Symbols: ``T`` tokens, ``K`` slots of a token (its routed experts), ``E`` experts, ``N`` helpers.
A slot is *kept* (its own expert serves it), *replaced* (a stand-in serves it) or *skipped*
(nothing is added). A token is sent to a helper once, however many of its slots are served there,
so only the loads :math:`q_n = \#\{t : n \in S_t\}` cost energy:

.. math:: \min_{S_t} \sum_n e_n(q_n) \quad \text{s.t.} \quad D_t(S_t) \le \epsilon, \qquad
          D_t(S) = \sum_i \min_{n \in S \cup \text{local}} d_{t,i,n}

docs/explanation/theory.md, section 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.medium import Medium
    from siftmoe.coordinator.selection.precision import Precision

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]

#: Values of ``SelectionPlan.helper`` for a slot that no helper serves.
LOCAL = -1
NOBODY = -2


class BudgetKind(str, Enum):
    """Meaning of ``Budget.value``."""

    #: D_t <= value for every token.
    PER_TOKEN = "per-token"
    #: sum_t D_t <= T * value.
    AVERAGE = "average"
    #: No bound: value is the price of one unit of deviation in joule.
    PRICE = "price"


class Status(str, Enum):
    """What is proved about a plan."""

    OPTIMAL = "optimal"
    FEASIBLE = "feasible"
    INFEASIBLE = "infeasible"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """How much deviation a layer may add.

    Parameters
    ----------
    kind : BudgetKind
    value : float
        Deviation (``PER_TOKEN``, ``AVERAGE``) or joule per unit of deviation (``PRICE``).
    """

    kind: BudgetKind
    value: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.value) and self.value >= 0.0):
            raise ValueError(
                f"budget ({self.kind.value}): value must be finite and not negative, "
                f"got {self.value}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionProblem:
    r"""One layer's selection for a batch of tokens.

    Parameters
    ----------
    routed_experts : (T, K) int64
        The experts that the model's own router picked.
    gate_weights : (T, K) float64
        Their weights :math:`g_{t,i} \ge 0`.
    hosts : (N, E) bool
        Which helper holds which expert.
    local : (E,) bool
        Which experts the user's device holds itself, at no transmit energy.
    deviation : (E, E+1) float64
        :math:`F_{ij}`, cost in deviation of serving a slot of expert i by expert j; last
        column: of skipping it. The diagonal is zero where no scale is used.
    scale : (E, E+1) float64
        Factor on the stand-in's output; 1 without rescaling.
    energy : (N, Q+1) float64, J
        :math:`e_n(q)`, least priced energy to serve a load of q tokens, both directions: convex
        and nondecreasing in q,
        ``energy[:, 0] == 0``, infinite beyond the power limit; Q >= T.
    budget : Budget
    weight_power : int
        :math:`d = g^p F`: 1 for the paper's linear bound, 2 for squared deviations.
    token_factor : (T, K) float64 or None
        Multiplies a slot's deviations where they are known per token.
    width : int, bit
        Of an entry of the vectors sent to helpers, where there is one width for all.
    router_logits : (T, E) float64 or None
        Of the model's own router, where the policy asks for them; -inf: not to be routed to.
    precision : Precision or None
        Widths to choose from, where there are several, to helpers or back. ``energy`` is then a
        table over its ``resource`` and ``units``, and ``deviation`` and ``scale`` hold for exact
        vectors: those of skips and of local experts.
    medium : Medium or None
        The band that all helpers share, where they do. ``energy`` is then linear in the loads, at
        usual prices of airtime: what policies go by that do not look at the medium.
    """

    routed_experts: IntArray
    gate_weights: FloatArray
    hosts: BoolArray
    local: BoolArray
    deviation: FloatArray
    scale: FloatArray
    energy: FloatArray
    budget: Budget
    weight_power: int = 1
    token_factor: FloatArray | None = None
    width: int = 16
    precision: Precision | None = None
    router_logits: FloatArray | None = None
    medium: Medium | None = None

    def __post_init__(self) -> None:
        tokens, slots = self.routed_experts.shape
        experts = self.num_experts
        expected = {
            "gate_weights": (tokens, slots),
            "local": (experts,),
            "deviation": (experts, experts + 1),
            "scale": (experts, experts + 1),
        }
        if self.token_factor is not None:
            expected["token_factor"] = (tokens, slots)
        if self.router_logits is not None:
            expected["router_logits"] = (tokens, experts)
        for name, shape in expected.items():
            got = getattr(self, name).shape
            if got != shape:
                raise ValueError(f"selection problem: {name} must have shape {shape}, got {got}")
        self._check_energy()
        if self.weight_power not in (1, 2):
            raise ValueError(f"weight_power must be 1 or 2, got {self.weight_power}")
        if tokens and not (self.routed_experts.min() >= 0 and self.routed_experts.max() < experts):
            raise ValueError(f"routed_experts must lie in 0..{experts - 1}")

    def _check_energy(self) -> None:
        rows, most = self.num_helpers, self.num_tokens
        if self.precision is not None:
            self.precision.check(self.num_helpers, self.num_experts)
            rows, most = self.precision.num_resources, self.num_tokens * self.precision.most_units
        if self.energy.shape[0] != rows or self.energy.shape[1] < most + 1:
            raise ValueError(
                f"selection problem: energy must have shape ({rows}, at least {most + 1}), "
                f"got {self.energy.shape}"
            )
        if self.energy.size and not self.energy.min() >= 0.0:  # a NaN is the minimum
            row, load = (int(i[0]) for i in np.nonzero(~(self.energy >= 0.0)))
            helper = row % self.num_helpers
            if self.precision is not None and not self.precision.pooled:
                helper = row * self.num_helpers // len(self.energy)
            raise ValueError(
                f"selection problem: energy of load {load} on helper {helper} is "
                f"{self.energy[row, load]}; must not be negative or NaN (infinite: out of reach)"
            )

    @property
    def num_tokens(self) -> int:
        """T."""
        return int(self.routed_experts.shape[0])

    @property
    def top_k(self) -> int:
        """K."""
        return int(self.routed_experts.shape[1])

    @property
    def num_helpers(self) -> int:
        """N."""
        return int(self.hosts.shape[0])

    @property
    def num_experts(self) -> int:
        """E."""
        return int(self.hosts.shape[1])

    def serving_deviation(
        self, expert: IntArray, width: IntArray, reply_width: IntArray | None = None
    ) -> FloatArray:
        """Deviation of each slot, (T, K), before its weight: served by ``expert`` at these widths.

        Parameters
        ----------
        expert : (T, K) int64
            E for a skipped slot.
        width, reply_width : (T, K) int64, bit
            As of ``SelectionPlan``; 0 where the token is not sent.
        """
        served = self._served(self.deviation, "deviation", expert, width)
        if self.precision is None:
            return served
        noise = self.precision.reply_noise(reply_width, served.shape)
        skip = self.deviation[self.routed_experts, self.num_experts]
        back = noise * self.precision.returned(served, skip)
        return np.where(width > 0, served + back, served)

    def serving_scale(self, expert: IntArray, width: IntArray) -> FloatArray:
        """Factor on each slot's output, (T, K); arguments as `serving_deviation`."""
        return self._served(self.scale, "scale", expert, width)

    def _served(
        self, exact: FloatArray, name: str, expert: IntArray, width: IntArray
    ) -> FloatArray:
        at_home: FloatArray = exact[self.routed_experts, expert]
        if self.precision is None:
            return at_home
        table = getattr(self.precision, name)
        travelled = self.precision.at(table, self.routed_experts, expert, width)
        return np.where(width > 0, travelled, at_home)

    def slot_weights(self) -> FloatArray:
        """Factor of each slot's deviations, (T, K): g^p, times the token factor."""
        weights = self.gate_weights**self.weight_power
        return weights if self.token_factor is None else weights * self.token_factor


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionPlan:
    """For each slot: which helper, which expert, which weight.

    Parameters
    ----------
    helper : (T, K) int64
        Index of the helper, or ``LOCAL``, or ``NOBODY`` for a skipped slot.
    expert : (T, K) int64
        The expert that serves the slot; E for a skipped one.
    weight : (T, K) float64
        Factor on that expert's output: gate weight times scale; 0 for a skipped slot. Kept gates
        are never renormalised.
    width : (T, K) int64, bit
        Of an entry of the token's vector sent to the slot's helper; 0 where none is sent. A token
        is sent to a helper once, hence at one width.
    reply_width : (T, K) int64, bit, or None
        Of an entry of the token's vector on its way back from the slot's helper; 0 where none is
        sent. One per token and helper. None: all answers have the air's ``reply_width``.
    status : Status
        ``INFEASIBLE`` plans are still valid: least deviation on the reachable helpers.
    energy_j : float, J
        Predicted energy of the plan, as the problem's table prices it.
    lower_bound_j : float, J
        Certificate: no feasible plan needs less; NaN if none was computed. Under a price it bounds
        energy plus price times deviation.
    deviation : (T,) float64
        Deviation D_t of each token, in the units of the problem's table.
    solve_s : float, s
        Time spent in the policy.
    """

    helper: IntArray
    expert: IntArray
    weight: FloatArray
    width: IntArray
    status: Status
    energy_j: float
    lower_bound_j: float
    deviation: FloatArray
    solve_s: float = 0.0
    reply_width: IntArray | None = None

    def loads(self, num_helpers: int) -> IntArray:
        """Tokens sent to each helper, (N,); a token counts once per helper."""
        tokens, slots = self.helper.shape
        used = np.zeros((tokens, num_helpers), dtype=bool)
        rows = np.repeat(np.arange(tokens), slots)  # [T*K]
        flat = self.helper.reshape(-1)
        served = flat >= 0
        used[rows[served], flat[served]] = True
        loads: IntArray = used.sum(axis=0, dtype=np.int64)
        return loads

    def loads_by_width(self, num_helpers: int, widths: Sequence[int]) -> IntArray:
        """Tokens sent to each helper at each of these widths, (N, B).

        Raises
        ------
        ValueError
            If a token is sent at another width.
        """
        return self._by_width(self.width, num_helpers, widths)

    def replies_by_width(self, num_helpers: int, widths: Sequence[int]) -> IntArray:
        """Tokens that come back from each helper at each of these widths, (N, V).

        Raises
        ------
        ValueError
            If the plan chooses no widths of answers, or another one.
        """
        if self.reply_width is None:
            raise ValueError("this plan chooses no widths of answers: all have the air's one")
        return self._by_width(self.reply_width, num_helpers, widths)

    def _by_width(self, width: IntArray, num_helpers: int, widths: Sequence[int]) -> IntArray:
        tokens, slots = self.helper.shape
        sent = self.helper.reshape(-1) >= 0
        rows = np.repeat(np.arange(tokens), slots)[sent]
        at = np.searchsorted(widths, width.reshape(-1)[sent])
        if not np.array_equal(np.append(widths, 0)[at], width.reshape(-1)[sent]):
            raise ValueError(f"a plan sends vectors of {np.unique(width)} bits, not {widths}")
        used = np.zeros((tokens, num_helpers, len(widths)), dtype=bool)
        used[rows, self.helper.reshape(-1)[sent], at] = True
        counts: IntArray = used.sum(axis=0, dtype=np.int64)
        return counts

    def helper_sets(self) -> list[list[int]]:
        """Helpers of each token, ascending."""
        return [sorted({int(n) for n in row if n >= 0}) for row in self.helper]

    def decisions(self, problem: SelectionProblem) -> tuple[int, int, int]:
        """Slots kept, replaced and skipped."""
        kept = int((self.expert == problem.routed_experts).sum())
        skipped = int((self.expert == problem.num_experts).sum())
        return kept, self.expert.size - kept - skipped, skipped

r"""Options of a broadcast: the worst helper that hears a token, and the token's width.

With the helpers sorted by their links, best first, option (w, b) is heard by the helpers up to w,
:math:`S(w)`, so its deviation is :math:`D_t(S(w), b)`: a running minimum over the sorted helpers,
the same for all tokens of an expert. Where answers have a price, the option's value is that of the
cheapest helpers among :math:`S(w)` to answer, a facility location (`...policies.token.price`) or a
cover (`...policies.token.cover`) for each. Own derivation: docs/explanation/theory.md, section 9.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled
from siftmoe.coordinator.policies.broadcast.answers import best_answers
from siftmoe.coordinator.policies.broadcast.options import Options

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.medium import Medium
    from siftmoe.coordinator.policies.loads.tables import HelperTables
    from siftmoe.coordinator.selection.problem import SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hearing:
    """Who hears what, for the tokens of a problem.

    Parameters
    ----------
    routed : (T, K) int64
    weights : (T, K) float64
        Of the slots' deviations.
    base : (E,) float64
        Deviation without a transmission.
    served : (B, E, R, V) float64
        Deviation of each expert's slots by the helper of each rank, best link first, at each width
        up and back.
    helper : (R,) int64
        Helper of each rank.
    able : (R, B) bool
        Which link carries a token of which width.
    medium : Medium
    """

    routed: IntArray
    weights: FloatArray
    base: FloatArray
    served: FloatArray
    helper: IntArray
    able: BoolArray
    medium: Medium

    @classmethod
    def of(cls, problem: SelectionProblem, tables: HelperTables, medium: Medium) -> Hearing:
        """Sort the helpers that can be reached."""
        up, experts = medium.up, problem.num_experts
        ways = len(medium.bits), len(medium.reply_bits)
        reached = np.flatnonzero(medium.reachable)
        helper = reached[np.argsort(up.noise_w[reached], kind="stable")]
        served = tables.served.reshape(experts, problem.num_helpers, *ways)[:, helper]
        able = np.stack([up.carries(b)[helper] for b in medium.bits.values()], axis=1)
        return cls(
            routed=problem.routed_experts,
            weights=problem.slot_weights(),
            base=tables.base,
            served=np.ascontiguousarray(served.transpose(2, 0, 1, 3)),
            helper=helper,
            able=able,
            medium=medium,
        )

    @property
    def num_options(self) -> int:
        """O: one for each rank and width, and the first, which sends nothing."""
        return 1 + self.able.size

    def link(self) -> IntArray:
        """Link of each option, (O,)."""
        ranks = np.repeat(self.helper, self.able.shape[1])
        return np.append(self.helper[:1] if self.helper.size else [0], ranks).astype(np.int64)

    def bits(self) -> FloatArray:
        """Bits of each option, (O,)."""
        sizes = np.array(list(self.medium.bits.values()), dtype=np.float64)
        return np.append(0.0, np.tile(sizes, len(self.helper)))

    def options(self, value: FloatArray) -> Options:
        """Options of these values, (T, O), without those that no link carries."""
        refused = np.append(False, ~self.able.reshape(-1))
        if refused.any():
            value = np.where(refused, np.inf, value)
        return Options(value=value, link=self.link(), bits=self.bits())

    def deviations(self) -> FloatArray:
        """Deviation of every token by option, (T, O), with the widest answers."""
        running = np.minimum.accumulate(self.served[..., -1], axis=2)  # [B, E, R]
        table = running.transpose(1, 2, 0).reshape(len(self.base), -1)  # [E, R * B]
        return _deviations(self.routed, self.weights, np.ascontiguousarray(table), self.base)

    def sets(self, choice: IntArray) -> IntArray:
        """Ways, (T, K), that serve each slot best among those that hear its token."""
        _, _, ranks, back = self.served.shape
        first = _first_of_running_minimum(self.served[..., -1])  # [B, E, R]
        rank, width = self._of(choice)
        found = first[width[:, None], self.routed, rank[:, None]]  # [T, K]
        way = self._way(self.helper[np.minimum(found, ranks - 1)], width[:, None], back - 1)
        return np.where((choice > 0)[:, None], way, -1)

    def answered(self, down_w: float, *, price: float, cap: FloatArray | None) -> FloatArray:
        """Values of every option at a price on the airtime of answers, (T, O).

        Parameters
        ----------
        down_w : float, W
        price : float
            Of a unit of deviation, J; without a cap.
        cap : (T,) float64 or None
            Largest deviation of every token.
        """
        value, _ = best_answers(
            self.routed,
            self.weights,
            self.served,
            self.base,
            self._answer_costs(down_w),
            price,
            np.zeros(0) if cap is None else cap,
            np.zeros(0, np.int64),
        )
        return value

    def answering(
        self, choice: IntArray, down_w: float, *, price: float, cap: FloatArray | None
    ) -> IntArray:
        """Ways, (T, K), that answer best at a price; arguments as `answered`."""
        back = self.served.shape[3]
        _, sets = best_answers(
            self.routed,
            self.weights,
            self.served,
            self.base,
            self._answer_costs(down_w),
            price,
            np.zeros(0) if cap is None else cap,
            choice,
        )
        _, width = self._of(choice)
        helper = self.helper[np.maximum(sets, 0) // back]
        return np.where(sets >= 0, self._way(helper, width[:, None], sets % back), -1)

    def _answer_costs(self, down_w: float) -> FloatArray:
        return np.ascontiguousarray(self.medium.answer_costs(down_w)[self.helper])

    def _of(self, choice: IntArray) -> tuple[IntArray, IntArray]:
        """Rank and index of the width of each token's option, (T,) each."""
        at = np.maximum(choice - 1, 0)
        return at // self.able.shape[1], at % self.able.shape[1]

    def _way(self, helper: IntArray, width: IntArray, back: IntArray | int) -> IntArray:
        _, _, _, replies = self.served.shape
        way: IntArray = (helper * self.able.shape[1] + width) * replies + back
        return way


@compiled
def _deviations(
    routed: IntArray, weights: FloatArray, table: FloatArray, base: FloatArray
) -> FloatArray:
    """Deviation of every token without a transmission and by option, (T, 1 + O)."""
    tokens, slots = routed.shape
    options = table.shape[1]
    found = np.zeros((tokens, options + 1))
    for t in range(tokens):
        for i in range(slots):
            w, e = weights[t, i], routed[t, i]
            if w != 0.0:
                found[t, 0] += w * base[e]
                for o in range(options):
                    found[t, o + 1] += w * table[e, o]
    return found


@compiled
def _first_of_running_minimum(served: FloatArray) -> IntArray:
    """Rank that first attains the least deviation up to each rank, (B, E, R)."""
    widths, experts, ranks = served.shape
    first = np.zeros((widths, experts, ranks), np.int64)
    for b in range(widths):
        for e in range(experts):
            for r in range(1, ranks):
                before = first[b, e, r - 1]
                first[b, e, r] = r if served[b, e, r] < served[b, e, before] else before
    return first

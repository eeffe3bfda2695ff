"""Inspects the results of a layer's helpers: numbers that are not finite, norms, second opinions.

Two computations of a row that differ show that one of them is wrong. The user's device is right by
definition; else the norms decide if exactly one is unusual; else a third host. Where nothing tells
them apart, both helpers are distrusted: either's results may be wrong.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.agent.wire.protocol import plain
from siftmoe.coordinator.dispatch.plausibility import Scores, agree, is_unusual, norm_ratio, squares
from siftmoe.coordinator.errors import AgentDistrusted, AgentRefused
from siftmoe.coordinator.selection.problem import LOCAL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.dispatch.grouping import Share
    from siftmoe.coordinator.dispatch.sampling import Check
    from siftmoe.coordinator.errors import CoordinatorError

    FloatArray = NDArray[np.float64]
    Rows = NDArray[np.floating[Any]]


class Inspection:
    """Inspection of one layer's results.

    Parameters
    ----------
    names : sequence of str
        Names by helper index.
    shares : sequence of Share
        As sent, rows of checks included.
    outputs : mapping
        (n, d) weighted sums of each helper that answered.
    num_tokens : int
        T; row T + i is that of the i-th check.
    usual : (E,) float64 or None
        Mean norm of each expert's output.
    """

    def __init__(
        self,
        names: Sequence[str],
        shares: Sequence[Share],
        outputs: Mapping[int, Rows],
        *,
        num_tokens: int,
        usual: FloatArray | None,
    ) -> None:
        self._names, self._outputs = names, outputs
        self._shares = {s.helper: s for s in shares if s.helper in outputs and s.helper != LOCAL}
        self._num_tokens, self._usual = num_tokens, usual
        self._squares = {n: squares(outputs[n]) for n in self._shares}
        #: Helpers that failed or are distrusted, and why.
        self.failures: dict[int, CoordinatorError] = {}
        self._refuse_infinite()

    def _refuse_infinite(self) -> None:
        for n, square in self._squares.items():
            if np.isfinite(square).all():
                continue
            row = int(np.flatnonzero(~np.isfinite(square))[0])
            values = self._outputs[n][row]
            strange = values[~np.isfinite(values)]
            what = f"{strange[0]}" if strange.size else f"numbers up to {np.abs(values).max():g}"
            self.failures[n] = AgentRefused(
                f"agent {self._names[n]!r} answered with {what} for row {row} of {len(square)}; a "
                f"result must be finite: look at its board and its execution provider"
            )

    def judge_norms(self, scores: Scores) -> None:
        """Add the layer's norms to the helpers' scores; distrust those that reach the limit."""
        if self._usual is None:
            return
        for n, share in self._shares.items():
            if n in self.failures:
                continue
            ratio = norm_ratio(share, self._squares[n], self._usual)
            if scores.add(n, ratio):
                median = float(np.nanmedian(ratio))
                self._distrust(n, f"its outputs have {median:.2g} times the norm of the profile's")

    def judge(
        self,
        number: int,
        check: Check,
        *,
        local: Rows | None,
        third: Callable[[Check], Rows | None],
    ) -> None:
        """Compare the two computations of a check.

        Parameters
        ----------
        number : int
            Of the check in the layer.
        check : Check
        local : (d,) or None
            Computed by the user's device.
        third : callable
            Requests the row from another host of its experts; None if there is none.
        """
        mine = self._row(check.suspect, check.token)
        if mine is None:
            return
        if local is not None:
            if not agree(mine, local, reply_width=check.reply_width):
                self._distrust(check.suspect, "the user's device computes another output")
            return
        again = self._row(check.replica, self._num_tokens + number)
        if again is None or agree(mine, again, reply_width=check.reply_width):
            return
        for n in self._culprits(check, mine, again, third):
            other = check.replica if n == check.suspect else check.suspect
            self._distrust(n, f"{self._names[other]!r} computes another output")

    def _culprits(
        self,
        check: Check,
        mine: Rows,
        again: Rows,
        third: Callable[[Check], Rows | None],
    ) -> list[int]:
        """Tell which of two helpers that differ is wrong; both if nothing tells."""
        pair = [check.suspect, check.replica]
        unusual = [n for n, row in zip(pair, (mine, again), strict=True) if self._odd(check, row)]
        if len(unusual) == 1:
            return unusual
        asked = third(check)
        if asked is not None:
            right = [
                n
                for n, row in zip(pair, (mine, again), strict=True)
                if agree(row, asked, reply_width=check.reply_width)
            ]
            if len(right) == 1:
                return [n for n in pair if n not in right]
        return pair

    def _odd(self, check: Check, row: Rows) -> bool:
        if self._usual is None:
            return False
        expected = float(np.abs(check.weight) @ self._usual[check.expert])
        norm = float(np.linalg.norm(row.astype(np.float64)))
        return bool(expected > 0.0) and is_unusual(norm / expected)

    def _row(self, helper: int, token: int) -> Rows | None:
        """Output of a helper for a token; None if it has none that can be compared."""
        share = self._shares.get(helper)
        if share is None or helper in self.failures:
            return None
        row: Rows = self._outputs[helper][np.flatnonzero(share.tokens == token)[0]]
        return row

    def sent_row(self, check: Check) -> Rows | None:
        """Vector of a check's token as its suspect received it, (1, d); None without a result."""
        share = self._shares.get(check.suspect)
        if share is None:
            return None
        at = int(np.flatnonzero(share.tokens == check.token)[0])
        return plain(share.hidden)[at : at + 1]

    def _distrust(self, helper: int, why: str) -> None:
        self.failures[helper] = AgentDistrusted(
            f"agent {self._names[helper]!r} is distrusted: {why}; it is left out for the rest of "
            f"the run. Check its bundle, its provider and who else has its key"
        )

"""Replays sounded link states, for trials that must not depend on a fading model."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.coordinator.links.states import LinkStates


class ReplayedLinks:
    """Observed states, drawn again for every coherence time.

    Parameters
    ----------
    states : sequence of LinkStates
        At least one.
    period_s : float, s
        Duration of each state.
    seed : int
        The same seed gives the same states at the same times.
    """

    def __init__(self, states: Sequence[LinkStates], *, period_s: float, seed: int) -> None:
        if not states:
            raise ValueError("replayed links: there are no states to replay")
        if not period_s > 0.0:
            raise ValueError(f"replayed links: period_s must be positive, got {period_s}")
        self._states = tuple(states)
        self._period_s = period_s
        self._seed = seed

    @property
    def num_links(self) -> int:
        """N."""
        return self._states[0].num_links

    def states(self, now_s: float) -> LinkStates:
        """Return one of the states, as if sounded at ``now_s``.

        Raises
        ------
        ValueError
            If the time is negative or not finite.
        """
        if not (now_s >= 0.0 and math.isfinite(now_s)):
            raise ValueError(f"links: now_s must be finite and not negative, got {now_s}")
        block = int(now_s // self._period_s)
        # Each state once per pass, shuffled in every pass: even few states are used equally often.
        turn, place = divmod(block, len(self._states))
        order = np.random.default_rng((self._seed, turn)).permutation(len(self._states))
        chosen: LinkStates = self._states[int(order[place])]
        return replace(chosen, time_s=np.full(self.num_links, now_s))

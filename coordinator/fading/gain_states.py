r"""A fading gain as a Markov chain with finitely many states.

A Rayleigh gain is cut into bins of equal probability, each represented by its mean. From slot to
slot it is drawn anew, or follows the first-order Gauss-Markov response
:math:`h' = \rho h + \sqrt{1 - \rho^2}\, w`, for which :math:`|h'|^2` given :math:`|h|^2` has a
noncentral chi-square law with two degrees of freedom.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import ncx2

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Points in each bin over which its transition probabilities are averaged.
_POINTS_PER_BIN = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class GainStates:
    """States of a link's power gain.

    Parameters
    ----------
    gain : (H,) float64
        Gain of each state, ascending.
    upper : (H-1,) float64
        Gains that separate the states.
    initial : (H,) float64
        Probability of each state in the first slot.
    transition : (H, H) float64
        Row h: probabilities of the next slot's states.

    Raises
    ------
    ValueError
        If gains do not ascend from above 0, or probabilities do not sum to 1.
    """

    gain: FloatArray
    upper: FloatArray
    initial: FloatArray
    transition: FloatArray

    def __post_init__(self) -> None:
        count = len(self.gain)
        if not (self.gain[0] > 0.0 and np.all(np.diff(self.gain) > 0.0)):
            raise ValueError(f"gain states must be positive and ascend, got {self.gain}")
        if self.upper.shape != (count - 1,) or not np.all(
            (self.gain[:-1] <= self.upper) & (self.upper <= self.gain[1:])
        ):
            raise ValueError(f"{count} gain states need {count - 1} gains that separate them")
        for name, table in (("initial", self.initial[None, :]), ("transition", self.transition)):
            if table.shape[1] != count or table.shape[0] not in (1, count):
                raise ValueError(f"gain states: {name} has the wrong shape {table.shape}")
            if np.any(table < 0.0) or not np.allclose(table.sum(axis=1), 1.0, atol=1e-9):
                raise ValueError(f"gain states: {name} must hold probabilities that sum to 1")

    @property
    def memoryless(self) -> bool:
        """Whether every slot's gain is independent of the last."""
        return bool(np.all(self.transition == self.transition[0]))

    def state_of(self, gain: float) -> int:
        """State that a gain belongs to."""
        return int(np.searchsorted(self.upper, gain))

    @classmethod
    def fixed(cls, gain: float) -> GainStates:
        """Make a gain that does not change."""
        return cls.independent(np.array([gain]), np.ones(1))

    @classmethod
    def independent(cls, gain: FloatArray, probability: FloatArray) -> GainStates:
        """Gains drawn anew in every slot.

        Parameters
        ----------
        gain : (H,) float64
            Ascending.
        probability : (H,) float64
        """
        upper = 0.5 * (gain[1:] + gain[:-1])
        transition = np.tile(probability, (len(gain), 1))
        return cls(gain=gain, upper=upper, initial=probability, transition=transition)

    @classmethod
    def rayleigh(cls, mean_gain: float, *, bins: int, correlation: float = 0.0) -> GainStates:
        """Rayleigh fading in bins of equal probability.

        Parameters
        ----------
        mean_gain : float
        bins : int
        correlation : float
            Correlation of the complex response from slot to slot, in [0, 1); 0: drawn anew.
        """
        if not (mean_gain > 0.0 and bins >= 1 and 0.0 <= correlation < 1.0):
            raise ValueError(
                f"Rayleigh states need mean_gain > 0, bins >= 1 and correlation in [0, 1), "
                f"got {mean_gain}, {bins}, {correlation}"
            )
        below = np.arange(bins + 1) / bins
        with np.errstate(divide="ignore"):
            edge = -np.log1p(-below)  # [H+1], for mean 1; the last is infinite
        # int g e^-g dg = -(g + 1) e^-g, and e^-edge = 1 - below
        left = np.where(np.isinf(edge), 0.0, (np.where(np.isinf(edge), 0.0, edge) + 1.0))
        mean = -np.diff(left * (1.0 - below)) * bins  # [H]
        probability = np.full(bins, 1.0 / bins)
        transition = np.tile(probability, (bins, 1))
        if correlation > 0.0:
            transition = _rayleigh_transition(edge, correlation)
        return cls(
            gain=mean_gain * mean,
            upper=mean_gain * edge[1:-1],
            initial=probability,
            transition=transition,
        )


def _rayleigh_transition(edge: FloatArray, correlation: float) -> FloatArray:
    """Transition probabilities (H, H) between bins of a Rayleigh gain of mean 1."""
    bins = len(edge) - 1
    spread = 0.5 * (1.0 - correlation**2)  # variance of either part of the new response
    inside = (
        np.arange(bins)[:, None] + (np.arange(_POINTS_PER_BIN) + 0.5) / _POINTS_PER_BIN
    ) / bins
    gain = -np.log1p(-inside)  # [H, P]
    centre = correlation**2 * gain[:, :, None] / spread
    within = np.asarray(ncx2.cdf(edge[None, None, 1:-1] / spread, 2, centre))  # [H, P, H-1]
    inner = within.mean(axis=1)
    below = np.concatenate((np.zeros((bins, 1)), inner, np.ones((bins, 1))), axis=1)  # [H, H+1]
    chance = np.maximum(np.diff(below, axis=1), 0.0)
    normalised: FloatArray = chance / chance.sum(axis=1, keepdims=True)
    return normalised

r"""Predicts a channel gain, and its uncertainty, from an estimate that has aged.

The diffuse response is taken for a first-order Gauss-Markov process with mean gain
:math:`\bar g`. Its power correlation is :math:`\rho^2 = 2^{-\Delta / T_c}` after a time
:math:`\Delta`: one half after a coherence time, as everywhere in this package. Given an earlier
gain :math:`g`:

.. math:: E[g'] = \rho^2 g + (1 - \rho^2)\, \bar g, \qquad
          \mathrm{var}[g'] = \sigma^4 + 2 \sigma^2 \rho^2 g + \rho^4 u^2, \qquad
          \sigma^2 = (1 - \rho^2)\, \bar g

with the uncertainty :math:`u` of the estimate. :math:`g' = |\rho h + w|^2` with
:math:`w \sim CN(0, \sigma^2)` is a scaled noncentral chi-square variable. This project's
derivation; docs/explanation/radio.md.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siftmoe.radio.channel.link import ChannelState


def power_correlation(lag_s: float, *, coherence_time_s: float) -> float:
    """Correlation of the power gain after a lag; one half after a coherence time."""
    if not coherence_time_s > 0.0:
        raise ValueError(f"aging: coherence_time_s must be positive, got {coherence_time_s}")
    return float(2.0 ** (-max(0.0, lag_s) / coherence_time_s))


def aged(
    state: ChannelState, *, now_s: float, mean_gain: float, coherence_time_s: float
) -> ChannelState:
    """Predict a channel from an older estimate; ``time_s`` stays that of the estimate.

    Parameters
    ----------
    state : ChannelState
    now_s : float, s
        On the clock of the state.
    mean_gain : float, linear
        Mean of the link over its fading.
    coherence_time_s : float, s
    """
    if not (mean_gain > 0.0 and math.isfinite(mean_gain)):
        raise ValueError(f"aging: mean_gain must be positive and finite, got {mean_gain}")
    correlation = power_correlation(state.age_s(now_s), coherence_time_s=coherence_time_s)
    diffuse = (1.0 - correlation) * mean_gain
    variance = diffuse * (diffuse + 2.0 * correlation * state.gain)
    return replace(
        state,
        gain=correlation * state.gain + diffuse,
        gain_std=math.hypot(math.sqrt(variance), correlation * state.gain_std),
    )

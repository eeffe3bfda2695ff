r"""Common phase of the symbols: a Kalman filter and smoother over phase and frequency [D].

Every symbol gives one measurement, the angle of :math:`z = \sum (H X)^* Y` over its known cells,
of variance :math:`1 / (2 e)` with :math:`e = \sum |H X|^2 / \sigma^2`. Phase and frequency drift:

.. math:: \phi' = \phi + T \omega, \qquad \operatorname{var} (\omega' - \omega) = q T

with q from the Doppler and the oscillators. The smoother uses the symbols after, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.radio.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseState:
    """Phase and frequency at a time, and their covariance.

    Parameters
    ----------
    time : float
        Samples since the start of the burst.
    phase : float, rad
    turn : float, rad/sample
    covariance : (3,) float64
        Of phase and phase, phase and frequency, frequency and frequency.
    """

    time: float
    phase: float
    turn: float
    covariance: FloatArray


def frequency_walk(doppler_hz: float, sample_rate_hz: float) -> float:
    r"""Growth of the frequency's variance per sample, (rad/sample)² per sample.

    A fading path's frequency wanders over the Doppler within a coherence time of some
    :math:`1 / (4 f_D)`.

    Parameters
    ----------
    doppler_hz, sample_rate_hz : float, Hz
    """
    turn = 2.0 * math.pi * doppler_hz / sample_rate_hz
    return turn**2 * 4.0 * doppler_hz / sample_rate_hz


@compiled
def _smooth(
    times: Any, matched: Any, energy: Any, state: Any, walk: Any, passed: Any, phases: Any
) -> None:
    """Smooth into ``phases``; the state after the first ``passed`` symbols into ``state``."""
    count = len(times)
    after = state.copy()
    kept = np.empty((count, 10))  # predicted (5), filtered (5): phase, turn, covariances
    for i in range(count):
        step = times[i] - state[0]
        phase, turn = state[1] + step * state[2], state[2]
        pp = state[3] + 2.0 * step * state[4] + step * step * state[5] + walk * step**3 / 3.0
        pw = state[4] + step * state[5] + walk * step**2 / 2.0
        ww = state[5] + walk * step
        kept[i, 0], kept[i, 1], kept[i, 2], kept[i, 3], kept[i, 4] = phase, turn, pp, pw, ww
        cosine, sine = math.cos(phase), math.sin(phase)
        error = math.atan2(
            matched[i].imag * cosine - matched[i].real * sine,
            matched[i].real * cosine + matched[i].imag * sine,
        )
        total = pp + 0.5 / max(energy[i], 1e-9)
        gain, follow = pp / total, pw / total
        state[0] = times[i]
        state[1], state[2] = phase + gain * error, turn + follow * error
        state[3], state[4], state[5] = pp * (1.0 - gain), pw * (1.0 - gain), ww - follow * pw
        for j in range(5):
            kept[i, 5 + j] = state[1 + j]
        if i + 1 == passed:
            after[:] = state
    phase, turn = state[1], state[2]
    for i in range(count - 1, -1, -1):
        if i + 1 < count:
            step = times[i + 1] - times[i]
            a, b, c = kept[i, 7], kept[i, 8], kept[i, 9]  # filtered covariance
            pp, pw, ww = kept[i + 1, 2], kept[i + 1, 3], kept[i + 1, 4]
            inverse = 1.0 / max(pp * ww - pw * pw, 1e-300)
            m00, m01, m10, m11 = a + step * b, b, b + step * c, c  # P F^T
            g00, g01 = (m00 * ww - m01 * pw) * inverse, (m01 * pp - m00 * pw) * inverse
            g10, g11 = (m10 * ww - m11 * pw) * inverse, (m11 * pp - m10 * pw) * inverse
            dp, dw = phase - kept[i + 1, 0], turn - kept[i + 1, 1]
            phase = kept[i, 5] + g00 * dp + g01 * dw
            turn = kept[i, 6] + g10 * dp + g11 * dw
        phases[i] = phase
    state[:] = after


def smooth(
    state: PhaseState,
    *,
    times: FloatArray,
    matched: ComplexArray,
    energy: FloatArray,
    walk: float,
    passed: int,
) -> tuple[FloatArray, PhaseState]:
    """Phases of consecutive symbols, and the filter's state after some of them.

    Parameters
    ----------
    state : PhaseState
        Before the first symbol.
    times : (S,) float64
        Middles of the symbols, samples since the start of the burst.
    matched : (S,) complex128
        Sums z.
    energy : (S,) float64
        Sums e; 0 where a symbol has no known cell.
    walk : float
        See ``frequency_walk``.
    passed : int
        Symbols after which the state is wanted.

    Returns
    -------
    phases : (S,) float64, rad
    state : PhaseState
    """
    vector = np.array([state.time, state.phase, state.turn, *state.covariance])
    phases = np.empty(len(times))
    _smooth(times, matched, energy, vector, walk, passed, phases)
    after = PhaseState(
        time=float(vector[0]),
        phase=float(vector[1]),
        turn=float(vector[2]),
        covariance=vector[3:].copy(),
    )
    return phases, after

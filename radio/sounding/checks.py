r"""Plausibility checks of a sounding: power contrast, lack of fit, compression.

An estimator that is given another signal than it assumes still returns numbers. Two quantities
that the capture holds anyway show it, and a third names the most frequent cause.

*Power contrast*: the power within the bursts less that in the gaps, against the power that the
estimated gain explains. The capture is folded to one frame; stationary noise and interference
cancel in the difference.

.. math:: c = \frac{\overline{|y|^2}_\text{burst} - \overline{|y|^2}_\text{gap}}{\hat g\, b} - 1

*Lack of fit*: the part of the least-squares response that no channel of 16 taps explains, per
degree of freedom and in units of its variance,

.. math:: F = \frac{\sum_k |\hat H_{LS,k} - \hat H_k|^2}{(200 - 16)\,(v + v_q)}, \qquad
          v_q = \frac{200}{256} \cdot 2 \cdot \frac{2^{-22}}{12}

with the variance :math:`v` of the least-squares response. The error :math:`v_q` of a 12-bit
converter repeats from pilot to pilot, so neither averaging nor the noise estimate holds it. F is
near 1 for a clean capture, 5 and more at a wrong carrier offset, tens in saturation, hundreds with
late paths or a spur on a carrier.

*Compression*: saturation is told from other misfits by the form of the residual. With the fitted
waveform :math:`x` of a pilot, the residual is regressed on :math:`x|x|^2` less its own projection
on 16 taps; the coefficient :math:`\beta` gives the compression
:math:`-\beta\, \overline{|x|^4} / \overline{|x|^2}` of the amplitude. One coefficient is found far
below the noise of 184.

A finding widens the uncertainty of the gain: by :math:`|c|`; by :math:`\rho` for a share
:math:`\rho` of the energy that is not explained, which may be the link's, and by
:math:`2 \sqrt{16 \rho / 184}`, since as much per dimension lies within the 16 of the fit, where it
adds to the amplitude; and by the compression. Beyond ``REFUSED_CONTRAST_DB``, ``REFUSED_SHARE`` or
``SATURATED_DB`` the sounding is refused. This project's rules; docs/explanation/radio.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.radio.sounding import pilots
from siftmoe.radio.sounding.bounds import noise_relative_std
from siftmoe.radio.sounding.estimation import tap_limited
from siftmoe.radio.sounding.signal import FRAME_LENGTH, burst_mean_square
from siftmoe.radio.units import linear_to_db

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.sounding.estimation import ChannelEstimate

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]

#: Contrast that is refused, either way: a wrong carrier offset leaves 7.9 dB and more.
REFUSED_CONTRAST_DB: Final = 3.0
#: Share of unexplained energy that is refused: it makes the gain uncertain by 2 dB.
REFUSED_SHARE: Final = 0.5
_REFUSED_RATIO: Final = 10.0 ** (REFUSED_CONTRAST_DB / 10.0)
#: Contrast that filters and echoes cause at high SNR, 0.25 dB.
_CONTRAST_FLOOR: Final = 0.06
#: Share that is never an error of the fit: fractional delays and fading leave -40 dB.
_SHARE_FLOOR: Final = 1e-4
#: Contrast and lack of fit count from so many of their standard deviations on.
_CONTRAST_SIGMAS: Final = 4.0
_FIT_SIGMAS: Final = 6.0
#: Samples after a burst that hold its echoes, and before the next one that hold early paths.
_ECHO, _EARLY = 64, 32
_GAP: Final = FRAME_LENGTH - pilots.BURST_LENGTH - _ECHO - _EARLY
#: Compression that is refused: the receiver saturates.
SATURATED_DB: Final = 0.5
#: Part of the misfit beyond noise that compression must explain; any other misfit leaves 1/184.
_COMPRESSING: Final = 0.2
_COMPRESSION_SIGMAS: Final = 6.0
#: Variance of the response by the steps of a 12-bit converter of full scale 1.
_STEP_VARIANCE: Final = pilots.USED_CARRIERS / pilots.FFT_SIZE * 2.0 * (2.0**-11) ** 2 / 12.0
_FREEDOM: Final = pilots.USED_CARRIERS - pilots.MAX_TAPS
#: Stands for the gain where noise leaves none.
_LEAST_GAIN: Final = 1e-30


@dataclass(frozen=True, slots=True, kw_only=True)
class Checks:
    """Result of the checks of one sounding.

    Parameters
    ----------
    contrast, contrast_std : float
        Power contrast, and its standard deviation in noise; 0 is clean.
    fit, fit_std : float
        Lack of fit, mean over the bursts, and its standard deviation in noise; 1 is clean.
    share : float
        Share of the burst's energy that a channel of 16 taps does not explain, beyond noise.
    compression : float
        Part of the amplitude that saturation takes away; 0 unless the misfit has its form.
    level_dbfs : float, dB
        Level of the burst relative to full scale.
    """

    contrast: float
    contrast_std: float
    fit: float
    fit_std: float
    share: float
    compression: float
    level_dbfs: float

    @property
    def relative_std(self) -> float:
        """Uncertainty that the findings add to the gain, relative to it; 0 if it is clean."""
        return math.hypot(self._contrast_excess, self._fit_excess, 2.0 * self.compression)

    @property
    def refused(self) -> bool:
        """Whether the gain is not usable at all."""
        if (
            self._contrast_excess
            and not 1.0 / _REFUSED_RATIO < 1.0 + self.contrast < _REFUSED_RATIO
        ):
            return True
        return self._share_excess > REFUSED_SHARE

    @property
    def saturated(self) -> bool:
        """Whether the receiver saturates."""
        return self.compression_db > SATURATED_DB

    @property
    def compression_db(self) -> float:
        """What saturation takes from the gain, dB; for a strong one a lower bound."""
        return 20.0 * math.log10(1.0 + self.compression)

    @property
    def reason(self) -> str:
        """Findings in words; empty if it is clean."""
        found = []
        if self._contrast_excess > 0.0:
            found.append(
                f"the bursts hold {_in_db(1.0 + self.contrast)} of the power that the estimated "
                "gain explains (wrong carrier offset, another transmitter, or late paths)"
            )
        if self._fit_excess > 0.0 or self.compression > 0.0:
            cause = "interference or late paths"
            if self.compression:
                cause = f"saturation, which takes {self.compression_db:.1f} dB or more of the gain"
            found.append(
                f"the response does not fit a channel of {pilots.MAX_TAPS} taps (lack of fit "
                f"{self.fit:.1f}, {_in_db(self.share)} of its energy: {cause})"
            )
        return "; ".join(found)

    @property
    def _contrast_excess(self) -> float:
        limit = max(_CONTRAST_FLOOR, _CONTRAST_SIGMAS * self.contrast_std)
        return abs(self.contrast) if abs(self.contrast) > limit else 0.0

    @property
    def _share_excess(self) -> float:
        misfit = self.fit > 1.0 + _FIT_SIGMAS * self.fit_std
        return self.share if misfit and self.share > _SHARE_FLOOR else 0.0

    @property
    def _fit_excess(self) -> float:
        share = self._share_excess
        return math.hypot(2.0 * math.sqrt(share * pilots.MAX_TAPS / _FREEDOM), share)


def check(samples: ComplexArray, got: ChannelEstimate, *, start: int, sequence: int = 0) -> Checks:
    """Check the estimates from a capture against the capture.

    Parameters
    ----------
    samples : (n,) complex
        Whole capture, its mean removed, at least one frame.
    got : ChannelEstimate
        Of the bursts in it, one row each.
    start : int
        Sample at which a burst starts.
    sequence : int
        Of the burst, see `pilots`.
    """
    frames = len(samples) // FRAME_LENGTH
    gain = max(float(got.gain.mean()), _LEAST_GAIN)
    gain_std = math.sqrt(float(np.sum(got.gain_std**2))) / len(got.gain_std)
    explained = gain * burst_mean_square(sequence)
    burst, gap = _folded(samples, start=start)
    signal = max(burst - gap, explained)
    variance = (2.0 * signal * gap + gap**2) / pilots.BURST_LENGTH + gap**2 / _GAP
    misfit = np.sum(np.abs(got.response_ls - got.response) ** 2, axis=-1)  # [n]
    expected = _FREEDOM * (got.response_ls_variance + _STEP_VARIANCE)
    unexplained = float(np.mean(misfit - expected)) / pilots.USED_CARRIERS
    return Checks(
        contrast=(burst - gap) / explained - 1.0,
        contrast_std=math.hypot(math.sqrt(variance / frames) / explained, gain_std / gain),
        fit=float(np.mean(misfit / expected)),
        fit_std=math.hypot(1.0 / math.sqrt(_FREEDOM), noise_relative_std())
        / math.sqrt(len(misfit)),
        share=max(0.0, unexplained) / gain,
        compression=_compression(got, sequence, expected=expected, misfit=misfit),
        level_dbfs=linear_to_db(signal),
    )


def _compression(
    got: ChannelEstimate, sequence: int, *, expected: FloatArray, misfit: FloatArray
) -> float:
    """Relative loss of amplitude by saturation; 0 if the residual has another form."""
    carriers, symbols = pilots.carriers(), pilots.pilot_symbols(sequence)
    grid = np.zeros((len(got.response), pilots.FFT_SIZE), dtype=np.complex128)
    grid[:, carriers] = got.response * symbols
    wave = np.fft.ifft(grid)  # [n, 256]
    power = np.abs(wave) ** 2
    cubic = np.fft.fft(wave * power)[:, carriers] / symbols
    cubic -= tap_limited(cubic)  # what a channel would explain of it
    common = np.vdot(cubic, got.response_ls - got.response)
    energy = float(np.vdot(cubic, cubic).real)
    found = abs(common) ** 2 / energy  # energy of the residual that it explains
    noise = float(np.mean(expected)) / _FREEDOM
    beyond = max(0.0, float(np.sum(misfit - expected)))
    if found < max(_COMPRESSION_SIGMAS**2 * noise, _COMPRESSING * beyond):
        return 0.0
    return max(0.0, -float(common.real) / energy * float(np.mean(power**2) / np.mean(power)))


def _folded(samples: ComplexArray, *, start: int) -> tuple[float, float]:
    """Mean powers within the bursts and within the gaps, over whole frames."""
    frames = len(samples) // FRAME_LENGTH
    power = np.abs(samples[: frames * FRAME_LENGTH].reshape(frames, FRAME_LENGTH)) ** 2
    folded = np.roll(power.mean(axis=0), -start)
    gap = folded[pilots.BURST_LENGTH + _ECHO : FRAME_LENGTH - _EARLY]
    return float(folded[: pilots.BURST_LENGTH].mean()), float(gap.mean())


def _in_db(ratio: float) -> str:
    return f"{linear_to_db(ratio):+.1f} dB" if ratio > 0.0 else "none"

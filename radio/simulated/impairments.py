r"""Imperfections of a simulated radio that a sounding has to cope with; none by default.

At the receiver, in this order:

.. math:: y_1[n] = y((n - n_0) / (1 + \epsilon) + n_0)\, e^{j\varphi[n]} + i[n], \qquad
          y_2 = y_1 + \beta\, y_1^*, \qquad
          y_3 = \frac{y_2}{\left(1 + |y_2 / A|^{2p}\right)^{1/2p}} + D

with the sample clock's error :math:`\epsilon` from the start :math:`n_0` of a capture on, phase
noise :math:`\varphi`, interferers :math:`i`, the I/Q image :math:`\beta`, soft saturation at
:math:`A` (Rapp, p = 1.5) and a DC offset :math:`D`. A transmitter has the phase noise only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.radio.channel.fading import GaussMarkovProcess, stream_key
from siftmoe.radio.units import db_to_linear, dbm_to_watt

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Lag at which the correlation of the phase noise's process is one half: a loop of some kilohertz.
PHASE_NOISE_S: Final = 1e-4
_RAPP: Final = 1.5
#: Streams of a device: 0 to 2 are fading's and noise.
_PHASE_STREAM, _INTERFERER_STREAM = 3, 16
#: Half length and shape of the interpolator between samples.
_HALF, _BETA = 16, 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Interferer:
    """A signal at a receiver's port that no device of the air sends.

    Parameters
    ----------
    carrier_hz : float, Hz
    power_dbm : float, dBm
        At the receiver's port, while it is on.
    bandwidth_hz : float, Hz
        Between the half-power points of its noise; 0 is an unmodulated carrier.
    period_s : float, s
        Of its pulses; 0 is a continuous signal.
    duty : float
        Share of a period that it is on.
    """

    carrier_hz: float
    power_dbm: float
    bandwidth_hz: float = 0.0
    period_s: float = 0.0
    duty: float = 0.5

    def samples(
        self, clocks: IntArray, *, carrier_hz: float, sample_rate_hz: float, key: int
    ) -> ComplexArray | None:
        """Field at the port of a receiver on a carrier, sqrt(W); None if it is out of band."""
        offset_hz = self.carrier_hz - carrier_hz
        if abs(offset_hz) > 0.5 * sample_rate_hz:
            return None
        turns = np.mod(offset_hz / sample_rate_hz * clocks, 1.0)
        field_v = math.sqrt(dbm_to_watt(self.power_dbm)) * np.exp(2j * math.pi * turns)
        times_s = clocks / sample_rate_hz
        if self.bandwidth_hz:
            # Spectrum of the process: Lorentzian, half power at ln 2 / (4 pi T) on either side.
            lag_s = math.log(2.0) / (2.0 * math.pi * self.bandwidth_hz)
            field_v *= GaussMarkovProcess(key=key, coherence_time_s=lag_s).response(times_s)
        if self.period_s:
            field_v *= np.mod(times_s, self.period_s) < self.duty * self.period_s
        return np.asarray(field_v)


@dataclass(frozen=True, slots=True, kw_only=True)
class Impairments:
    """Imperfections of one device.

    Parameters
    ----------
    dc_dbfs : float or None, dB
        DC offset of the receiver's converter relative to full scale; None is none.
    image_db : float or None, dB
        Level of the receiver's I/Q image relative to the signal; None is none.
    phase_noise_deg : float, degrees
        RMS phase noise of the oscillator, for transmitter and receiver.
    clock_ppm : float
        Error of the receiver's sample clock beyond that of the air.
    saturation_dbfs : float or None, dB
        Level relative to full scale at which the receiver saturates softly; None is never.
    interferers : tuple of Interferer
        At the receiver's port.
    """

    dc_dbfs: float | None = None
    image_db: float | None = None
    phase_noise_deg: float = 0.0
    clock_ppm: float = 0.0
    saturation_dbfs: float | None = None
    interferers: tuple[Interferer, ...] = ()

    def interference(
        self, clocks: IntArray, *, carrier_hz: float, sample_rate_hz: float, seed: int, device: int
    ) -> ComplexArray | None:
        """Sum of the interferers at a receiver on a carrier, sqrt(W); None if there is none."""
        parts = [
            entry.samples(
                clocks,
                carrier_hz=carrier_hz,
                sample_rate_hz=sample_rate_hz,
                key=stream_key(seed=seed, link=device, stream=_INTERFERER_STREAM + index),
            )
            for index, entry in enumerate(self.interferers)
        ]
        heard = [part for part in parts if part is not None]
        return np.asarray(np.sum(heard, axis=0)) if heard else None

    def phasors(
        self, clocks: IntArray, *, sample_rate_hz: float, seed: int, device: int
    ) -> ComplexArray | None:
        """Phase noise of the oscillator as factors of modulus 1; None if there is none."""
        if not self.phase_noise_deg:
            return None
        key = stream_key(seed=seed, link=device, stream=_PHASE_STREAM)
        process = GaussMarkovProcess(key=key, coherence_time_s=PHASE_NOISE_S)
        wander = math.sqrt(2.0) * process.response(clocks / sample_rate_hz).real
        return np.asarray(np.exp(1j * math.radians(self.phase_noise_deg) * wander))

    def distorted(self, samples: ComplexArray) -> ComplexArray:
        """Apply image, saturation and DC offset to samples of full scale 1, before conversion."""
        if self.image_db is not None:
            samples = samples + math.sqrt(db_to_linear(self.image_db)) * samples.conj()
        if self.saturation_dbfs is not None:
            level = np.abs(samples) / math.sqrt(db_to_linear(self.saturation_dbfs))
            samples = samples / (1.0 + level ** (2.0 * _RAPP)) ** (0.5 / _RAPP)
        if self.dc_dbfs is not None:
            samples = samples + math.sqrt(db_to_linear(self.dc_dbfs))
        return samples


def sampling_times(start: int, count: int, *, origin: int, ppm: float) -> FloatArray:
    """Return times of a receiver's samples on the air's clock; both agree at ``origin``."""
    return np.asarray(origin + (start - origin + np.arange(count)) / (1.0 + 1e-6 * ppm))


def needed(times: FloatArray) -> tuple[int, int]:
    """Start and stop of the air's samples that `interpolated` needs for ascending times."""
    return math.floor(times[0]) - _HALF + 1, math.floor(times[-1]) + _HALF + 1


def interpolated(samples: ComplexArray, times: FloatArray) -> ComplexArray:
    """Interpolate samples of the range that `needed` gave at times, by a windowed sinc."""
    first = np.floor(times).astype(np.int64)
    steps = np.arange(1 - _HALF, _HALF + 1)
    offset = (times - first)[:, np.newaxis] - steps  # [n, 32]
    window = np.i0(_BETA * np.sqrt(np.clip(1.0 - (offset / _HALF) ** 2, 0.0, None)))
    weights = np.sinc(offset) * window / np.i0(_BETA)
    start = int(first[0]) - _HALF + 1
    columns = (first - start)[:, np.newaxis] + steps
    return np.asarray(np.sum(samples[columns] * weights, axis=1))

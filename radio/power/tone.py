r"""A test tone for a power meter or a cabled receiver, and its level at that receiver.

The tone lies an eighth of the sample rate above the carrier, away from the oscillator's leakage at
the carrier. Its level is the power in the main lobe of a windowed spectrum less the noise there:

.. math:: \overline{|y|^2}_\text{tone} = \frac{\sum_{|k - k_0| \le 8} |Y_k|^2 - 17\,\hat N}
                                             {N \sum_n w_n^2}

with a Hann window, whose lobe holds all but 10⁻⁷ of the power within 8 bins, and the median of the
other bins for the noise :math:`\hat N`.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.radio.errors import Overload, SyncFailed
from siftmoe.radio.units import db_to_linear, linear_to_db

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from siftmoe.radio.device import Radio, RadioSettings

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]

#: Level of the tone under full scale, and its period in samples.
BACK_OFF_DB: Final = 6.0
_PERIOD: Final = 8
_LENGTH: Final = 4096
#: Samples of a capture: bins of 122 Hz at 2 MS/s.
CAPTURE: Final = 16_384
_LOBE: Final = 8
#: Part of the sample rate around the carrier that holds the receiver's own oscillator leakage.
_LEAKAGE: Final = 64
#: Largest offset of two oscillators: Plutos are specified at 25 ppm each.
_OFFSET_PPM: Final = 60.0
#: Highest level at which a receiver is linear, and least SNR of the tone.
_HIGHEST_DBFS: Final = -3.0
_LEAST_SNR_DB: Final = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToneLevel:
    """Level of a tone at a receiver.

    Parameters
    ----------
    mean_square : float
        Of the tone's samples, full scale 1.
    std_db : float, dB
        Standard uncertainty of the mean over the captures.
    snr_db : float, dB
        In a band of the sample rate.
    offset_hz : float, Hz
        From the receiver's carrier.
    """

    mean_square: float
    std_db: float
    snr_db: float
    offset_hz: float

    @property
    def dbfs(self) -> float:
        """Level in dB of full scale."""
        return linear_to_db(self.mean_square)


def tone() -> ComplexArray:
    """Return samples of the tone, whole periods of it, (4096,)."""
    phase = 2.0 * math.pi * np.arange(_LENGTH) / _PERIOD
    return np.asarray(math.sqrt(db_to_linear(-BACK_OFF_DB)) * np.exp(1j * phase))


@contextmanager
def transmitting_tone(radio: Radio, settings: RadioSettings) -> Iterator[None]:
    """Send the tone while the block runs; the radio is silent afterwards, also after an error."""
    radio.tune(settings)
    try:
        radio.transmit(tone())
        yield
    finally:
        radio.silence()


def hear_tone(radio: Radio, settings: RadioSettings, *, captures: int = 8) -> ToneLevel:
    """Measure the level of a tone that another radio sends.

    Parameters
    ----------
    radio : Radio
        It is tuned by the call.
    settings : RadioSettings
    captures : int
        At least 2.

    Raises
    ------
    Overload
        If the level is too close to full scale to be linear.
    SyncFailed
        If there is no tone well above the noise.
    """
    if captures < 2:
        raise ValueError(f"hear_tone: captures must be at least 2, got {captures}")
    radio.tune(settings)
    found = [_level(radio.receive(CAPTURE), settings) for _ in range(captures)]
    levels, noises, offsets = (np.array(column) for column in zip(*found, strict=True))
    mean, noise = float(np.mean(levels)), float(np.mean(noises))
    _refuse(radio.name, settings, mean=mean, noise=noise)
    spread = float(np.std(levels, ddof=1)) / math.sqrt(captures)
    return ToneLevel(
        mean_square=mean,
        std_db=10.0 / math.log(10.0) * spread / mean,
        snr_db=linear_to_db(mean / noise),
        offset_hz=float(np.median(offsets)),
    )


def tone_power(radio: Radio, settings: RadioSettings) -> float:
    """Mean square of the strongest carrier near the tone's frequency, at a tuned radio."""
    return max(0.0, _level(radio.receive(CAPTURE), settings)[0])


def _level(samples: ComplexArray, settings: RadioSettings) -> tuple[float, float, float]:
    """Mean squares of tone and noise, and the tone's offset in Hz."""
    window = np.hanning(len(samples) + 1)[:-1]
    power = np.abs(np.fft.fft(samples * window)) ** 2 / (len(samples) * float(np.sum(window**2)))
    frequency = np.fft.fftfreq(len(samples), 1.0 / settings.sample_rate_hz)
    reach = 1e-6 * _OFFSET_PPM * settings.carrier_hz
    near = np.abs(frequency - settings.sample_rate_hz / _PERIOD) <= reach
    near &= np.abs(frequency) > settings.sample_rate_hz / _LEAKAGE  # at high carriers
    peak = int(np.argmax(np.where(near, power, -1.0)))
    lobe = np.arange(peak - _LOBE, peak + _LOBE + 1) % len(samples)
    # Bins of noise are exponentially distributed: their mean is their median over ln 2.
    per_bin = float(np.median(np.delete(power, lobe))) / math.log(2.0)
    level = float(np.sum(power[lobe])) - len(lobe) * per_bin
    return level, per_bin * len(samples), float(frequency[peak])


def _refuse(name: str, settings: RadioSettings, *, mean: float, noise: float) -> None:
    if mean > db_to_linear(_HIGHEST_DBFS):
        raise Overload(
            f"radio {name!r}: the tone is {linear_to_db(mean):.1f} dB of full scale at rx gain "
            f"{settings.rx_gain_db} dB, at most {_HIGHEST_DBFS} is linear; lower rx_gain_db or "
            "raise tx_attenuation_db"
        )
    if not mean > noise * db_to_linear(_LEAST_SNR_DB):
        snr = f"{linear_to_db(mean / noise):.1f} dB over" if mean > 0.0 else "lost in"
        raise SyncFailed(
            f"radio {name!r}: the tone is {snr} the noise, {_LEAST_SNR_DB} dB are needed; check "
            "the cable, the attenuator's value and the carrier, or raise rx_gain_db"
        )

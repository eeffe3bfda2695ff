"""Reads the bursts of a capture: search, estimates, checks, and a second search if they fail.

A remembered carrier offset that is wrong by some kilohertz still finds the burst, in a side lobe,
and the estimates confirm it. So a reading at a remembered offset counts only if its checks are
clean and its SNR is above 0 dB; otherwise the whole range is searched on the same samples, and the
better of the two readings counts.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.radio.errors import Overload, SyncFailed
from siftmoe.radio.sounding import pilots
from siftmoe.radio.sounding.checks import Checks, check
from siftmoe.radio.sounding.estimation import ChannelEstimate, estimate
from siftmoe.radio.sounding.signal import FRAME_LENGTH
from siftmoe.radio.sounding.sync import Detection, Search, acquire

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.device import RadioSettings

    ComplexArray = NDArray[np.complex128]

#: 20 ppm on either side at 2.4 GHz is 96 kHz apart; Plutos are specified at 25 ppm.
FIRST_CONTACT_PPM: Final = 50.0
#: Below this SNR the checks are too weak to confirm a remembered carrier offset.
_CONFIRMING_SNR: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Detection, estimates and checks of the bursts of one capture."""

    detection: Detection
    estimate: ChannelEstimate
    checks: Checks

    @property
    def snr(self) -> float:
        """Power of the burst over that of the noise in the sample rate, linear."""
        return float(self.estimate.gain.mean() / self.estimate.noise_power.mean())

    @property
    def confirmed(self) -> bool:
        """Whether the checks are clean, at an SNR at which they would show a wrong offset."""
        return not self.checks.reason and self.snr >= _CONFIRMING_SNR

    @property
    def _rank(self) -> tuple[bool, float]:
        return not self.checks.refused, self.detection.metric


def read(
    samples: ComplexArray,
    *,
    settings: RadioSettings,
    bursts: int,
    cfo_hz: float | None,
    sequence: int,
    pair: tuple[str, str],
) -> Reading:
    """Read a capture whose mean was removed.

    Parameters
    ----------
    samples : ((bursts + 1) * 2048,) complex
    settings : RadioSettings
        Of the receiver.
    bursts : int
    cfo_hz : float or None, Hz
        Remembered carrier offset; None searches ``FIRST_CONTACT_PPM`` at once.
    sequence : int
        Of the transmitter.
    pair : (str, str)
        Names of transmitter and receiver, for messages.

    Raises
    ------
    SyncFailed
        If no burst was found, or one whose estimates are not plausible.
    Overload
        If the receiver saturates below full scale.
    """
    wide = Search(
        sample_rate_hz=settings.sample_rate_hz,
        cfo_range_hz=1e-6 * FIRST_CONTACT_PPM * settings.carrier_hz,
        sequence=sequence,
    )
    searches = [wide]
    if cfo_hz is not None and abs(cfo_hz) <= 0.5 * settings.sample_rate_hz:
        narrow = Search(sample_rate_hz=settings.sample_rate_hz, cfo_hz=cfo_hz, sequence=sequence)
        searches.insert(0, narrow)
    best, missed = _best(samples, searches, bursts=bursts)
    if best is None:
        raise SyncFailed(
            f"no burst of {pair[0]!r} found at {pair[1]!r}: metric {missed.metric:.1f}, "
            f"{missed.threshold:.1f} needed, CFO {wide.cfo_hz:.0f} +- {wide.cfo_range_hz:.0f} Hz; "
            "check antennas and carrier, lower tx_attenuation_db or raise rx_gain_db"
        )
    _refuse_implausible(best, settings=settings, pair=pair)
    return best


def _best(
    samples: ComplexArray, searches: list[Search], *, bursts: int
) -> tuple[Reading | None, Detection]:
    """Return the first reading that is confirmed, else the best; and the last detection."""
    readings: list[Reading] = []
    for search in searches:
        detection = _acquire(samples, search)
        if detection.detected:
            readings.append(_reading(samples, detection, search, bursts=bursts))
            if readings[-1].confirmed:
                return readings[-1], detection
    best = max(readings, key=lambda reading: reading._rank, default=None)
    return best, detection


def _acquire(samples: ComplexArray, search: Search) -> Detection:
    """Find a burst before which there are as many samples as a channel has taps."""
    # Two frames hold a complete burst wherever they start.
    detection = acquire(samples[: 2 * FRAME_LENGTH], search)
    if not detection.detected or detection.start >= pilots.MAX_TAPS:
        return detection
    # At the capture's start the estimate would lack the first part of the channel's window.
    shift = FRAME_LENGTH // 2
    later = acquire(samples[shift : shift + 2 * FRAME_LENGTH], search)
    if not later.detected:
        return detection
    return replace(later, start=later.start + shift, origin=later.origin + shift)


def _reading(samples: ComplexArray, first: Detection, search: Search, *, bursts: int) -> Reading:
    """Estimates of all bursts, one row each; the capture has one frame more than bursts."""
    starts = first.origin % FRAME_LENGTH + FRAME_LENGTH * np.arange(bursts)
    rows = samples[starts[:, np.newaxis] + np.arange(pilots.BURST_LENGTH)]  # [n, 1440]
    got = estimate(
        rows,
        cfo_hz=np.full(len(rows), first.cfo_hz),
        sample_rate_hz=search.sample_rate_hz,
        sequence=search.sequence,
    )
    checks = check(samples, got, start=first.start, sequence=search.sequence)
    return Reading(detection=first, estimate=got, checks=checks)


def _refuse_implausible(
    reading: Reading, *, settings: RadioSettings, pair: tuple[str, str]
) -> None:
    checks = reading.checks
    if checks.saturated:
        raise Overload(
            f"radio {pair[1]!r}: the burst of {pair[0]!r} is distorted at "
            f"{checks.level_dbfs:.0f} dB of full scale and rx gain {settings.rx_gain_db} dB: "
            f"{checks.reason}; lower rx_gain_db or raise tx_attenuation_db"
        )
    if checks.refused:
        raise SyncFailed(
            f"a burst of {pair[0]!r} was found at {pair[1]!r}, but its estimate is not plausible: "
            f"{checks.reason}; check that nothing else transmits on the carrier, and that both "
            f"oscillators are within {FIRST_CONTACT_PPM:g} ppm of each other"
        )
    if not reading.estimate.gain.mean() > 0.0:
        raise SyncFailed(
            f"a burst of {pair[0]!r} was found at {pair[1]!r}, but its gain is below the noise of "
            "its estimate; lower tx_attenuation_db or raise rx_gain_db"
        )

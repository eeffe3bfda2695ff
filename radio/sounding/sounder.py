r"""Pilot exchange between two radios: a capture of the receiver becomes a channel state.

A Pluto has no timed transmission, so the transmitter repeats a frame (a burst and a gap), and the
receiver's capture is long enough to hold complete bursts wherever it starts. The path gain follows
from the digital gain and both references:

.. math:: g = \frac{P_{rx}}{P_{tx}} = \hat g\,
              \frac{P_{rx,0}\, 10^{-G/10}}{b\, P_{tx,0}\, 10^{-a/10}}

with the mean square :math:`b` of the samples sent. The mean of a capture, which is the receiver's
DC offset, is removed first. `checks` tells whether the estimates are plausible.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.channel.link import ChannelOrigin, ChannelState, Source, weakest
from siftmoe.radio.errors import Overload, RadioError
from siftmoe.radio.sounding import bounds
from siftmoe.radio.sounding.reading import FIRST_CONTACT_PPM, Reading, read
from siftmoe.radio.sounding.signal import (
    FRAME_LENGTH,
    Pilot,
    burst_mean_square,
    frame,
    transmit_pilot,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.device import PowerReference, Radio, RadioSettings
    from siftmoe.radio.sounding.checks import Checks
    from siftmoe.radio.sounding.estimation import ChannelEstimate
    from siftmoe.radio.sounding.sync import Detection

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]

__all__ = [
    "FIRST_CONTACT_PPM",
    "FRAME_LENGTH",
    "MAX_BURSTS",
    "Pilot",
    "Sounding",
    "frame",
    "hear",
    "sound",
    "transmit_pilot",
]

#: Most bursts of one capture; more would exceed the coherence time.
MAX_BURSTS = 30
#: Share of samples that may reach the rails: noise does so rarely, an overloaded receiver often.
MAX_CLIPPED = 1e-3
#: Full scale of a 12-bit converter.
_RAIL = 1.0 - 2.0**-11
_NEPER_PER_DB = math.log(10.0) / 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Sounding:
    """Result of one pilot exchange.

    Parameters
    ----------
    channel : ChannelState
        Path gain between the antenna ports with its uncertainty, noise at the receiver's input;
        the bandwidth is the sample rate.
    detection : Detection
        Of the first burst.
    estimate : ChannelEstimate
        One row per burst, digital units.
    checks : Checks
        Plausibility of the estimates; ``channel`` has their uncertainty already.
    cfo_hz, cfo_std_hz : float, Hz
        Mean over the bursts; the next exchange of this pair starts from it. The uncertainty covers
        noise, and phase noise as far as the bursts of this capture differ by it. It does not cover
        Doppler: a shift that is common to the capture is part of ``cfo_hz``.
    snr : float
        Power of the burst over that of the noise in the sample rate, linear.
    tx_power_w, tx_power_std_w : float, W
        Mean power of a burst at the transmitter's port, and its standard uncertainty.
    tx_power_source : Source
    carrier_hz : float, Hz
    rx_gain_db : float, dB
        Gain that the receiver took.
    """

    channel: ChannelState
    detection: Detection
    estimate: ChannelEstimate
    checks: Checks
    cfo_hz: float
    cfo_std_hz: float
    snr: float
    tx_power_w: float
    tx_power_std_w: float
    tx_power_source: Source
    carrier_hz: float
    rx_gain_db: float

    def path_response(self) -> ComplexArray:
        """Path amplitude at `pilots.carriers` for the first burst, (200,); its phase is arbitrary.

        Its mean square is the path gain.
        """
        first = self.estimate.response[0]
        scale = self.channel.gain / float(np.mean(np.abs(first) ** 2))
        return np.asarray(first * math.sqrt(scale))


def hear(
    receiver: Radio,
    pilot: Pilot,
    *,
    settings: RadioSettings,
    now_s: float,
    bursts: int = 4,
    cfo_hz: float | None = None,
    clamp_gain: bool = False,
) -> Sounding:
    """Receive a pilot that is on the air and estimate its channel.

    Parameters
    ----------
    receiver : Radio
    pilot : Pilot
    settings : RadioSettings
        Of the receiver.
    now_s : float, s
        Time of the channel state, on the caller's clock.
    bursts : int
        Bursts to average over, 1 to 30.
    cfo_hz : float or None, Hz
        CFO of this pair from an earlier exchange; None searches +-50 ppm of the carrier. A wrong
        one is noticed, and the whole range is searched.
    clamp_gain : bool
        Take the nearest gain of the receiver's range instead of refusing the gain.

    Raises
    ------
    SyncFailed
        If no burst was found, or its estimates are not plausible.
    Overload
        If the receiver clipped, or saturates below full scale.
    RadioError
        If the radio fails, or transmitter and receiver are one unit.
    """
    if not 1 <= bursts <= MAX_BURSTS:
        raise ValueError(f"sound: bursts must lie in 1..{MAX_BURSTS}, got {bursts}")
    _refuse_same_unit(pilot, receiver)
    settings = receiver.tune(settings, clamp_gain=clamp_gain)
    samples = receiver.receive((bursts + 1) * FRAME_LENGTH)
    _refuse_clipping(samples, receiver=receiver, settings=settings)
    got = read(
        samples - samples.mean(),
        settings=settings,
        bursts=bursts,
        cfo_hz=cfo_hz,
        sequence=pilot.sequence,
        pair=(pilot.transmitter, receiver.name),
    )
    channel = _channel(
        got, pilot=pilot, reference=receiver.reference, settings=settings, now_s=now_s
    )
    return Sounding(
        channel=channel,
        detection=got.detection,
        estimate=got.estimate,
        checks=got.checks,
        cfo_hz=float(got.estimate.cfo_hz.mean()),
        cfo_std_hz=_cfo_std(got.estimate),
        snr=got.snr,
        tx_power_w=pilot.tx_power_w,
        tx_power_std_w=pilot.tx_power_w * _NEPER_PER_DB * pilot.tx_power_std_db,
        tx_power_source=pilot.source,
        carrier_hz=pilot.carrier_hz,
        rx_gain_db=settings.rx_gain_db,
    )


def sound(
    transmitter: Radio,
    receiver: Radio,
    *,
    settings: RadioSettings,
    now_s: float,
    bursts: int = 4,
    cfo_hz: float | None = None,
    receiver_settings: RadioSettings | None = None,
) -> Sounding:
    """Sound one direction between two radios of this process.

    Parameters
    ----------
    transmitter, receiver : Radio
        The transmitter is silent afterwards, also after an error.
    settings : RadioSettings
        Of the transmitter, and of the receiver unless given.
    now_s, bursts, cfo_hz
        See `hear`.
    receiver_settings : RadioSettings or None

    Returns
    -------
    Sounding

    Raises
    ------
    SyncFailed
        If no burst was found, or its estimates are not plausible.
    Overload
        If the receiver clipped, or saturates below full scale.
    RadioError
        If a radio fails.
    """
    pilot = transmit_pilot(transmitter, settings)
    try:
        return hear(
            receiver,
            pilot,
            settings=receiver_settings or settings,
            now_s=now_s,
            bursts=bursts,
            cfo_hz=cfo_hz,
        )
    finally:
        transmitter.silence()


def _refuse_clipping(samples: ComplexArray, *, receiver: Radio, settings: RadioSettings) -> None:
    parts = np.abs(samples.view(np.float64))
    share = float(np.mean(parts >= _RAIL))
    if share > MAX_CLIPPED:
        raise Overload(
            f"radio {receiver.name!r}: {100 * share:.1f} % of the samples reach full scale at "
            f"rx gain {settings.rx_gain_db} dB; lower rx_gain_db or raise tx_attenuation_db"
        )


def _refuse_same_unit(pilot: Pilot, receiver: Radio) -> None:
    if pilot.serial and pilot.serial == receiver.serial:
        raise RadioError(
            f"{pilot.transmitter!r} and {receiver.name!r} are one unit, serial number "
            f"{pilot.serial!r}, and a radio does not receive itself; give each end the address of "
            "a radio of its own"
        )


def _channel(
    got: Reading,
    *,
    pilot: Pilot,
    reference: PowerReference,
    settings: RadioSettings,
    now_s: float,
) -> ChannelState:
    input_w = reference.rx_power_w(1.0, settings)
    # The estimate is per unit amplitude of the burst, whose mean square is near 1, not 1.
    scale = input_w * burst_mean_square(pilot.sequence) / pilot.tx_power_w
    gain = scale * float(got.estimate.gain.mean())
    receiver_std = _NEPER_PER_DB * reference.receiver_std_db
    relative_std = math.hypot(
        _NEPER_PER_DB * pilot.tx_power_std_db, receiver_std, got.checks.relative_std
    )
    noise_psd = input_w * float(got.estimate.noise_power.mean()) / settings.sample_rate_hz
    noise_std = bounds.noise_relative_std() / math.sqrt(len(got.estimate.noise_power))
    return ChannelState(
        gain=gain,
        noise_psd=noise_psd,
        bandwidth_hz=settings.sample_rate_hz,
        time_s=now_s,
        origin=ChannelOrigin.SOUNDED,
        gain_std=math.hypot(scale * _mean_std(got.estimate.gain_std), gain * relative_std),
        gain_source=weakest(pilot.source, reference.receiver_source),
        noise_psd_std=noise_psd * math.hypot(noise_std, receiver_std),
        noise_source=reference.receiver_source,
    )


def _cfo_std(got: ChannelEstimate) -> float:
    """Uncertainty of the mean CFO: by noise, or by the spread over the bursts if that is more."""
    by_noise, count = _mean_std(got.cfo_std_hz), len(got.cfo_hz)
    if count < 2:
        return by_noise
    return max(by_noise, float(np.std(got.cfo_hz, ddof=1)) / math.sqrt(count))


def _mean_std(stds: FloatArray) -> float:
    """Uncertainty of the mean of independent estimates."""
    return float(np.sqrt(np.sum(stds**2)) / len(stds))

r"""Pilot exchange between two radios: a capture of the receiver becomes a channel state.

A Pluto has no timed transmission, so the transmitter repeats a frame (a burst and a gap), and the
receiver's capture is long enough to hold complete bursts wherever it starts. The path gain follows
from the digital gain and both references:

.. math:: g = \frac{P_{rx}}{P_{tx}} = \hat g\,
              \frac{P_{rx,0}\, 10^{-G/10}}{b\, P_{tx,0}\, 10^{-a/10}}

with the mean square :math:`b` of the samples sent.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.channel.link import ChannelOrigin, ChannelState
from siftmoe.radio.errors import Overload, SyncFailed
from siftmoe.radio.sounding import pilots
from siftmoe.radio.sounding.estimation import ChannelEstimate, estimate
from siftmoe.radio.sounding.signal import (
    FRAME_LENGTH,
    Pilot,
    burst_mean_square,
    frame,
    transmit_pilot,
)
from siftmoe.radio.sounding.sync import Detection, Search, acquire

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.device import PowerReference, Radio, RadioSettings

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
#: 20 ppm on either side at 2.4 GHz is 96 kHz apart; Plutos are specified at 25 ppm.
FIRST_CONTACT_PPM = 50.0
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
    cfo_hz, cfo_std_hz : float, Hz
        Mean over the bursts; the next exchange of this pair starts from it.
    snr : float
        Power of the burst over that of the noise in the sample rate, linear.
    tx_power_w : float, W
        Mean power of a burst at the transmitter's port.
    carrier_hz : float, Hz
    """

    channel: ChannelState
    detection: Detection
    estimate: ChannelEstimate
    cfo_hz: float
    cfo_std_hz: float
    snr: float
    tx_power_w: float
    carrier_hz: float

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
        CFO of this pair from an earlier exchange; None searches +-50 ppm of the carrier.

    Raises
    ------
    SyncFailed
        If no burst was found.
    Overload
        If the receiver clipped.
    RadioError
        If the radio fails.
    """
    if not 1 <= bursts <= MAX_BURSTS:
        raise ValueError(f"sound: bursts must lie in 1..{MAX_BURSTS}, got {bursts}")
    receiver.tune(settings)
    samples = receiver.receive((bursts + 1) * FRAME_LENGTH)
    _refuse_clipping(samples, receiver=receiver, settings=settings)
    first = _acquire(samples, settings=settings, cfo_hz=cfo_hz, pair=(pilot, receiver))
    got = _estimate(samples, first, bursts=bursts, sample_rate_hz=settings.sample_rate_hz)
    return Sounding(
        channel=_channel(
            got, pilot=pilot, reference=receiver.reference, settings=settings, now_s=now_s
        ),
        detection=first,
        estimate=got,
        cfo_hz=float(got.cfo_hz.mean()),
        cfo_std_hz=_mean_std(got.cfo_std_hz),
        snr=float(got.gain.mean() / got.noise_power.mean()),
        tx_power_w=pilot.tx_power_w,
        carrier_hz=pilot.carrier_hz,
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
        If no burst was found.
    Overload
        If the receiver clipped.
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


def _acquire(
    samples: ComplexArray,
    *,
    settings: RadioSettings,
    cfo_hz: float | None,
    pair: tuple[Pilot, Radio],
) -> Detection:
    search = Search(
        sample_rate_hz=settings.sample_rate_hz,
        cfo_hz=cfo_hz or 0.0,
        cfo_range_hz=1e-6 * FIRST_CONTACT_PPM * settings.carrier_hz if cfo_hz is None else 0.0,
    )
    # Two frames hold a complete burst wherever they start.
    detection = acquire(samples[: 2 * FRAME_LENGTH], search)
    if not detection.detected:
        raise SyncFailed(
            f"no burst of {pair[0].transmitter!r} found at {pair[1].name!r}: metric "
            f"{detection.metric:.1f}, {detection.threshold:.1f} needed, CFO "
            f"{search.cfo_hz:.0f} +- {search.cfo_range_hz:.0f} Hz; check antennas and carrier, "
            "lower tx_attenuation_db or raise rx_gain_db"
        )
    return detection


def _estimate(
    samples: ComplexArray, first: Detection, *, bursts: int, sample_rate_hz: float
) -> ChannelEstimate:
    """Estimates of all bursts, one row each; the capture has one frame more than bursts."""
    starts = first.origin % FRAME_LENGTH + FRAME_LENGTH * np.arange(bursts)
    rows = samples[starts[:, np.newaxis] + np.arange(pilots.BURST_LENGTH)]  # [n, 1440]
    return estimate(rows, cfo_hz=np.full(len(rows), first.cfo_hz), sample_rate_hz=sample_rate_hz)


def _channel(
    got: ChannelEstimate,
    *,
    pilot: Pilot,
    reference: PowerReference,
    settings: RadioSettings,
    now_s: float,
) -> ChannelState:
    input_w = reference.rx_power_w(1.0, settings)
    # The estimate is per unit amplitude of the burst, whose mean square is near 1, not 1.
    scale = input_w * burst_mean_square() / pilot.tx_power_w
    gain = scale * float(got.gain.mean())
    if not gain > 0.0:
        raise SyncFailed("a burst was found but its gain is below the noise of its estimate")
    reference_std = (
        gain * _NEPER_PER_DB * math.hypot(pilot.tx_power_std_db, reference.receiver_std_db)
    )
    return ChannelState(
        gain=gain,
        noise_psd=input_w * float(got.noise_power.mean()) / settings.sample_rate_hz,
        bandwidth_hz=settings.sample_rate_hz,
        time_s=now_s,
        origin=ChannelOrigin.SOUNDED,
        gain_std=math.hypot(scale * _mean_std(got.gain_std), reference_std),
    )


def _mean_std(stds: FloatArray) -> float:
    """Uncertainty of the mean of independent estimates."""
    return float(np.sqrt(np.sum(stds**2)) / len(stds))

"""Parts of the ``sound`` messages, with the bounds of every field."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

#: Longest transmission: a pilot exchange takes milliseconds, and a forgotten one ends by itself.
MAX_SOUND_S: Final = 60.0
MAX_RESPONSE_BYTES: Final = 8 * 1_024

Hertz = Annotated[float, Meta(gt=0.0, le=1e12)]


class Burst(Struct, frozen=True, kw_only=True):
    """Settings of a pilot exchange, as in `siftmoe.radio.device.RadioSettings`.

    Parameters
    ----------
    carrier_hz, sample_rate_hz : float, Hz
    tx_attenuation_db, rx_gain_db : float, dB
        Of the agent's radio.
    count : int
        Bursts to average over.
    cfo_hz : float or None, Hz
        Known carrier frequency offset between the two radios.
    """

    carrier_hz: Hertz
    sample_rate_hz: Hertz
    tx_attenuation_db: Annotated[float, Meta(ge=0.0, le=100.0)]
    rx_gain_db: Annotated[float, Meta(ge=-100.0, le=100.0)]
    count: Annotated[int, Meta(ge=1, le=30)] = 4
    cfo_hz: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None


class PilotPower(Struct, frozen=True, kw_only=True):
    """Power of a pilot at the transmitter's port, which a receiver needs to find the path gain.

    Parameters
    ----------
    tx_power_w : float, W
    tx_power_std_db : float, dB
    source : str
        How the power was obtained.
    """

    tx_power_w: Annotated[float, Meta(gt=0.0, le=1e6)]
    tx_power_std_db: Annotated[float, Meta(ge=0.0, le=100.0)]
    source: Literal["measured", "derived", "modelled"]


class Heard(Struct, frozen=True, kw_only=True):
    """Channel estimate of a pilot; units of :class:`siftmoe.radio.channel.link.ChannelState`.

    Parameters
    ----------
    gain, gain_std, noise_psd, bandwidth_hz
        Of the channel state.
    age_s : float, s
        Time from the capture to this answer.
    snr : float, linear
    cfo_hz, cfo_std_hz : float, Hz
    response : bytes
        Path amplitude at the burst's subcarriers, complex64.
    """

    gain: Annotated[float, Meta(gt=0.0, le=1e6)]
    gain_std: Annotated[float, Meta(ge=0.0, le=1e6)]
    noise_psd: Annotated[float, Meta(gt=0.0, le=1.0)]
    bandwidth_hz: Hertz
    age_s: Annotated[float, Meta(ge=0.0, le=MAX_SOUND_S)]
    snr: Annotated[float, Meta(ge=0.0, le=1e15)]
    cfo_hz: Annotated[float, Meta(ge=-1e9, le=1e9)]
    cfo_std_hz: Annotated[float, Meta(ge=0.0, le=1e9)]
    response: Annotated[bytes, Meta(max_length=MAX_RESPONSE_BYTES)] = b""

    def __post_init__(self) -> None:
        if len(self.response) % 8:
            raise ValueError(f"response of {len(self.response)} bytes is not complex64")

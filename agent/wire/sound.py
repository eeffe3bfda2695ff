"""Parts of the ``sound`` messages, with the bounds of every field."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from msgspec import Meta, Struct

#: Longest transmission: a pilot exchange takes milliseconds, and a forgotten one ends by itself.
MAX_SOUND_S: Final = 60.0
MAX_RESPONSE_BYTES: Final = 8 * 1_024

#: Characters of a serial number, and of the reason why a gain is uncertain.
MAX_SERIAL: Final = 64
MAX_REASON: Final = 1_000

SourceName = Literal["measured", "derived", "modelled"]
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
    own_sequence : bool
        Whether a transmitter may send its own pilot sequence, which it then names. A coordinator
        that does not send this field is older and knows sequence 0 only.
    """

    carrier_hz: Hertz
    sample_rate_hz: Hertz
    tx_attenuation_db: Annotated[float, Meta(ge=0.0, le=100.0)]
    rx_gain_db: Annotated[float, Meta(ge=-100.0, le=100.0)]
    count: Annotated[int, Meta(ge=1, le=30)] = 4
    cfo_hz: Annotated[float, Meta(ge=-1e9, le=1e9)] | None = None
    own_sequence: bool = False


class PilotPower(Struct, frozen=True, kw_only=True):
    """Power of a pilot at the transmitter's port, which a receiver needs to find the path gain.

    Parameters
    ----------
    tx_power_w : float, W
    tx_power_std_db : float, dB
    source : str
        How the power was obtained.
    sequence : int
        Pilot sequence of the transmitter; that of an older one is 0.
    serial : str
        Serial number of the transmitter's radio; empty if it is not known.
    """

    tx_power_w: Annotated[float, Meta(gt=0.0, le=1e6)]
    tx_power_std_db: Annotated[float, Meta(ge=0.0, le=100.0)]
    source: SourceName
    sequence: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    serial: Annotated[str, Meta(max_length=MAX_SERIAL)] = ""


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
    gain_source, noise_source : str
        Sources of gain and noise.
    noise_psd_std : float, W/Hz
        Standard uncertainty of the noise; 0 if an older agent does not say.
    rx_gain_db : float or None, dB
        Gain that the receiver took; None if an older agent does not say.
    reason : str
        Why the gain is more uncertain than noise and calibration make it; empty if it is not.
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
    gain_source: SourceName = "derived"
    noise_source: SourceName = "derived"
    noise_psd_std: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    rx_gain_db: Annotated[float, Meta(ge=-100.0, le=100.0)] | None = None
    reason: Annotated[str, Meta(max_length=MAX_REASON)] = ""

    def __post_init__(self) -> None:
        if len(self.response) % 8:
            raise ValueError(f"response of {len(self.response)} bytes is not complex64")

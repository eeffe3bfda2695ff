"""Settings of a receiver, and what it counts."""

from __future__ import annotations

import math
from dataclasses import dataclass

from siftmoe.radio.modem.coding.code import DEFAULT_ITERATIONS
from siftmoe.radio.modem.transmitter import Format


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Settings of a receiver.

    Parameters
    ----------
    sample_rate_hz, carrier_hz : float, Hz
        The carrier tells the drift of the sample clock from the carrier offset.
    form : Format
        Of the transmitter.
    cfo_hz : float or None, Hz
        Carrier offset of the transmitter if it is known.
    cfo_range_hz : float, Hz
        Largest offset at first contact.
    doppler_hz : float, Hz
        Of the channel, for the tracking of the phase.
    iterations : int
        Of the decoder, at most.
    patience_s : float, s
        Without a header for so long, a transmitter whose offset moved away is looked for as at
        first contact, beside the search at the last offset.
    """

    sample_rate_hz: float
    carrier_hz: float
    form: Format = Format()  # noqa: RUF009  frozen
    cfo_hz: float | None = None
    cfo_range_hz: float = 120e3
    doppler_hz: float = 5.0
    iterations: int = DEFAULT_ITERATIONS
    patience_s: float = 1.0

    def __post_init__(self) -> None:
        for name in ("sample_rate_hz", "carrier_hz", "doppler_hz", "patience_s"):
            value = getattr(self, name)
            if not (value > 0.0 and math.isfinite(value)):
                raise ValueError(f"receiver: {name} must be positive, got {value}")
        reach = self.cfo_range_hz + abs(self.cfo_hz or 0.0)
        if not 0.0 <= reach <= 0.5 * self.sample_rate_hz:
            raise ValueError(
                f"receiver: an offset up to {reach} Hz is beyond half the sample rate "
                f"{self.sample_rate_hz} Hz"
            )
        if self.iterations < 1:
            raise ValueError(f"receiver: iterations must be positive, got {self.iterations}")

    @property
    def drift_per_turn(self) -> float:
        """Clock drift per rad/sample of carrier offset: one oscillator drives both."""
        return -self.sample_rate_hz / (2.0 * math.pi * self.carrier_hz)

    def turn(self, offset_hz: float) -> float:
        """Angle per sample of an offset, rad."""
        return 2.0 * math.pi * offset_hz / self.sample_rate_hz


@dataclass(slots=True)
class Counters:
    """What a receiver has met.

    Parameters
    ----------
    detected, headers, payloads, blocks, lost_blocks : int
        Detections; headers, payloads and blocks that were received; blocks that were not.
    """

    detected: int = 0
    headers: int = 0
    payloads: int = 0
    blocks: int = 0
    lost_blocks: int = 0

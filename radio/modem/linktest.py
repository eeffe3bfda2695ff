"""A link test between two radios: one repeats a burst, the other receives and counts.

It needs nothing but the ``Radio`` protocol, so it runs on the simulated air and on Plutos, emulated
or real. One direction; nothing answers. Repetitions are not combined: each burst counts by itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.radio.modem.framing.layout import layout_of
from siftmoe.radio.modem.receiving.memory import SoftMemory
from siftmoe.radio.modem.receiving.receiver import Receiver
from siftmoe.radio.modem.receiving.settings import Settings
from siftmoe.radio.modem.symbols.information import shannon_gap
from siftmoe.radio.modem.symbols.schemes import SCHEMES
from siftmoe.radio.modem.transmitter import Format, announce, burst
from siftmoe.radio.sounding import pilots
from siftmoe.radio.units import db_to_linear

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.channel.link import Source
    from siftmoe.radio.device import Radio, RadioSettings
    from siftmoe.radio.modem.framing.header import Header
    from siftmoe.radio.modem.receiving.reception import Reception

    ComplexArray = NDArray[np.complex128]

#: Mean power of a burst below full scale; one sample in some 10,000 is clipped then.
BACK_OFF_DB = 9.0
#: Silence between repetitions: the search needs some samples behind the start of a burst.
_GAP = 1024
#: Samples of one ``receive`` at most: 0.1 s at 2 MS/s. More bursts take several.
_CAPTURE = 200_000
_BAND = pilots.USED_CARRIERS / pilots.FFT_SIZE


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkReport:
    """Result of a link test; ratios are linear.

    Parameters
    ----------
    scheme : str
    payload_bytes : int
    bursts : int
        That were expected: each stood whole in a capture.
    headers, payloads : int
        Bursts whose header, and whose payload was received right.
    wrong : int
        Payloads that were delivered and differ from what was sent. Must be 0.
    blocks, lost_blocks : int
        Blocks of the expected bursts; those that were not received.
    airtime_s : float, s
        Of one burst.
    tx_power_w, tx_power_std_db : float, W and dB
        Mean power of a burst at the transmitter's port, and its standard uncertainty.
    tx_power_source : Source
    snr, evm : float
        Medians over the received bursts; not a number if there are none.
    cfo_hz : float, Hz
        The last.
    efficiency : float, bit/s/Hz
        Payload bits over the burst's samples, in the occupied band.
    """

    scheme: str
    payload_bytes: int
    bursts: int
    headers: int
    payloads: int
    wrong: int
    blocks: int
    lost_blocks: int
    airtime_s: float
    tx_power_w: float
    tx_power_std_db: float
    tx_power_source: Source
    snr: float
    evm: float
    cfo_hz: float
    efficiency: float

    @property
    def block_loss(self) -> float:
        """Share of the expected blocks that were lost."""
        return self.lost_blocks / self.blocks

    @property
    def throughput_bps(self) -> float:
        """Payload bits that arrived per second of airtime, gaps not counted."""
        return 8 * self.payload_bytes * self.payloads / (self.bursts * self.airtime_s)

    @property
    def energy_per_bit_j(self) -> float:
        """Radiated energy of all bursts per payload bit that arrived; infinite if none did."""
        bits = 8 * self.payload_bytes * self.payloads
        return self.bursts * self.airtime_s * self.tx_power_w / bits if bits else math.inf

    @property
    def gap(self) -> float:
        """SNR over what Shannon's capacity needs for the efficiency, margin included."""
        return shannon_gap(self.snr, self.efficiency) if self.snr > 0.0 else math.nan


def frame_of(payload: bytes, header: Header, form: Format) -> ComplexArray:
    """One burst and the gap after it, backed off from full scale and clipped to it."""
    samples = burst(payload, header, form).astype(np.complex128)
    samples *= math.sqrt(db_to_linear(-BACK_OFF_DB))
    samples /= np.maximum(np.abs(samples), 1.0)
    return np.concatenate([samples, np.zeros(_GAP)])


def link_test(
    transmitter: Radio,
    receiver: Radio,
    *,
    settings: RadioSettings,
    payload: bytes,
    scheme: int,
    bursts: int,
) -> LinkReport:
    """Repeat a burst from one radio and count what the other receives.

    The transmitter is silent afterwards, also after an error.

    Parameters
    ----------
    transmitter, receiver : Radio
    settings : RadioSettings
        Of both: attenuation of the transmitter, gain of the receiver.
    payload : bytes
        At least one.
    scheme : int
        Number in `schemes.SCHEMES`.
    bursts : int
        At least so many are counted.

    Raises
    ------
    ValueError
        If there is no payload or no burst.
    RadioError
        If a radio fails.
    """
    if not payload or bursts < 1:
        raise ValueError(f"link test: {len(payload)} bytes in {bursts} bursts are nothing to test")
    form = Format(sequence=pilots.sequence_of(transmitter.serial or transmitter.name))
    header = announce(payload, scheme=scheme)
    frame = frame_of(payload, header, form)
    settings = transmitter.tune(settings, clamp_gain=True)
    listening = receiver.tune(settings)
    power = float(np.mean(np.abs(frame[:-_GAP]) ** 2))
    reference = transmitter.reference
    each = max(_CAPTURE // len(frame) - 1, 1)
    counted = _Count(header, payload)
    modem = Receiver(
        Settings(
            sample_rate_hz=listening.sample_rate_hz, carrier_hz=listening.carrier_hz, form=form
        ),
        SoftMemory(capacity=1, max_age=1),  # repetitions are not added up
    )
    try:
        transmitter.transmit(frame)
        while counted.bursts < bursts:
            whole = min(each, bursts - counted.bursts)
            samples = receiver.receive((whole + 1) * len(frame))
            counted.add(modem.feed(samples), whole)
            modem.reset()
    finally:
        transmitter.silence()
    return LinkReport(
        scheme=SCHEMES[scheme].name,
        payload_bytes=len(payload),
        airtime_s=(len(frame) - _GAP) / settings.sample_rate_hz,
        tx_power_w=reference.tx_power_w(power, settings),
        tx_power_std_db=reference.std_db,
        tx_power_source=reference.source,
        efficiency=8 * len(payload) / (len(frame) - _GAP) / _BAND,
        **counted.fields(),
    )


class _Count:
    """Counts the receptions of a test."""

    def __init__(self, header: Header, payload: bytes) -> None:
        self._header, self._payload = header, payload
        self._receptions: list[Reception] = []
        self.bursts = 0

    def add(self, receptions: list[Reception], expected: int) -> None:
        """Add a capture, which holds at least ``expected`` whole bursts, one more by chance."""
        own = [r for r in receptions if r.header == self._header]
        self._receptions += own
        self.bursts += max(expected, len(own))

    def fields(self) -> dict[str, Any]:
        """Fields of the report."""
        own, blocks = self._receptions, self._blocks
        evms = [b.evm for r in own for b in r.blocks if b.received]
        received = sum(b.received for r in own for b in r.blocks)
        return {
            "bursts": self.bursts,
            "headers": len(own),
            "payloads": sum(r.payload == self._payload for r in own),
            "wrong": sum(r.payload not in (None, self._payload) for r in own),
            "blocks": self.bursts * blocks,
            "lost_blocks": self.bursts * blocks - received,
            "snr": float(np.median([r.snr for r in own])) if own else math.nan,
            "evm": float(np.median(evms)) if evms else math.nan,
            "cfo_hz": own[-1].cfo_hz if own else math.nan,
        }

    @property
    def _blocks(self) -> int:
        """Blocks of one burst."""
        layout = layout_of(self._header)
        return 0 if layout is None else len(layout.blocks)

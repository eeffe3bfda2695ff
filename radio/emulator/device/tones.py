r"""The four tone generators (DDS) of the transmitter's core.

They feed the converter while no buffer does:

.. math:: x[n] = \sum_{k=1,2} a_k^I \sin(\omega_k^I n + \varphi_k^I)
                + j\, a_k^Q \sin(\omega_k^Q n + \varphi_k^Q)

with frequencies on the grid :math:`f_s/2^{16}` of the 16-bit phase accumulators. Their scales are 0
after power-up, as a Pluto's device tree sets them.
"""

from __future__ import annotations

import errno
import math
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.emulator.device.transceiver import parse_fixed, parse_flag, parse_range
from siftmoe.radio.emulator.device.tree import Attribute, Channel, IioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]

NAMES = ("TX1_I_F1", "TX1_I_F2", "TX1_Q_F1", "TX1_Q_F2")
#: Phase accumulators have 16 bits, so tones repeat after so many samples.
PERIOD = 1 << 16


@dataclass(slots=True)
class Tone:
    """One generator."""

    frequency_hz: float
    phase_mdeg: int
    scale: float = 0.0
    enabled: bool = True

    @property
    def audible(self) -> bool:
        """Whether its output is not zero."""
        return self.enabled and self.scale != 0.0


class Tones:
    """The generators of one device.

    Parameters
    ----------
    rate_hz : callable
        The converter's sample rate now, Hz.
    changed : callable
        Called after every change.
    """

    def __init__(self, *, rate_hz: Callable[[], int], changed: Callable[[], None]) -> None:
        self._rate_hz = rate_hz
        self._changed = changed
        self.tones = [Tone(9_279_985.0, 90_000 if "_I_" in name else 0) for name in NAMES]

    @property
    def audible(self) -> bool:
        """Whether the output of any generator is not zero."""
        return any(tone.audible for tone in self.tones)

    def waveform(self) -> ComplexArray:
        """One period of the sum, clipped to full scale, (65536,)."""
        parts = [self._sum(self.tones[:2]), self._sum(self.tones[2:])]
        return np.asarray(np.clip(parts[0], -1.0, 1.0) + 1j * np.clip(parts[1], -1.0, 1.0))

    def channels(self) -> tuple[Channel, ...]:
        """Describe the generators as channels."""
        return tuple(self._channel(index) for index in range(len(NAMES)))

    def _sum(self, tones: list[Tone]) -> NDArray[np.float64]:
        total = np.zeros(PERIOD)
        for tone in tones:
            if tone.audible:
                cycles = round(tone.frequency_hz / self._rate_hz() * PERIOD)
                turns = np.arange(PERIOD) * cycles % PERIOD / PERIOD + tone.phase_mdeg / 360e3
                total += tone.scale * np.sin(2.0 * math.pi * turns)
        return total

    def _channel(self, index: int) -> Channel:
        tone, name = self.tones[index], NAMES[index]
        prefix = f"out_altvoltage{index}_{name}"

        def attribute(what: str, read: Callable[[], str]) -> Attribute:
            return Attribute(what, f"{prefix}_{what}", read, partial(self._write, tone, what))

        rate = Attribute(
            "sampling_frequency",
            "out_altvoltage_sampling_frequency",
            lambda: str(self._rate_hz()),
        )
        attributes = (
            attribute("frequency", lambda: str(round(tone.frequency_hz))),
            attribute("phase", lambda: str(tone.phase_mdeg)),
            attribute("raw", lambda: str(int(tone.enabled))),
            rate,
            attribute("scale", lambda: f"{tone.scale:.6f}"),
        )
        return Channel(f"altvoltage{index}", True, attributes, name=name)

    def _write(self, tone: Tone, what: str, text: str) -> None:
        if what == "frequency":
            tone.frequency_hz = parse_range(text, 0, self._rate_hz() // 2)
        elif what == "phase":
            tone.phase_mdeg = parse_range(text, 0, 360_000)
        elif what == "raw":
            tone.enabled = parse_flag(text)
        else:
            value = parse_fixed(text)
            if not 0.0 <= value <= 1.0:
                raise IioError(errno.EINVAL)
            tone.scale = value
        self._changed()

"""A repeated transmission of a device, and quantisation by its converters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.device import RadioSettings

    ComplexArray = NDArray[np.complex128]

CONVERTER_BITS = 12


@dataclass(frozen=True, slots=True)
class Transmission:
    """Samples that a device repeats from a clock on, with its settings."""

    settings: RadioSettings
    samples: ComplexArray
    start: int
    phase: complex = 1.0

    def emitted(self, start: int, stop: int) -> ComplexArray:
        """Return the samples sent in a range of the clock."""
        count, length = stop - start, len(self.samples)
        offset = (start - self.start) % length
        rounds = -(-(offset + count) // length)
        looped = self.samples if rounds == 1 else np.tile(self.samples, rounds)
        return looped[offset : offset + count]


def quantise(samples: ComplexArray) -> ComplexArray:
    """Clip to full scale and round to the converter's steps, I and Q on their own."""
    levels = 2 ** (CONVERTER_BITS - 1)
    parts = np.ascontiguousarray(samples, dtype=np.complex128).view(np.float64) * levels
    steps = np.clip(np.round(parts), -levels, levels - 1) / levels
    return np.asarray(steps.view(np.complex128))

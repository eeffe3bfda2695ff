"""The samples of a stream that are still needed, in one array."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Samples = NDArray[np.complex64]

_LEAST = 65536


class Stream:
    """Grows at the end and is dropped at the start, with few copies."""

    def __init__(self) -> None:
        self._buffer = np.empty(_LEAST, np.complex64)
        self._filled = 0
        #: Sample of the stream that stands first in ``samples``.
        self.base = 0

    @property
    def samples(self) -> Samples:
        """Samples that are held; valid until the next call."""
        return self._buffer[: self._filled]

    def append(self, samples: NDArray[np.complexfloating]) -> None:
        """Add samples at the end."""
        filled = self._filled + len(samples)
        if filled > len(self._buffer):
            larger = np.empty(2 * filled, np.complex64)
            larger[: self._filled] = self.samples
            self._buffer = larger
        self._buffer[self._filled : filled] = samples
        self._filled = filled

    def drop(self, count: int) -> int:
        """Forget samples at the start once they are the larger part.

        Parameters
        ----------
        count : int
            Samples that are not needed any more.

        Returns
        -------
        int
            Samples that were forgotten: ``count`` or 0.
        """
        count = min(count, self._filled)
        rest = self._filled - count
        if count < rest:
            return 0
        self._buffer[:rest] = self._buffer[count : self._filled].copy()
        self._filled = rest
        self.base += count
        if len(self._buffer) > 4 * max(rest, _LEAST):
            self._buffer = self._buffer[: max(2 * rest, _LEAST)].copy()
        return count

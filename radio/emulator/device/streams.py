"""Buffers between a client and the converters, with the ring of blocks of the real DMA.

A receive buffer starts to fill its blocks (four by default) when it is opened and stops when all
are full: the first blocks that a client reads may be old. A block is free again when the client
requests the next one. A transmit buffer plays a block as soon as the previous one has ended; a
cyclic one repeats its first block until it is closed.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import TYPE_CHECKING, Protocol

import numpy as np

from siftmoe.radio.emulator.device.tree import IioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from siftmoe.radio.emulator.device.medium import Medium

    ComplexArray = NDArray[np.complex128]

#: Steps of the receiver's converter in full scale: 12 bits, right aligned in 16.
RX_FULL_SCALE = 2048.0
#: The transmitter's converter takes 12 bits, left aligned in 16.
TX_FULL_SCALE = 32768.0
DEFAULT_BLOCKS = 4
_BYTES = 2


class FrontEnd(Protocol):
    """The part of a Pluto that a stream uses."""

    def capture(self, start: int, stop: int) -> ComplexArray:
        """Return the samples of the converter in a range of the clock, full scale 1."""
        ...

    def play(self, samples: ComplexArray, *, at: int) -> None:
        """Feed the transmitter with repeated samples from a clock on."""
        ...

    def stop_playing(self, *, at: int) -> None:
        """Stop feeding the transmitter at a clock."""
        ...

    def closed(self, stream: object) -> None:
        """Handle the end of a stream."""
        ...


class ReceiveStream:
    """A receive buffer of one client.

    Parameters
    ----------
    front : FrontEnd
    medium : Medium
    count : int
        Samples of a block.
    columns : tuple of int
        Channels wanted: 0 is I, 1 is Q.
    blocks : int
        Blocks of the ring.
    """

    def __init__(
        self,
        front: FrontEnd,
        medium: Medium,
        *,
        count: int,
        columns: tuple[int, ...],
        blocks: int = DEFAULT_BLOCKS,
    ) -> None:
        self._front, self._medium = front, medium
        self._count = count
        self.columns = columns
        start = medium.now()
        self._starts = deque(start + count * index for index in range(blocks))
        self._last = self._starts[-1]
        self._lent = False
        medium.keep(self, start)

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of the channels wanted."""
        return _BYTES * len(self.columns)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        return self._count * self.sample_bytes

    def read(self, *, alive: Callable[[], bool]) -> bytes:
        """Return the next block; EPIPE if the client leaves before it is full."""
        if self._lent:
            self._last = max(self._last + self._count, self._medium.now())
            self._starts.append(self._last)
        start = self._starts[0]
        if not self._medium.wait_until(start + self._count, alive=alive):
            raise IioError(errno.EPIPE)
        samples = self._front.capture(start, start + self._count)
        self._starts.popleft()
        self._lent = True
        self._medium.keep(self, self._starts[0] if self._starts else start)
        steps = np.round(samples.view(np.float64) * RX_FULL_SCALE).astype("<i2")
        return steps.reshape(-1, 2)[:, list(self.columns)].tobytes()

    def close(self) -> None:
        """Free the buffer."""
        self._medium.release(self)
        self._front.closed(self)


class TransmitStream:
    """A transmit buffer of one client."""

    def __init__(
        self,
        front: FrontEnd,
        medium: Medium,
        *,
        count: int,
        columns: tuple[int, ...],
        cyclic: bool,
        blocks: int = DEFAULT_BLOCKS,
    ) -> None:
        self._front, self._medium = front, medium
        self._count, self._columns, self._blocks = count, list(columns), blocks
        self.cyclic = cyclic
        self._ends: deque[int] = deque()

    @property
    def sample_bytes(self) -> int:
        """Bytes of one sample of the channels that are fed."""
        return _BYTES * len(self._columns)

    @property
    def block_bytes(self) -> int:
        """Bytes of one block."""
        return self._count * self.sample_bytes

    def write(self, data: bytes, *, alive: Callable[[], bool]) -> None:
        """Play a block, or part of one; waits while all blocks of the ring are queued.

        Raises
        ------
        IioError
            EBUSY for a second block of a cyclic buffer; EPIPE if the client has left.
        """
        if self.cyclic and self._ends:
            raise IioError(errno.EBUSY)
        while len(self._ends) >= self._blocks:
            if not self._medium.wait_until(self._ends[0], alive=alive):
                raise IioError(errno.EPIPE)
            self._ends.popleft()
        samples = self._samples(data)
        start = max([self._medium.now(), *list(self._ends)[-1:]])
        self._front.play(samples, at=start)
        self._ends.append(start + len(samples))
        if not self.cyclic:
            self._front.stop_playing(at=start + len(samples))

    def close(self) -> None:
        """Free the buffer; queued blocks are not played."""
        self._front.closed(self)

    def _samples(self, data: bytes) -> ComplexArray:
        fed = np.frombuffer(data, dtype="<i2").reshape(-1, len(self._columns))
        parts = np.zeros((len(fed), 2))
        parts[:, self._columns] = fed / TX_FULL_SCALE
        return np.asarray(parts.view(np.complex128)[:, 0])

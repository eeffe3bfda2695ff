"""The simulated air on a real clock, shared by threads.

Samples exist from their time on: a reader that is early waits, one that is late gets later samples.
Transmissions are kept for as long as a reader may still need them.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.radio.channel.multipath import AirPath
    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.simulated.air import Air

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]

#: History that is always kept: covers the longest delay on the air.
_MEMORY_S = 0.1
#: Interval at which a wait checks whether its client is still there.
_POLL_S = 0.05
#: Samples rendered at a time, which bounds how long other threads wait for the lock.
_SLICE = 1 << 15


class Medium:
    """An `Air` whose clock is real time.

    Parameters
    ----------
    air : Air
    clock : callable
        Seconds, monotonic.
    sleep : callable
        Waits so many seconds.
    """

    def __init__(
        self, air: Air, *, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self.air = air
        self._clock = clock
        self._sleep = sleep
        self._started = clock()
        self._lock = threading.RLock()
        self._wanted: dict[object, int] = {}

    @property
    def sample_rate_hz(self) -> float:
        """Rate of the air, Hz."""
        return self.air.sample_rate_hz

    def now(self) -> int:
        """Sample clock of the present."""
        return int((self._clock() - self._started) * self.air.sample_rate_hz)

    def wait_until(self, clock: int, *, alive: Callable[[], bool]) -> bool:
        """Wait for a sample clock; False as soon as ``alive`` returns False."""
        while (missing := clock - self.now()) > 0:
            if not alive():
                return False
            self._sleep(min(missing / self.air.sample_rate_hz, _POLL_S))
        return True

    def keep(self, reader: object, since: int) -> None:
        """Keep the history from a clock on for a reader."""
        with self._lock:
            self._wanted[reader] = since
            self._forget()

    def release(self, reader: object) -> None:
        """Stop keeping history for a reader."""
        with self._lock:
            self._wanted.pop(reader, None)

    def begin(
        self,
        name: str,
        settings: RadioSettings,
        samples: ComplexArray,
        *,
        at: int | None = None,
        phase: complex = 1.0,
    ) -> None:
        """Start to repeat samples from a device, now or at clock ``at``."""
        with self._lock:
            clock = self.now() if at is None else at
            self.air.begin(name, settings, samples, at=clock, phase=phase)

    def retune(self, name: str, settings: RadioSettings, *, phase: complex = 1.0) -> None:
        """Change the settings of a device's present and planned transmissions."""
        with self._lock:
            self.air.retune(name, settings, at=self.now(), phase=phase)

    def end(self, name: str, *, at: int | None = None) -> None:
        """Silence a device, now or at clock ``at``."""
        with self._lock:
            self.air.end(name, at=self.now() if at is None else at)
            self._forget()

    def connect(self, transmitter: str, receiver: str, path: AirPath) -> None:
        """Set or replace the path of one direction."""
        with self._lock:
            self.air.connect(transmitter, receiver, path)

    def hear(
        self, name: str, settings: RadioSettings, *, start: int, count: int, origin: int
    ) -> ComplexArray:
        """Return the field at a device's port in a range of a capture from origin on, sqrt(W)."""
        with self._lock:
            return self.air.field(name, settings, start=start, count=count, origin=origin)

    def gain(self, transmitter: str, receiver: str, frequencies_hz: FloatArray) -> float:
        """Return the true power gain of a direction now."""
        with self._lock:
            return self.air.gain(transmitter, receiver, frequencies_hz, at=self.now())

    def transmitting(self) -> list[str]:
        """Names of the devices that transmit now."""
        with self._lock:
            return self.air.transmitting(at=self.now())

    def radiated_w(self, name: str) -> float:
        """Mean power that a device radiates now, W; 0 if it is silent."""
        with self._lock:
            return self.air.radiated_w(name, at=self.now())

    def _forget(self) -> None:
        oldest = min([self.now(), *self._wanted.values()])
        self.air.forget(oldest - round(_MEMORY_S * self.air.sample_rate_hz))


def slices(start: int, stop: int) -> list[tuple[int, int]]:
    """Cut a range into pieces of a bounded length."""
    return [(a, min(a + _SLICE, stop)) for a in range(start, stop, _SLICE)]

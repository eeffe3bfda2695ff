"""Driver of an ADALM-Pluto over pyadi-iio and libiio.

docs/explanation/pluto.md lists their faults and the precautions against them. Two rules hold here:

- The radio is silent except between ``transmit`` and ``silence``: attenuation at its maximum, local
  oscillator down, and the tones that the hardware falls back to when a buffer closes at scale zero
  *before* a buffer is ever opened, so that a dropped connection alone silences it.
- After any error of the connection no part of it is used again; the next call connects anew and
  restores the settings.

Native code can still hang or crash: ``siftmoe.radio.opening`` runs this driver in a child process.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, TypeVar

from siftmoe.radio.device import PowerReference, RadioSettings
from siftmoe.radio.errors import BufferOverrun, DeviceNotFound, RadioError, SettingRejected
from siftmoe.radio.pluto.address import Address
from siftmoe.radio.pluto.connection import PlutoConnection
from siftmoe.radio.pluto.library import DEFAULT_TIMEOUT_S
from siftmoe.radio.pluto.settings import REFUSALS
from siftmoe.radio.pluto.values import (
    PlutoInfo,
    check_settings,
    from_converter,
    to_converter,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]

logger = logging.getLogger(__name__)
T = TypeVar("T")

#: Largest share of the timeout that a block may last; the rest is for its transfer.
_BLOCK_SHARE: Final = 0.5


class PlutoDriver:
    """One Pluto behind the ``Radio`` protocol, in this process.

    Parameters
    ----------
    uri : str
        ``ip:HOST[:PORT]`` or ``usb:BUS.DEVICE.INTERFACE``.
    timeout_s : float, s
        For one answer of the radio. Half of it is the longest block that can be received.
    reference : PowerReference or None
        Full-scale powers; typical figures, +-3 dB, unless given.
    serial : str
        Serial number that the radio must have; empty accepts any.

    Raises
    ------
    ValueError
        If the URI is not valid.
    """

    def __init__(
        self,
        uri: str,
        *,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        reference: PowerReference | None = None,
        serial: str = "",
    ) -> None:
        self._address = Address.parse(uri)
        self._timeout_s = timeout_s
        self._reference = reference or PowerReference()
        self._serial = serial
        self._settings: RadioSettings | None = None
        self._connection: PlutoConnection | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """The URI."""
        return self._address.uri

    @property
    def serial(self) -> str:
        """Serial number; empty before the first connection."""
        return self._serial

    @property
    def reference(self) -> PowerReference:
        """Full-scale powers, which convert its samples to watt."""
        return self._reference

    def open(self) -> PlutoInfo:
        """Connect unless connected, silence the radio, and return its identity and ranges.

        Raises
        ------
        DeviceNotFound
            If no Pluto answers.
        """
        with self._connected("open") as connection:
            return connection.info

    def temperature_c(self) -> float | None:
        """Temperature of the transceiver now; None if it has no sensor."""
        with self._connected("read the temperature") as connection:
            return connection.temperature_c()

    def tune(self, settings: RadioSettings, *, clamp_gain: bool = False) -> RadioSettings:
        """Set the radio and verify every value; this ends a transmission.

        Raises
        ------
        SettingRejected
            If a value was not taken; the settings are then as before.
        """
        check_settings(settings, name=self.name)
        used = self._retry_once(lambda: self._tune(settings, clamp_gain=clamp_gain))
        self._settings = used
        return used

    def transmit(self, samples: ComplexArray) -> None:
        """Repeat samples until ``silence``; an earlier transmission is replaced."""
        whole = to_converter(samples)
        settings = self._tuned()
        with self._connected("transmit") as connection:
            connection.start(whole, settings)

    def silence(self) -> None:
        """Stop transmitting."""
        self._retry_once(self._silence)

    def receive(self, count: int) -> ComplexArray:
        """Receive ``count`` consecutive samples that were not on the air before the call.

        Raises
        ------
        ValueError
            If the block would last longer than half the timeout.
        BufferOverrun
            If fewer samples arrived.
        """
        settings = self._tuned()
        self._check_block(count, settings.sample_rate_hz)
        with self._connected("receive") as connection:
            raw = connection.capture(count)
        if len(raw) < count:
            raise BufferOverrun(f"radio {self.name!r}: {len(raw)} of {count} samples came")
        return from_converter(raw)

    def close(self) -> None:
        """Silence and release the radio; a second time does nothing."""
        if self._closed:
            return
        try:
            if self._connection is not None:
                self.silence()
        finally:
            self._closed = True
            self._release()

    def _tune(self, settings: RadioSettings, *, clamp_gain: bool) -> RadioSettings:
        with self._connected("tune", undo=True) as connection:
            connection.stop()
            return connection.apply(settings, clamp_gain=clamp_gain)

    def _silence(self) -> None:
        with self._connected("silence") as connection:
            connection.stop()

    def _retry_once(self, action: Callable[[], T]) -> T:
        """Retry an idempotent action once over a fresh connection."""
        connected = self._connection is not None
        try:
            return action()
        except DeviceNotFound as error:
            if not connected:
                raise
            logger.warning("%s", error)
            return action()

    def _check_block(self, count: int, sample_rate_hz: float) -> None:
        longest = int(_BLOCK_SHARE * self._timeout_s * sample_rate_hz)
        if not 1 <= count <= longest:
            raise ValueError(
                f"radio {self.name!r}: count of samples must lie in 1..{longest} (half the timeout "
                f"of {self._timeout_s:g} s), got {count}"
            )

    def _tuned(self) -> RadioSettings:
        self._require_open()
        if self._settings is None:
            raise RadioError(f"radio {self.name!r} is not tuned yet; call tune first")
        return self._settings

    def _require_open(self) -> None:
        if self._closed:
            raise DeviceNotFound(f"radio {self.name!r} was closed; open it again")

    @contextmanager
    def _connected(self, doing: str, *, undo: bool = False) -> Iterator[PlutoConnection]:
        """Yield a connection, connecting if needed; its errors become ``RadioError``.

        An error of the connection ends it. With ``undo`` a refused value ends it, too: the next
        connection restores the settings.
        """
        self._require_open()
        try:
            if self._connection is None:
                self._connection = self._connect()
            yield self._connection
        except OSError as error:
            self._release()
            raise self._translated(error, doing) from None
        except RadioError:
            if undo:
                self._release()
            raise

    def _translated(self, error: OSError, doing: str) -> RadioError:
        if error.errno in REFUSALS:
            return SettingRejected(f"radio {self.name!r}: {doing}: {error.strerror}")
        if isinstance(error, TimeoutError):
            return DeviceNotFound(
                f"radio {self.name!r}: {doing}: no answer within {self._timeout_s:g} s; the next "
                "call connects anew"
            )
        return DeviceNotFound(
            f"radio {self.name!r}: {doing}: connection lost ({error.strerror or error}); the next "
            "call connects anew"
        )

    def _connect(self) -> PlutoConnection:
        connection = PlutoConnection(self._address, timeout_s=self._timeout_s)
        try:
            self._check_serial(connection.info.serial)
            if self._settings is not None:
                connection.apply(self._settings)
        except BaseException:
            connection.release()
            raise
        logger.debug("radio %r: connected and silent", self.name)
        return connection

    def _check_serial(self, serial: str) -> None:
        """Refuse another unit than before: its powers and its oscillator differ."""
        if self._serial and serial != self._serial:
            raise DeviceNotFound(
                f"radio {self.name!r}: serial number {serial!r} answers, expected "
                f"{self._serial!r}; open it as another radio"
            )
        self._serial = serial

    def _release(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

"""The driver of an ADALM-Pluto: pyadi-iio and libiio with every precaution they need.

What goes wrong with them, and what is done about it, is listed in docs/pluto.md. Two rules are
worth knowing here:

- The radio is silent except between ``transmit`` and ``silence``: attenuation at its maximum, local
  oscillator down, and the tones that the hardware falls back to when a buffer closes at scale zero
  *before* a buffer is ever opened, so that a dropped connection alone silences it.
- After any error of the connection nothing of it is used again. Buffers and context are destroyed
  by hand in that order, because libiio crashes if Python frees them in another one; the next call
  connects anew and restores the settings.

Native code can still hang or crash: ``siftmoe.radio.opening`` runs this driver in a process of its
own.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from siftmoe.radio.device import PowerReference, RadioSettings
from siftmoe.radio.errors import BufferOverrun, DeviceNotFound, RadioError, SettingRejected
from siftmoe.radio.pluto import (
    DEFAULT_TIMEOUT_S,
    connect,
    describe,
    destroy_buffer,
    destroy_context,
    open_pluto,
    oscillator,
    quieten,
    silence_context,
    temperature,
)
from siftmoe.radio.pluto_address import Address
from siftmoe.radio.pluto_settings import (
    REFUSALS,
    apply_attenuation,
    apply_rate,
    apply_settings,
)
from siftmoe.radio.pluto_values import (
    PlutoInfo,
    check_settings,
    from_converter,
    to_converter,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]

logger = logging.getLogger(__name__)

#: A block takes so much of the timeout at most; the rest is for its way over the network.
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
        Serial number that the radio must have; any if empty.

    Raises
    ------
    ValueError
        If the URI is none.
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
        self._info: PlutoInfo | None = None
        self._pluto: Any = None
        self._context: Any = None
        self._buffers: list[Any] = []
        self._rate_hz: float | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """The URI."""
        return self._address.uri

    @property
    def reference(self) -> PowerReference:
        """What its samples mean in watt."""
        return self._reference

    def open(self) -> PlutoInfo:
        """Connect unless connected, silence the radio, and return what it says about itself.

        Raises
        ------
        DeviceNotFound
            If no Pluto answers.
        """
        with self._talking("open") as pluto:
            self._info = describe(self._context, pluto._ctrl)
            return self._info

    def temperature_c(self) -> float | None:
        """Temperature of the transceiver now; None if this one has no sensor."""
        with self._talking("read the temperature") as pluto:
            return temperature(pluto._ctrl)

    def tune(self, settings: RadioSettings) -> None:
        """Set the radio and read back what it took; ends a transmission.

        Raises
        ------
        SettingRejected
            If a value was not taken; the settings are then as before.
        """
        check_settings(settings, name=self.name)
        with self._talking("tune", undo=True) as pluto:
            self._stop(pluto)
            self._apply(pluto, settings)
        self._settings = settings

    def transmit(self, samples: ComplexArray) -> None:
        """Send samples over and over until ``silence``; a transmission before is replaced."""
        whole = to_converter(samples)
        settings = self._tuned()
        with self._talking("transmit") as pluto:
            self._stop(pluto)
            apply_attenuation(pluto, settings, name=self.name)
            pluto.tx_cyclic_buffer = True
            pluto.tx(whole)
            self._buffers.append(pluto._txbuf)
            oscillator(pluto._ctrl).attrs["powerdown"].value = "0"  # last: all else is verified

    def silence(self) -> None:
        """Stop transmitting; over a fresh connection if the present one is broken."""
        try:
            with self._talking("silence") as pluto:
                self._stop(pluto)
        except DeviceNotFound as error:
            with self._talking("silence"):  # connecting silences
                logger.warning("%s; silenced over a fresh connection", error)

    def receive(self, count: int) -> ComplexArray:
        """Receive ``count`` consecutive samples that were not on the air before the call.

        Raises
        ------
        ValueError
            If the block would last longer than half the timeout.
        BufferOverrun
            If fewer samples came.
        """
        settings = self._tuned()
        self._check_block(count, settings.sample_rate_hz)
        with self._talking("receive") as pluto:
            # A ring of several blocks holds old ones; the DMA's own memory outlives a buffer.
            pluto.rx_buffer_size = count + count % 2  # its bus is two samples wide
            pluto._rxadc.set_kernel_buffers_count(1)
            pluto._rx_init_channels()
            self._buffers.append(pluto._rxbuf)
            pluto.rx()
            raw = pluto.rx()
            self._destroy_buffers()
        if len(raw) < count:
            raise BufferOverrun(f"radio {self.name!r}: {len(raw)} of {count} samples came")
        return from_converter(raw[:count])

    def close(self) -> None:
        """Silence and release the radio; a second time does nothing."""
        if self._closed:
            return
        try:
            if self._pluto is not None:
                self.silence()
        finally:
            self._closed = True
            self._release()

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
    def _talking(self, doing: str, *, undo: bool = False) -> Iterator[Any]:
        """Connect if need be; an error of the connection ends it and becomes a ``RadioError``.

        With ``undo`` a refused value ends the connection, too: the next one restores the settings.
        """
        self._require_open()
        try:
            if self._pluto is None:
                self._connect()
            yield self._pluto
        except OSError as error:
            self._release()
            raise self._translated(error, doing) from None
        except RadioError:
            if undo or self._pluto is None:
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

    def _connect(self) -> None:
        self._context = connect(self._address, timeout_s=self._timeout_s)
        silence_context(self._context)
        self._check_serial(self._context.attrs.get("hw_serial", ""))
        pluto = open_pluto(self._context, self.name)
        pluto.rx_enabled_channels = [0]
        pluto.tx_enabled_channels = [0]
        if self._settings is not None:
            self._apply(pluto, self._settings)
        self._pluto = pluto
        logger.debug("radio %r: connected and silent", self.name)

    def _check_serial(self, serial: str) -> None:
        """Refuse another unit than before: its powers and its clock are not the same."""
        if self._serial and serial != self._serial:
            raise DeviceNotFound(
                f"radio {self.name!r}: serial number {serial!r} answers, expected "
                f"{self._serial!r}; open it as another radio"
            )
        self._serial = serial

    def _apply(self, pluto: Any, settings: RadioSettings) -> None:
        if self._rate_hz != settings.sample_rate_hz:  # loads a filter, so not without need
            apply_rate(pluto, settings.sample_rate_hz, name=self.name)
            self._rate_hz = settings.sample_rate_hz
        apply_settings(pluto, settings, name=self.name, info=self._info)

    def _stop(self, pluto: Any) -> None:
        """Quiet before the buffer closes, since the hardware then falls back to its tones."""
        quieten(pluto._ctrl)
        self._destroy_buffers()

    def _destroy_buffers(self) -> None:
        if self._pluto is not None:
            self._buffers += [self._pluto._rxbuf, self._pluto._txbuf]
            self._pluto._rxbuf = self._pluto._txbuf = None
        for buffer in self._buffers:
            destroy_buffer(buffer)
        self._buffers.clear()

    def _release(self) -> None:
        """Destroy buffers, then the context, whoever still refers to them."""
        self._destroy_buffers()
        self._pluto, self._rate_hz = None, None
        context, self._context = self._context, None
        destroy_context(context)

"""One connection to a Pluto: silent from the start, discarded as a whole after any error.

It owns the context and the buffers. It destroys the buffers first and the context last, also while
other objects refer to them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siftmoe.radio.errors import SettingRejected
from siftmoe.radio.pluto.library import (
    connect,
    describe,
    destroy_buffer,
    destroy_context,
    open_pluto,
    power_oscillator,
    quieten,
    silence_context,
    temperature,
)
from siftmoe.radio.pluto.settings import apply_attenuation, apply_rate, apply_settings, is_on

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.pluto.address import Address
    from siftmoe.radio.pluto.values import PlutoInfo

    ComplexArray = NDArray[np.complex128]


class PlutoConnection:
    """A connected, silent Pluto.

    Every method may raise ``OSError``, after which only ``release`` is left.

    Parameters
    ----------
    address : Address
    timeout_s : float, s

    Raises
    ------
    DeviceNotFound
        If no Pluto answers.
    """

    def __init__(self, address: Address, *, timeout_s: float) -> None:
        self._name = address.uri
        self._rate_hz: float | None = None
        self._sending: Any = None
        self._pluto: Any = None
        self._context = connect(address, timeout_s=timeout_s)
        try:
            silence_context(self._context)
            self._pluto = open_pluto(self._context, address.uri)
            self._pluto.rx_enabled_channels = [0]
            self._pluto.tx_enabled_channels = [0]
            self.info: PlutoInfo = describe(self._context, self._pluto._ctrl)
        except BaseException:
            self.release()
            raise

    def temperature_c(self) -> float | None:
        """Temperature of the transceiver now."""
        return temperature(self._pluto._ctrl)

    def apply(self, settings: RadioSettings, *, clamp_gain: bool = False) -> RadioSettings:
        """Set a silent radio and return how it is set; see ``Radio.tune``.

        Raises
        ------
        SettingRejected
            If a value was not taken; others may have been.
        """
        pluto, name = self._pluto, self._name
        if self._rate_hz == settings.sample_rate_hz and is_on(pluto, settings):
            return apply_settings(pluto, settings, name=name, clamp_gain=clamp_gain)
        # At a new rate or carrier the chip calibrates its transmitter, which needs the oscillator.
        power_oscillator(pluto._ctrl, on=True)
        try:
            if self._rate_hz != settings.sample_rate_hz:  # loads a filter, so not without need
                apply_rate(pluto, settings.sample_rate_hz, name=name)
                self._rate_hz = settings.sample_rate_hz
            used = apply_settings(pluto, settings, name=name, clamp_gain=clamp_gain)
        except SettingRejected:
            quieten(pluto._ctrl)
            raise
        quieten(pluto._ctrl)  # a new rate may also reset the attenuation
        return used

    def start(self, steps: ComplexArray, settings: RadioSettings) -> None:
        """Repeat steps of the converter.

        Raises
        ------
        SettingRejected
            If the attenuation was not taken; nothing is sent then.
        """
        self.stop()
        apply_attenuation(self._pluto, settings, name=self._name)
        self._pluto.tx_cyclic_buffer = True
        try:
            self._pluto.tx(steps)
        finally:
            self._sending = self._pluto._txbuf
        power_oscillator(self._pluto._ctrl, on=True)  # last: all else is verified

    def stop(self) -> None:
        """Mute first, then close the buffer: the hardware falls back to its tones at the close."""
        quieten(self._pluto._ctrl)
        self._end_sending()

    def capture(self, count: int) -> ComplexArray:
        """Return a block of steps of the converter, all of them received after the call."""
        pluto = self._pluto
        pluto.rx_buffer_size = count + count % 2  # the DMA's bus is two samples wide
        # A ring of several blocks holds old ones; the DMA keeps one block beyond a buffer's end.
        pluto._rxadc.set_kernel_buffers_count(1)
        pluto._rx_init_channels()
        buffer = pluto._rxbuf
        try:
            pluto.rx()
            block: ComplexArray = pluto.rx()
        finally:
            pluto._rxbuf = None
            destroy_buffer(buffer)
        return block[:count]

    def release(self) -> None:
        """Destroy buffers and context, which silences the radio; no method may be called then."""
        self._end_sending()
        destroy_context(self._context)

    def _end_sending(self) -> None:
        buffer, self._sending = self._sending, None
        if self._pluto is not None:
            self._pluto._txbuf = None
        destroy_buffer(buffer)

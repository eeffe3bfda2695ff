"""A radio on a simulated air, behind the ``Radio`` protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from siftmoe.radio.errors import DeviceNotFound, RadioError
from siftmoe.radio.simulated.front_end import RX_GAIN_RANGE_DB

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.radio.device import PowerReference, RadioSettings
    from siftmoe.radio.simulated.air import Air

    ComplexArray = NDArray[np.complex128]


class SimulatedRadio:
    """One device of an ``Air`` behind the ``Radio`` protocol.

    Parameters
    ----------
    air : Air
    name : str
        A device of that air.

    Raises
    ------
    DeviceNotFound
        If the air has no such device.
    """

    def __init__(self, air: Air, name: str) -> None:
        self._reference = air.device(name).reference
        self._air = air
        self._name = name
        self._settings: RadioSettings | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """Name of the device on the air."""
        return self._name

    @property
    def serial(self) -> str:
        """Serial number; a simulated radio has none."""
        return ""

    @property
    def reference(self) -> PowerReference:
        """Full-scale powers that the air applies."""
        return self._reference

    def tune(self, settings: RadioSettings, *, clamp_gain: bool = False) -> RadioSettings:
        """Set the radio; this ends a transmission."""
        self._require_open()
        if clamp_gain:
            low, high = RX_GAIN_RANGE_DB
            settings = replace(settings, rx_gain_db=min(max(settings.rx_gain_db, low), high))
        self._air.check(self._name, settings)
        self._air.end(self._name)
        self._settings = settings
        return settings

    def transmit(self, samples: ComplexArray) -> None:
        """Repeat samples until ``silence``."""
        self._air.begin(self._name, self._tuned(), samples)

    def silence(self) -> None:
        """Stop transmitting."""
        self._require_open()
        self._air.end(self._name)

    def receive(self, count: int) -> ComplexArray:
        """Receive the next samples."""
        return self._air.receive(self._name, self._tuned(), count)

    def close(self) -> None:
        """Silence and release the radio; a second time does nothing."""
        self._air.end(self._name)
        self._closed = True

    def _require_open(self) -> None:
        if self._closed:
            raise DeviceNotFound(f"radio {self._name!r} was closed; open it again")

    def _tuned(self) -> RadioSettings:
        self._require_open()
        if self._settings is None:
            raise RadioError(f"radio {self._name!r} is not tuned yet; call tune first")
        return self._settings

"""Opens a radio by its address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.radio.pluto.library import DEFAULT_TIMEOUT_S
from siftmoe.radio.pluto.radio import PlutoRadio
from siftmoe.radio.power.store import CalibrationStore

if TYPE_CHECKING:
    from siftmoe.radio.device import PowerReference, RadioSettings


def open_radio(
    uri: str,
    *,
    calibrations: CalibrationStore | None = None,
    silent_exit: bool = True,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> PlutoRadio:
    """Open a Pluto with a driver process of its own; the radio is silent.

    Parameters
    ----------
    uri : str
        ``ip:HOST[:PORT]`` or ``usb:BUS.DEVICE.INTERFACE``.
    calibrations : CalibrationStore or None
        Calibrations of the unit's powers; None reads the user's file. Without an entry for the
        unit its powers are *derived*, +-3 dB.
    silent_exit : bool
        Wait at the end of the program until the radio is silent. It is silenced either way.
    timeout_s : float, s
        For one answer of the radio. Half of it is the longest block that can be received.

    Returns
    -------
    PlutoRadio
        The caller closes it. Its reference is that of the settings of the last ``tune``.

    Raises
    ------
    ValueError
        If the URI is not valid.
    DeviceNotFound
        If no Pluto answers, with the reason and the way out.
    RadioError
        If libiio or its bindings are missing, or the calibration file is unusable.
    """
    store = CalibrationStore.load() if calibrations is None else calibrations

    def reference_of(
        serial: str, settings: RadioSettings, temperature_c: float | None
    ) -> PowerReference:
        unit = store.unit(serial)
        return unit.reference(
            carrier_hz=settings.carrier_hz,
            sample_rate_hz=settings.sample_rate_hz,
            temperature_c=temperature_c,
        )

    return PlutoRadio(uri, timeout_s=timeout_s, reference_of=reference_of, silent_exit=silent_exit)

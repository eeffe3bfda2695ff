"""Looks for Plutos and describes what is found; nothing on a radio is set."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from siftmoe.radio.errors import DeviceNotFound, RadioError
from siftmoe.radio.pluto.address import DEFAULT_URI
from siftmoe.radio.pluto.look import look, scan

if TYPE_CHECKING:
    from siftmoe.radio.pluto.values import PlutoInfo
    from siftmoe.radio.power.store import CalibrationStore

#: Sample rate of the typical levels: the default of `siftmoe radio sound`.
_RATE_HZ = 2e6


def probe(
    uri: str | None, *, store: CalibrationStore, carrier_hz: float
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Look at a radio, or at the default address and the USB.

    Returns
    -------
    radios, tried : list of dict
        What was found, with the calibration at the carrier; every address that was tried.
    """
    tried: list[dict[str, Any]] = []
    radios: list[dict[str, Any]] = []
    for candidate in [uri] if uri else _candidates(tried):
        found = _look(candidate, tried)
        if found is not None:
            radios.append(_description(candidate, found, store=store, carrier_hz=carrier_hz))
    return radios, tried


def _candidates(tried: list[dict[str, Any]]) -> list[str]:
    try:
        found = list(scan())
        reason = "" if found else "no Pluto on USB"
    except RadioError as error:
        found, reason = [], str(error)
    tried.append({"uri": "usb:", "found": bool(found), "reason": reason})
    return [DEFAULT_URI, *found]


def _look(uri: str, tried: list[dict[str, Any]]) -> PlutoInfo | None:
    try:
        found = look(uri)
    except DeviceNotFound as error:
        tried.append({"uri": uri, "found": False, "reason": str(error)})
        return None
    tried.append({"uri": uri, "found": True, "reason": ""})
    return found


def _description(
    uri: str, found: PlutoInfo, *, store: CalibrationStore, carrier_hz: float
) -> dict[str, Any]:
    reference = store.unit(found.serial).reference(
        carrier_hz=carrier_hz, sample_rate_hz=_RATE_HZ, temperature_c=found.temperature_c
    )
    calibration = {
        "carrier_hz": carrier_hz,
        "tx_full_scale_dbm": reference.tx_full_scale_dbm,
        "tx_std_db": reference.std_db,
        "tx_source": reference.source.value,
        "rx_full_scale_dbm": reference.rx_full_scale_dbm,
        "rx_std_db": reference.receiver_std_db,
        "rx_source": reference.receiver_source.value,
    }
    return {"uri": uri, **asdict(found), "calibration": calibration}

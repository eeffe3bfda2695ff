"""Look for Plutos and print what they are, changing nothing.

Without a URI the address of a Pluto fresh out of its box and the USB are tried. Exit status 0 if
a radio was found, 1 if not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from siftmoe.radio.pluto.values import PlutoInfo
    from siftmoe.radio.power.store import CalibrationStore

SUMMARY = "look for radios and print what they are"

EXAMPLE = """\
examples:
  siftmoe radio probe
  siftmoe radio probe ip:192.168.3.1 --json
"""

#: Sample rate that the levels without a calibration are typical of; the default of `radio sound`.
_RATE_HZ = 2e6


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EXAMPLE
    parser.add_argument("uri", nargs="?", help="ip:HOST[:PORT] or usb:BUS.DEVICE.INTERFACE")
    parser.add_argument("--carrier-hz", type=float, default=2.45e9, help="calibration at (2.45e9)")
    parser.add_argument("--calibration", metavar="FILE", help="calibrations (the user's file)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Look and print."""
    from siftmoe.radio.power.store import CalibrationStore

    store = CalibrationStore.load(args.calibration)
    tried: list[dict[str, Any]] = []
    radios: list[dict[str, Any]] = []
    for uri in [args.uri] if args.uri else _candidates(tried):
        found = _look(uri, tried)
        if found is not None:
            radios.append(_radio(uri, found, store=store, carrier_hz=args.carrier_hz))
    if args.json:
        print(json.dumps({"radios": radios, "tried": tried}))
    else:
        _print(radios, tried)
    return 0 if radios else 1


def _candidates(tried: list[dict[str, Any]]) -> list[str]:
    from siftmoe.radio.errors import RadioError
    from siftmoe.radio.pluto.address import DEFAULT_URI
    from siftmoe.radio.pluto.look import scan

    try:
        found = list(scan())
        reason = "" if found else "no Pluto on USB"
    except RadioError as error:
        found, reason = [], str(error)
    tried.append({"uri": "usb:", "found": bool(found), "reason": reason})
    return [DEFAULT_URI, *found]


def _look(uri: str, tried: list[dict[str, Any]]) -> PlutoInfo | None:
    from siftmoe.radio.errors import DeviceNotFound
    from siftmoe.radio.pluto.look import look

    try:
        found = look(uri)
    except DeviceNotFound as error:
        tried.append({"uri": uri, "found": False, "reason": str(error)})
        return None
    tried.append({"uri": uri, "found": True, "reason": ""})
    return found


def _radio(
    uri: str, found: PlutoInfo, *, store: CalibrationStore, carrier_hz: float
) -> dict[str, Any]:
    from dataclasses import asdict

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


def _print(radios: list[dict[str, Any]], tried: list[dict[str, Any]]) -> None:
    for radio in radios:
        print(f"{radio['uri']}: {radio['model'] or 'Pluto'}")
        for name, text in _lines(radio):
            print(f"  {name:14}{text}")
    for attempt in tried:
        if not attempt["found"]:
            print(f"{attempt['uri'].rstrip(':')}: nothing ({attempt['reason']})")


def _lines(radio: dict[str, Any]) -> list[tuple[str, str]]:
    temperature, calibration = radio["temperature_c"], radio["calibration"]
    return [
        ("serial", radio["serial"] or "not told"),
        ("firmware", radio["firmware"] or "not told"),
        ("temperature", "not told" if temperature is None else f"{temperature:.1f} °C"),
        ("carrier", _range(radio["lo_range_hz"], scale=1e-6, unit="MHz")),
        ("rx gain", _range(radio["rx_gain_range_db"], scale=1.0, unit="dB")),
        ("attenuation", _range(radio["tx_attenuation_range_db"], scale=1.0, unit="dB")),
        *((f"{side} power", _power(calibration, side)) for side in ("tx", "rx")),
    ]


def _power(calibration: dict[str, Any], side: str) -> str:
    level, std = calibration[f"{side}_full_scale_dbm"], calibration[f"{side}_std_db"]
    carrier_mhz = calibration["carrier_hz"] / 1e6
    source = calibration[f"{side}_source"]
    return f"{level:+.1f} ± {std:.1f} dBm full scale at {carrier_mhz:g} MHz, {source}"


def _range(limits: tuple[float, float] | None, *, scale: float, unit: str) -> str:
    if limits is None:
        return "not told"
    return f"{limits[0] * scale:g} to {limits[1] * scale:g} {unit}"

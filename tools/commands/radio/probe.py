"""Look for Plutos and print what they are; no setting of a radio is changed.

Without a URI the factory address of a Pluto and the USB are tried. Exit status 0 if a radio was
found, 1 if not.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

SUMMARY = "look for radios and print what they are"

EXAMPLE = """\
examples:
  siftmoe radio probe
  siftmoe radio probe ip:192.168.3.1 --json
"""


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
    from siftmoe.tools.radios.probing import probe

    store = CalibrationStore.load(args.calibration)
    radios, tried = probe(args.uri, store=store, carrier_hz=args.carrier_hz)
    if args.json:
        print(json.dumps({"radios": radios, "tried": tried}))
    else:
        _print(radios, tried)
    return 0 if radios else 1


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

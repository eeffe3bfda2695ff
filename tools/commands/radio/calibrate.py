"""Measure a radio's power at full scale and store it by the radio's serial number.

With a power meter at the transmitter's port: the radio sends a tone, and you type the meter's
reading. With two radios, a cable and an attenuator: the second radio receives, and the difference
C_tx - C_rx of the pair is stored, which a path gain between the two needs; if one of the two was
measured before, the other follows. Never connect a transmitter to a receiver without an attenuator.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse

    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.power.calibration import LevelEntry, PairEntry
    from siftmoe.radio.power.store import CalibrationStore

SUMMARY = "measure a radio's power and store it"

EXAMPLE = """\
examples:
  siftmoe radio calibrate ip:192.168.2.1 --cable-db 0.4
  siftmoe radio calibrate ip:192.168.2.1 --meter-dbm -9.8
  siftmoe radio calibrate ip:192.168.2.1 --meter-command 'read-meter --dbm' --json
  siftmoe radio calibrate ip:192.168.2.1 --receiver ip:192.168.3.1 --attenuator-db 40
  siftmoe radio calibrate --list
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add("uri", nargs="?", metavar="URI", help="radio that transmits: ip:HOST[:PORT] or usb:…")
    add("--carrier-hz", type=float, default=2.45e9, metavar="HZ", help="where (2.45e9)")
    add("--sample-rate-hz", type=float, default=2e6, metavar="HZ", help="(2e6)")
    add("--tx-attenuation-db", type=float, default=10.0, metavar="DB", help="transmitter's (10)")
    meter = parser.add_argument_group("with a power meter")
    meter.add_argument("--meter-dbm", type=float, metavar="DBM", help="what it read, from --tone")
    meter.add_argument(
        "--meter-command", metavar="COMMAND", help="program that prints what it reads, in dBm"
    )
    meter.add_argument("--meter-std-db", type=float, default=0.3, metavar="DB", help="± (0.3)")
    meter.add_argument(
        "--cable-db", type=float, default=0.0, metavar="DB", help="loss on the way to it (0)"
    )
    meter.add_argument(
        "--tone", type=float, metavar="SECONDS", help="only send the tone so long, store nothing"
    )
    pair = parser.add_argument_group("with a cable between two radios")
    pair.add_argument("--receiver", metavar="URI", help="radio that listens")
    pair.add_argument("--attenuator-db", type=float, metavar="DB", help="between the two")
    pair.add_argument("--attenuator-std-db", type=float, default=0.3, metavar="DB", help="± (0.3)")
    add("--calibration", metavar="FILE", help="where it is stored (the user's file)")
    add("--list", action="store_true", help="show what is stored")
    add("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Calibrate and store, or list the stored calibrations."""
    from siftmoe.radio.power.store import CalibrationStore
    from siftmoe.tools.interrupts import terminable
    from siftmoe.tools.radios.level import send_tone

    _check(args)
    store = CalibrationStore.load(args.calibration)
    if args.list:
        _show(store, as_json=args.json)
        return 0
    with terminable():
        if args.tone is not None:
            send_tone(args.uri, _settings(args), args.tone, store=store, cable_db=args.cable_db)
            return 0
        entry = _pair(args, store) if args.receiver else _level(args, store)
    store = store.with_entry(entry)
    store.save()
    _announce(entry, store, as_json=args.json)
    return 0


def _check(args: argparse.Namespace) -> None:
    if (args.uri is None) != args.list:
        raise ValueError("name the radio to calibrate, as ip:192.168.2.1, or --list")
    if (args.receiver is None) != (args.attenuator_db is None):
        raise ValueError("--receiver and --attenuator-db go together")
    ways = [args.meter_dbm, args.meter_command, args.tone, args.receiver]
    if sum(way is not None for way in ways) > 1:
        raise ValueError("take one of --meter-dbm, --meter-command, --tone and --receiver")
    if args.receiver is not None and args.receiver == args.uri:
        raise ValueError(f"{args.uri!r} is both transmitter and receiver; a pair is two radios")
    if args.tone is not None and not 0.0 < args.tone <= 3600.0:
        raise ValueError(f"--tone must be above 0 and at most 3600 s, got {args.tone}")


def _settings(args: argparse.Namespace) -> RadioSettings:
    from siftmoe.radio.device import RadioSettings

    return RadioSettings(
        carrier_hz=args.carrier_hz,
        sample_rate_hz=args.sample_rate_hz,
        tx_attenuation_db=args.tx_attenuation_db,
        rx_gain_db=0.0,
    )


def _level(args: argparse.Namespace, store: CalibrationStore) -> LevelEntry:
    from siftmoe.tools.radios.level import MeterReading, measure_level

    reading = MeterReading(
        dbm=args.meter_dbm,
        command=args.meter_command,
        std_db=args.meter_std_db,
        cable_db=args.cable_db,
    )
    return measure_level(args.uri, _settings(args), reading, store=store)


def _pair(args: argparse.Namespace, store: CalibrationStore) -> PairEntry:
    from siftmoe.tools.radios.pair import measure_pair

    return measure_pair(
        (args.uri, args.receiver),
        _settings(args),
        attenuator_db=args.attenuator_db,
        attenuator_std_db=args.attenuator_std_db,
        store=store,
    )


def _announce(entry: LevelEntry | PairEntry, store: CalibrationStore, *, as_json: bool) -> None:
    import msgspec

    from siftmoe.tools.radios.entries import describe

    if as_json:
        print(json.dumps({**msgspec.to_builtins(entry), "file": str(store.path)}))
        return
    print(f"{describe(entry)}\nstored in {store.path}")


def _show(store: CalibrationStore, *, as_json: bool) -> None:
    import msgspec

    from siftmoe.tools.radios.entries import describe

    if as_json:
        found: dict[str, Any] = {"file": str(store.path)}
        found |= {"level": store.levels, "pair": store.pairs}
        print(msgspec.json.encode(found).decode())
        return
    entries: list[LevelEntry | PairEntry] = [*store.levels, *store.pairs]
    for entry in entries:
        print(f"{describe(entry)}, {entry.method}, {entry.measured_at}")
    if not entries:
        print(f"nothing in {store.path}: powers are derived, ±3 dB")

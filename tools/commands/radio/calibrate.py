"""Measure what a radio's samples are in watt, and store it by the radio's serial number.

With a power meter at the transmitter's port: the radio sends a tone, and you type what the meter
reads. With two radios, a cable and an attenuator: the second one listens, and what is stored is
what a path gain between the two needs; with one of them measured before, it gives the other too.
Never connect a transmitter to a receiver without an attenuator.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.pluto.radio import PlutoRadio
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

#: How long a program that reads the meter may take.
_METER_TIMEOUT_S = 60.0


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
    """Calibrate and store, or show what is stored."""
    from siftmoe.radio.power.store import CalibrationStore
    from siftmoe.tools.interrupts import terminable

    _check(args)
    store = CalibrationStore.load(args.calibration)
    if args.list:
        _show(store, as_json=args.json)
        return 0
    with terminable():
        if args.tone is not None:
            return _only_send(args, store)
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


def _open(uri: str, store: CalibrationStore) -> PlutoRadio:
    from siftmoe.radio.opening import open_radio

    return open_radio(uri, calibrations=store)


def _only_send(args: argparse.Namespace, store: CalibrationStore) -> int:
    import time

    from siftmoe.radio.power.calibrating import tone_power_dbm
    from siftmoe.radio.power.tone import transmitting_tone

    settings = _settings(args)
    radio = _open(args.uri, store)
    try:
        with transmitting_tone(radio, settings):
            expected = tone_power_dbm(settings) - args.cable_db
            _say(f"tone on for {args.tone:g} s; a typical radio gives {expected:.1f} dBm")
            time.sleep(args.tone)
    finally:
        radio.close()
    return 0


def _level(args: argparse.Namespace, store: CalibrationStore) -> LevelEntry:
    from siftmoe.radio.power.calibrating import transmit_entry
    from siftmoe.radio.power.tone import transmitting_tone

    settings = _settings(args)
    radio = _open(args.uri, store)
    try:
        if args.meter_dbm is not None:
            radio.tune(settings)  # refused here if the radio cannot have sent the tone there
            reading = args.meter_dbm
        else:
            with transmitting_tone(radio, settings):
                reading = _read_meter(args, settings)
        return transmit_entry(
            reading,
            serial=radio.info.serial,
            settings=settings,
            std_db=args.meter_std_db,
            cable_db=args.cable_db,
            temperature_c=radio.info.temperature_c,
            measured_at=_now(),
        )
    finally:
        radio.close()


def _read_meter(args: argparse.Namespace, settings: RadioSettings) -> float:
    """Return the reading in dBm of a program, or of the person at the terminal."""
    if args.meter_command is not None:
        return _ask_program(args.meter_command)
    from siftmoe.radio.power.calibrating import tone_power_dbm

    expected = tone_power_dbm(settings) - args.cable_db
    _say(f"The tone is on at {settings.carrier_hz / 1e6:g} MHz. Set the meter to that frequency.")
    _say(f"A typical radio gives {expected:.1f} dBm. What does the meter read, in dBm? ", end="")
    line = sys.stdin.readline()
    return _number(line, "what was typed")


def _ask_program(command: str) -> float:
    import shlex
    import subprocess

    from siftmoe.radio.errors import CalibrationError

    try:
        done = subprocess.run(
            shlex.split(command),
            capture_output=True,
            text=True,
            check=True,
            timeout=_METER_TIMEOUT_S,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise CalibrationError(f"--meter-command {command!r}: {error}") from error
    return _number(done.stdout, f"what {command!r} printed")


def _number(text: str, what: str) -> float:
    from siftmoe.radio.errors import CalibrationError

    try:
        return float(text)
    except ValueError:
        raise CalibrationError(f"{what}, {text.strip()!r}, is no number of dBm") from None


def _pair(args: argparse.Namespace, store: CalibrationStore) -> PairEntry:
    from siftmoe.radio.power.calibrating import cabled_settings, hear_cabled, pair_entry

    settings = _settings(args)
    listening = cabled_settings(settings, args.attenuator_db)  # before anything transmits
    radios: list[PlutoRadio] = []
    try:
        radios.extend(_open(uri, store) for uri in (args.uri, args.receiver))
        heard = hear_cabled(radios[0], radios[1], settings=settings, listening=listening)
        return pair_entry(
            heard,
            serials=(radios[0].info.serial, radios[1].info.serial),
            settings=settings,
            listening=listening,
            attenuator_db=args.attenuator_db,
            attenuator_std_db=args.attenuator_std_db,
            temperatures_c=(radios[0].info.temperature_c, radios[1].info.temperature_c),
            measured_at=_now(),
        )
    finally:
        for radio in radios:
            radio.close()


def _now() -> str:
    from datetime import datetime, timezone

    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _announce(entry: LevelEntry | PairEntry, store: CalibrationStore, *, as_json: bool) -> None:
    import msgspec

    if as_json:
        print(json.dumps({**msgspec.to_builtins(entry), "file": str(store.path)}))
        return
    print(f"{describe(entry)}\nstored in {store.path}")


def describe(entry: LevelEntry | PairEntry) -> str:
    """One line for people."""
    from siftmoe.radio.power.calibration import LevelEntry

    at = f"at {entry.carrier_hz / 1e6:g} MHz"
    if isinstance(entry, LevelEntry):
        if entry.temperature_c is not None:
            at += f", {entry.temperature_c:.1f} °C"
        name = "C_tx" if entry.path == "transmit" else "C_rx"
        return f"{entry.serial}: {name} {entry.full_scale_dbm:.2f} ± {entry.std_db:.2f} dBm {at}"
    pair = f"{entry.transmitter} -> {entry.receiver}"
    return f"{pair}: C_tx - C_rx {entry.difference_db:.2f} ± {entry.std_db:.2f} dB {at}"


def _show(store: CalibrationStore, *, as_json: bool) -> None:
    import msgspec

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


def _say(text: str, end: str = "\n") -> None:
    print(text, end=end, file=sys.stderr, flush=True)

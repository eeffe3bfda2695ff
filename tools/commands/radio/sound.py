"""Exchange pilots between two radios and print the channel between them.

One radio repeats a burst, the other one receives. The transmitter is always silent afterwards.
Exit status 1 if no burst was found: then no channel is reported.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from siftmoe.tools.radios.pilot_rounds import PilotRounds

SUMMARY = "exchange pilots between two radios and print the channel"

EXAMPLE = """\
examples:
  siftmoe radio sound --tx ip:192.168.2.1 --rx ip:192.168.3.1 --json
  siftmoe radio sound --tx ip:192.168.2.1 --rx ip:192.168.3.1 --both --watch
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add("--tx", required=True, metavar="URI", help="radio that transmits")
    add("--rx", required=True, metavar="URI", help="radio that listens")
    add("--both", action="store_true", help="then the other direction, too")
    add("--carrier-hz", type=float, default=2.45e9, metavar="HZ", help="of both (2.45e9)")
    add("--sample-rate-hz", type=float, default=2e6, metavar="HZ", help="of both (2e6)")
    add("--attenuation-db", type=float, default=10.0, metavar="DB", help="transmitter's (10)")
    add("--gain-db", type=float, default=40.0, metavar="DB", help="receiver's (40)")
    add("--bursts", type=int, default=4, metavar="N", help="to average over, 1 to 30 (4)")
    add("--cfo-hz", type=float, metavar="HZ", help="carrier offset if known (search ±50 ppm)")
    add("--calibration", metavar="FILE", help="calibrations (the user's file)")
    add("--watch", action="store_true", help="repeat, as a live table, until Ctrl-C")
    add("--interval-s", type=float, default=1.0, metavar="S", help="between repetitions (1)")
    add("--count", type=int, metavar="N", help="repetitions (1, with --watch no end)")
    add("--json", action="store_true", help="print one JSON object per exchange")


def run(args: argparse.Namespace) -> int:
    """Sound and print."""
    if args.tx == args.rx:
        raise ValueError(f"--tx and --rx are both {args.tx!r}; a channel needs two radios")
    if args.count is not None and args.count < 1:
        raise ValueError(f"--count must be positive, got {args.count}")
    from siftmoe.tools.interrupts import terminable

    with terminable():
        if args.watch and not args.json:
            from siftmoe.tools.radios.live_table import watch

            return watch(_rounds(args).exchanges())
        return _print_rounds(args)


def _print_rounds(args: argparse.Namespace) -> int:
    from siftmoe.tools.radios.pilot_rounds import describe

    missed = False
    try:
        for exchanges in _rounds(args).exchanges():
            for exchange in exchanges:
                missed = missed or not exchange["detected"]
                print(json.dumps(exchange) if args.json else describe(exchange), flush=True)
    except KeyboardInterrupt:
        if not args.watch:
            raise
    return int(missed)


def _rounds(args: argparse.Namespace) -> PilotRounds:
    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.power.store import CalibrationStore
    from siftmoe.tools.radios.pilot_rounds import PilotRounds

    settings = RadioSettings(
        carrier_hz=args.carrier_hz,
        sample_rate_hz=args.sample_rate_hz,
        tx_attenuation_db=args.attenuation_db,
        rx_gain_db=args.gain_db,
    )
    return PilotRounds(
        uris=(args.tx, args.rx),
        both=args.both,
        settings=settings,
        store=CalibrationStore.load(args.calibration),
        bursts=args.bursts,
        cfo_hz=args.cfo_hz,
        count=args.count if args.count is not None else None if args.watch else 1,
        interval_s=args.interval_s,
        tolerant=args.watch,
    )

"""Exchange pilots between two radios and print the channel between them.

One radio repeats a burst, the other one listens; the transmitter is silent afterwards, whatever
happens. Exit status 1 if no burst was found: no channel is made up then.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator

    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.pluto.radio import PlutoRadio
    from siftmoe.radio.power.store import CalibrationStore
    from siftmoe.radio.sounding.sounder import Sounding

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
            from siftmoe.tools.commands.radio.watch import watch

            return watch(rounds(args))
        return _print_rounds(args)


def _print_rounds(args: argparse.Namespace) -> int:
    missed = False
    try:
        for exchanges in rounds(args):
            for exchange in exchanges:
                missed = missed or not exchange["detected"]
                print(json.dumps(exchange) if args.json else describe(exchange), flush=True)
    except KeyboardInterrupt:
        if not args.watch:
            raise
    return int(missed)


def rounds(args: argparse.Namespace) -> Generator[list[dict[str, Any]], None, None]:
    """Sound all directions again and again; each round is a list of exchanges as printed."""
    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.opening import open_radio
    from siftmoe.radio.power.store import CalibrationStore

    settings = RadioSettings(
        carrier_hz=args.carrier_hz,
        sample_rate_hz=args.sample_rate_hz,
        tx_attenuation_db=args.attenuation_db,
        rx_gain_db=args.gain_db,
    )
    store = CalibrationStore.load(args.calibration)
    opened: list[PlutoRadio] = []
    try:
        opened.extend(open_radio(uri, calibrations=store) for uri in (args.tx, args.rx))
        pairs = [(opened[0], opened[1]), (opened[1], opened[0])][: 1 + args.both]
        offsets = [args.cfo_hz, None if args.cfo_hz is None else -args.cfo_hz]
        left = args.count if args.count is not None else None if args.watch else 1
        while True:
            results = []
            for index, pair in enumerate(pairs):
                result = _exchange(
                    pair,
                    settings,
                    store=store,
                    bursts=args.bursts,
                    cfo_hz=offsets[index],
                    go_on=args.watch,
                )
                offsets[index] = result["cfo_hz"]
                results.append(result)
            yield results
            left = None if left is None else left - 1
            if left == 0:
                return
            time.sleep(args.interval_s)
    finally:
        for radio in opened:
            radio.close()


def _exchange(
    pair: tuple[PlutoRadio, PlutoRadio],
    settings: RadioSettings,
    *,
    store: CalibrationStore,
    bursts: int,
    cfo_hz: float | None,
    go_on: bool,
) -> dict[str, Any]:
    """Sound one direction; ``go_on`` where a radio is lost, which may come back."""
    from siftmoe.radio.errors import Overload, RadioError, SyncFailed
    from siftmoe.radio.sounding.sounder import sound

    begun_s = time.time()
    exchange: dict[str, Any] = {
        "tx": pair[0].name,
        "rx": pair[1].name,
        "time_s": begun_s,
        "carrier_hz": settings.carrier_hz,
        "sample_rate_hz": settings.sample_rate_hz,
        "tx_attenuation_db": settings.tx_attenuation_db,
        "rx_gain_db": settings.rx_gain_db,
    }
    try:
        got = sound(*pair, settings=settings, now_s=begun_s, bursts=bursts, cfo_hz=cfo_hz)
    except RadioError as error:
        if not (go_on or isinstance(error, (SyncFailed, Overload))):
            raise
        return {**exchange, **dict.fromkeys(_MEASURED), "detected": False, "reason": str(error)}
    return {**exchange, **_measured(got, pair, store), "detected": True, "reason": ""}


#: What only a burst that was found can tell.
_MEASURED = (
    "path_gain_db",
    "path_gain_std_db",
    "path_gain_repeat_std_db",
    "path_gain_source",
    "snr_db",
    "cfo_hz",
    "cfo_std_hz",
    "noise_dbm",
    "timing_samples",
    "tx_power_dbm",
)


def _measured(
    got: Sounding, pair: tuple[PlutoRadio, PlutoRadio], store: CalibrationStore
) -> dict[str, Any]:
    import math

    from siftmoe.radio.units import linear_to_db, watt_to_dbm

    channel, estimates = got.channel, got.estimate
    spread = math.sqrt(float((estimates.gain_std**2).sum())) / float(estimates.gain.sum())
    repeat_db = 10.0 / math.log(10.0) * spread
    # A cable between the two tells more of the path than what is known of either.
    path = store.pair(
        pair[0].info.serial,
        pair[1].info.serial,
        carrier_hz=got.carrier_hz,
        sample_rate_hz=got.channel.bandwidth_hz,
        transmitter_c=pair[0].temperature_c,
        receiver_c=pair[1].temperature_c,
    )
    assumed_db = pair[0].reference.tx_full_scale_dbm - pair[1].reference.rx_full_scale_dbm
    values = (
        linear_to_db(channel.gain) + assumed_db - path.difference_db,
        math.hypot(repeat_db, path.std_db, 10.0 / math.log(10.0) * got.checks.relative_std),
        repeat_db,
        path.source.value,
        linear_to_db(got.snr),
        got.cfo_hz,
        got.cfo_std_hz,
        watt_to_dbm(channel.noise_psd * channel.bandwidth_hz),
        got.detection.start,
        watt_to_dbm(got.tx_power_w),
    )
    return dict(zip(_MEASURED, values, strict=True))


def describe(exchange: dict[str, Any]) -> str:
    """One exchange in a sentence."""
    way = f"{exchange['tx']} -> {exchange['rx']}: "
    if not exchange["detected"]:
        return f"{way}nothing; {exchange['reason']}"
    return way + (
        f"path gain {exchange['path_gain_db']:.2f} ± {exchange['path_gain_std_db']:.2f} dB "
        f"({exchange['path_gain_source']}; repeats within "
        f"{exchange['path_gain_repeat_std_db']:.2f} dB), SNR {exchange['snr_db']:.1f} dB, "
        f"CFO {exchange['cfo_hz']:.1f} ± {exchange['cfo_std_hz']:.1f} Hz, noise "
        f"{exchange['noise_dbm']:.1f} dBm"
    )

"""Send bursts of data from one radio to another and count what arrives.

One radio repeats a burst of random bytes, the other one receives; nothing answers. With several
attenuations every one is tested in turn. The transmitter is always silent afterwards. Exit status 1
if no payload arrived at any of them.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

SUMMARY = "send bursts of data from one radio to another and count what arrives"

EXAMPLE = """\
examples:
  siftmoe radio link --tx ip:192.168.2.1 --rx ip:192.168.3.1
  siftmoe radio link --tx ip:127.0.1.1 --rx ip:127.0.1.2 --scheme 13 --attenuation-db 10 20 30
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.epilog = EXAMPLE
    add = parser.add_argument
    add("--tx", required=True, metavar="URI", help="radio that transmits")
    add("--rx", required=True, metavar="URI", help="radio that listens")
    add("--scheme", type=int, default=5, metavar="N", help="modulation and code, 0 to 17 (5)")
    add("--bytes", type=int, default=1024, metavar="N", help="payload of a burst (1024)")
    add("--bursts", type=int, default=20, metavar="N", help="at least so many (20)")
    add("--carrier-hz", type=float, default=2.45e9, metavar="HZ", help="of both (2.45e9)")
    add("--sample-rate-hz", type=float, default=2e6, metavar="HZ", help="of both (2e6)")
    add(
        "--attenuation-db",
        type=float,
        nargs="+",
        default=[10.0],
        metavar="DB",
        help="transmitter's, one or several (10)",
    )
    add("--gain-db", type=float, default=40.0, metavar="DB", help="receiver's (40)")
    add("--seed", type=int, default=0, help="of the payload (0)")
    add("--calibration", metavar="FILE", help="calibrations (the user's file)")
    add("--json", action="store_true", help="print one JSON object per attenuation")


def run(args: argparse.Namespace) -> int:
    """Test and print."""
    if args.tx == args.rx:
        raise ValueError(f"--tx and --rx are both {args.tx!r}; a link needs two radios")
    from siftmoe.tools.interrupts import terminable

    arrived = False
    with terminable():
        for row in _rows(args):
            arrived = arrived or row["payloads"] > 0
            print(json.dumps(row) if args.json else _line(row), flush=True)
    return 0 if arrived else 1


def _rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Test every attenuation."""
    import numpy as np

    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.modem.linktest import link_test
    from siftmoe.radio.opening import open_radio
    from siftmoe.radio.power.store import CalibrationStore

    store = CalibrationStore.load(args.calibration)
    payload = np.random.default_rng(args.seed).bytes(args.bytes)
    settings = [
        RadioSettings(
            carrier_hz=args.carrier_hz,
            sample_rate_hz=args.sample_rate_hz,
            tx_attenuation_db=attenuation_db,
            rx_gain_db=args.gain_db,
        )
        for attenuation_db in args.attenuation_db
    ]
    opened = []
    try:
        opened += [open_radio(args.tx, calibrations=store)]
        opened += [open_radio(args.rx, calibrations=store)]
        for each in settings:
            report = link_test(
                opened[0],
                opened[1],
                settings=each,
                payload=payload,
                scheme=args.scheme,
                bursts=args.bursts,
            )
            yield {"tx_attenuation_db": each.tx_attenuation_db, **_fields(report)}
    finally:
        for radio in opened:
            radio.close()


def _fields(report: Any) -> dict[str, Any]:
    """Report as it is printed: dB and dBm, null where nothing was received."""
    from siftmoe.radio.units import watt_to_dbm

    return {
        "scheme": report.scheme,
        "payload_bytes": report.payload_bytes,
        "bursts": report.bursts,
        "headers": report.headers,
        "payloads": report.payloads,
        "wrong_payloads": report.wrong,
        "block_loss": report.block_loss,
        "airtime_s": report.airtime_s,
        "throughput_bps": report.throughput_bps,
        "tx_power_dbm": watt_to_dbm(report.tx_power_w),
        "tx_power_std_db": report.tx_power_std_db,
        "tx_power_source": report.tx_power_source.value,
        "energy_per_bit_j": _finite(report.energy_per_bit_j),
        "snr_db": _decibel(report.snr),
        "evm_db": _decibel(report.evm**2),
        "gap_db": _decibel(report.gap),
        "cfo_hz": _finite(report.cfo_hz),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _decibel(ratio: float) -> float | None:
    return 10.0 * math.log10(ratio) if math.isfinite(ratio) else None


def _line(row: dict[str, Any]) -> str:
    """One test in two lines."""
    power = f"{row['tx_power_dbm']:+.1f} ± {row['tx_power_std_db']:.1f} dBm"
    head = (
        f"attenuation {row['tx_attenuation_db']:g} dB, {power} ({row['tx_power_source']}): "
        f"{row['payloads']} of {row['bursts']} bursts of {row['payload_bytes']} bytes "
        f"{row['scheme']}, block loss {row['block_loss']:.3f}"
    )
    if row["snr_db"] is None:
        return head + "\n  no header was received"
    energy = row["energy_per_bit_j"]
    return (
        f"{head}\n  SNR {row['snr_db']:.1f} dB, offset {row['cfo_hz']:+.0f} Hz, "
        f"{row['throughput_bps'] / 1e6:.2f} Mbit/s of airtime, "
        f"{'no bit arrived' if energy is None else f'{1e9 * energy:.3g} nJ per bit'}, "
        f"{row['gap_db']:.1f} dB over Shannon"
    )

"""The modem against Shannon, in speed and against false blocks.

    python -m benchmarks.radio.modem [--packets N] [--wrong-blocks N] [--parts gap,short,...]

Everything is simulated: bursts of random bytes through white noise, or through six Rayleigh taps,
with a carrier offset of 3.2 kHz that the receiver knows within 200 Hz. The SNR is that of a used
carrier, of the mean power of the whole burst; the efficiency is payload bits over all samples of
the burst, from the first of the preamble to the last of the payload, in the occupied band of
200/256 of the sample rate. The gap is the SNR at 1% block loss over what Shannon's capacity needs
for this efficiency. A lost header counts as the loss of all blocks. Times are processor times of
one thread (others use the machine), and so do not contain waiting.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from dataclasses import dataclass

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from siftmoe.radio.modem.coding.blocks import segment
from siftmoe.radio.modem.receiving.receiver import Receiver, Settings
from siftmoe.radio.modem.symbols.information import shannon_gap
from siftmoe.radio.modem.symbols.schemes import SCHEMES
from siftmoe.radio.modem.transmitter import Format, announce, burst

RATE_HZ, CARRIER_HZ, CFO_HZ = 2e6, 2.45e9, 3210.0
BAND = 200 / 256
TARGET = 0.01
FORM = Format()


def db(ratio: float) -> float:
    return 10.0 * math.log10(ratio)


def through(
    rng: np.random.Generator, sent: np.ndarray, noise: float, *, taps: int = 1
) -> np.ndarray:
    """Samples as received: channel, carrier offset, white noise, silence around the burst."""
    if taps == 1:
        response = np.exp(2j * np.pi * rng.random(1))
    else:
        profile = np.exp(-np.arange(taps) / 2.0)
        normal = rng.standard_normal((taps, 2)) @ [1.0, 1j]
        response = normal * np.sqrt(0.5 * profile / profile.sum())
    clean = np.convolve(sent, response.astype(np.complex64))
    samples = np.concatenate([np.zeros(700), clean, np.zeros(400)]).astype(np.complex64)
    samples *= np.exp(2j * np.pi * CFO_HZ / RATE_HZ * np.arange(len(samples)))
    normal = rng.standard_normal((len(samples), 2), dtype=np.float32).view(np.complex64)[:, 0]
    return samples + np.float32(math.sqrt(0.5 * noise)) * normal


def settings(form: Format) -> Settings:
    return Settings(sample_rate_hz=RATE_HZ, carrier_hz=CARRIER_HZ, form=form, cfo_hz=CFO_HZ - 150)


@dataclass(frozen=True)
class Point:
    """Loss and efficiency of bursts of one kind at one SNR of a carrier."""

    snr_db: float
    loss: float
    efficiency: float


def measure(
    rng: np.random.Generator,
    scheme: int,
    length: int,
    snr_db: float,
    packets: int,
    *,
    form: Format = FORM,
    header_amplitude: float = 1.0,
    taps: int = 1,
) -> Point:
    lost, blocks = 0, 0
    samples = 1
    for number in range(packets):
        payload = rng.bytes(length)
        header = announce(payload, scheme=scheme, sequence=number)
        sent = burst(payload, header, form, header_amplitude=header_amplitude)
        samples = len(sent)
        power = float(np.mean(np.abs(sent) ** 2))
        noise = power / BAND / 10 ** (snr_db / 10)
        receptions = Receiver(settings(form)).feed(through(rng, sent, noise, taps=taps))
        count = segment(length, SCHEMES[scheme].rate).count
        blocks += count
        right = [r for r in receptions if r.header == header]
        if not right:
            lost += count
            continue
        lost += len(right[0].missing)
        if right[0].payload not in (None, payload):
            raise RuntimeError("a wrong payload was delivered")
    return Point(snr_db, lost / blocks, 8 * length / samples / BAND)


def threshold(rng, scheme, length, start_db, packets, *, step_db=0.15, **options) -> Point:
    """Point of 1% loss by interpolation of its logarithm."""
    before = None
    snr_db = start_db
    while True:
        point = measure(rng, scheme, length, snr_db, packets, **options)
        if point.loss <= TARGET:
            break
        before, snr_db = point, snr_db + step_db
    if before is None:
        return threshold(rng, scheme, length, start_db - 1.0, packets, step_db=step_db, **options)
    floor = 0.3 / packets
    high, low = math.log(max(before.loss, floor)), math.log(max(point.loss, floor))
    share = (high - math.log(TARGET)) / (high - low)
    return Point(before.snr_db + share * step_db, TARGET, point.efficiency)


#: Where the search starts, dB by scheme.
STARTS = (
    -3.6,
    -1.4,
    0.9,
    3.2,
    5.2,
    6.4,
    7.5,
    8.7,
    10.4,
    11.9,
    13.4,
    14.9,
    16.1,
    18.1,
    19.1,
    20.2,
    21.4,
    22.6,
)


def gaps(rng: np.random.Generator, packets: int) -> None:
    print("\n8 KB bursts over white noise, 1% block loss, all overhead included:\n")
    print("| scheme | SNR, dB | bit/s/Hz | gap to Shannon, dB |")
    print("|---|---:|---:|---:|")
    for number, scheme in enumerate(SCHEMES):
        count = packets if scheme.rate > 0.25 else max(packets // 2, 1)
        found = threshold(rng, number, 8192, STARTS[number], count)
        gap = db(shannon_gap(10 ** (found.snr_db / 10), found.efficiency))
        print(
            f"| {scheme.name} | {found.snr_db:.2f} | {found.efficiency:.2f} | {gap:.2f} |",
            flush=True,
        )


def short(rng: np.random.Generator, packets: int) -> None:
    print("\nShort bursts, QPSK 0.50, header at full power and 4 dB below, 1% loss:\n")
    print("| bytes | header, dB | pilots | SNR, dB | bit/s/Hz | gap to Shannon, dB |")
    print("|---:|---:|---:|---:|---:|---:|")
    for length in (64, 128, 256, 512):
        for header_db, pilot_symbols in ((0.0, 0), (-4.0, 0), (0.0, 1)):
            found = threshold(
                rng,
                2,
                length,
                0.6,
                4 * packets,
                form=Format(pilot_symbols=pilot_symbols),
                header_amplitude=10 ** (header_db / 20),
            )
            gap = db(shannon_gap(10 ** (found.snr_db / 10), found.efficiency))
            print(
                f"| {length} | {header_db:g} | {pilot_symbols} | {found.snr_db:.2f} "
                f"| {found.efficiency:.2f} | {gap:.2f} |",
                flush=True,
            )


def fading(rng: np.random.Generator, packets: int) -> None:
    print("\n8 KB bursts over six Rayleigh taps (static in a burst), block loss:\n")
    print("| scheme | 10 dB | 15 dB | 20 dB | 25 dB | 30 dB |")
    print("|---|---:|---:|---:|---:|---:|")
    for number in (2, 5, 10, 13):
        losses = [
            measure(rng, number, 8192, snr_db, 2 * packets, taps=6).loss
            for snr_db in (10.0, 15.0, 20.0, 25.0, 30.0)
        ]
        print(f"| {SCHEMES[number].name} | {' | '.join(f'{x:.3f}' for x in losses)} |", flush=True)


def speed(rng: np.random.Generator) -> None:
    print("\nProcessing, one thread, processor time, medians of 30; pieces of 2,048 samples:\n")
    print(
        "| burst | SNR, dB | airtime at 2 MS/s, ms | transmit, ms | receive, ms "
        "| times real time | after the last sample, ms |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|")
    for number, length, snr_db in (
        (2, 1024, 3.0),
        (2, 8192, 3.0),
        (5, 8192, 8.5),
        (10, 1024, 16.0),
        (10, 8192, 16.0),
        (13, 8192, 21.0),
    ):
        payload = rng.bytes(length)
        header = announce(payload, scheme=number, sequence=1)
        sent = burst(payload, header)
        noise = 1.0 / BAND / 10 ** (snr_db / 10)
        rows = []
        for _ in range(30):
            begin = time.process_time()
            burst(payload, header)
            transmit = time.process_time() - begin
            samples = through(rng, sent, noise)[: 700 + len(sent) + 10]
            receiver = Receiver(settings(Format()))
            begin = time.process_time()
            for first in range(0, len(samples), 2048):
                last = time.process_time()
                receiver.feed(samples[first : first + 2048])
            end = time.process_time()
            rows.append((transmit, end - begin, end - last))
        transmit, receive, after = np.median(rows, axis=0)
        air = len(sent) / RATE_HZ
        print(
            f"| {length} bytes {SCHEMES[number].name} | {snr_db:g} | {1e3 * air:.1f} "
            f"| {1e3 * transmit:.2f} | {1e3 * receive:.2f} | {air / receive:.1f} "
            f"| {1e3 * after:.2f} |",
            flush=True,
        )


def wrong(rng: np.random.Generator, count: int) -> None:
    """Decode random soft bits and damaged words: none may pass parity and checksum."""
    segmentation = segment(64, 0.5)
    code = segmentation.code
    consistent, passed, damaged = 0, 0, 0
    for number in range(count):
        if number % 2:
            soft = rng.integers(-127, 128, 1088).astype(np.int16)
            sent = None
        else:
            sent = rng.bytes(64)
            word = code.encode(segmentation.bits_of(sent, 0))
            bits = code.select(word, sent=1088, version=0, bits_per_symbol=2)
            noisy = (1.0 - 2.0 * bits) * 8 + rng.standard_normal(1088) * 7.2
            soft = np.clip(np.rint(noisy), -127, 127).astype(np.int16)
        totals = code.blank()
        code.add(totals, soft, version=0, bits_per_symbol=2)
        decoded = code.decode(totals, rows=code.rows(1088, 0), iterations=8)
        consistent += decoded.consistent
        bits = decoded.word.reshape(-1)[: code.payload].view(np.uint8)
        content = segmentation.bytes_of(bits) if decoded.consistent else None
        damaged += content is None
        passed += content is not None and content != sent
    print(
        f"\n{count} blocks of 64 bytes, half of them random soft bits, half near the threshold: "
        f"{damaged} were not decoded, {consistent} fulfilled the parity checks, "
        f"{passed} wrong ones passed parity and checksum."
    )


PARTS = ("gap", "short", "fading", "speed", "wrong")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packets", type=int, default=50)
    parser.add_argument("--wrong-blocks", type=int, default=1_000_000)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    parts = args.parts.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    rng = np.random.default_rng(args.seed)
    if "speed" in parts:
        speed(rng)
    if "gap" in parts:
        gaps(rng, args.packets)
    if "short" in parts:
        short(rng, args.packets)
    if "fading" in parts:
        fading(rng, args.packets)
    if "wrong" in parts:
        wrong(rng, args.wrong_blocks)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

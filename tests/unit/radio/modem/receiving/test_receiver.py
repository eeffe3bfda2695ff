"""Bytes to bytes: white noise, fading, offsets, drift, pieces, retransmissions, bad samples."""

import math

import numpy as np
import pytest

from siftmoe.radio.errors import BadSamples
from siftmoe.radio.modem.receiving.memory import SoftMemory
from siftmoe.radio.modem.receiving.receiver import Receiver
from siftmoe.radio.modem.receiving.settings import Settings
from siftmoe.radio.modem.transmitter import Format, announce, burst, retransmission


def one(receptions):
    """The only reception."""
    assert len(receptions) == 1
    return receptions[0]


@pytest.mark.parametrize(
    ("scheme", "length", "snr_db"),
    [
        (0, 300, -1.0),
        (1, 2000, 1.0),
        (2, 1, 6.0),
        (2, 4000, 3.0),
        (5, 8192, 8.5),
        (10, 8192, 15.5),
        (13, 8192, 20.0),
        (17, 9000, 24.5),
    ],
)
def test_bytes_survive_white_noise(air, scheme, length, snr_db):
    """A decibel and more above the threshold."""
    rng = np.random.default_rng(scheme)
    payload = rng.bytes(length)
    header = announce(payload, scheme=scheme, sequence=77, source=3, destination=9)
    samples = air.through(rng, burst(payload, header), snr_db=snr_db, cfo_hz=150.0)
    reception = one(air.receiver().feed(samples))
    assert reception.payload == payload
    assert reception.header == header
    assert reception.missing == ()
    assert all(block.received for block in reception.blocks)
    assert reception.samples == Format().length(header)
    assert abs(reception.start - 700) <= 16
    assert reception.cfo_hz == pytest.approx(150.0, abs=60.0 * 10 ** (-snr_db / 20) + 10.0)
    assert 10 * math.log10(reception.snr) == pytest.approx(snr_db, abs=1.0)
    evm = np.sqrt(np.mean([block.evm**2 for block in reception.blocks]))
    assert -20 * math.log10(evm) == pytest.approx(snr_db, abs=1.0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("scheme", "snr_db"), [(2, 15.0), (10, 30.0)])
def test_bytes_survive_six_taps(air, scheme, snr_db, seed):
    rng = np.random.default_rng(seed)
    payload = rng.bytes(3000)
    sent = burst(payload, announce(payload, scheme=scheme))
    samples = air.through(rng, sent, snr_db=snr_db, taps=air.rayleigh(rng, 6), cfo_hz=-180.0)
    assert one(air.receiver().feed(samples)).payload == payload


@pytest.mark.parametrize("cfo_hz", [0.0, 31e3, -118e3, 7812.5, 119e3])
def test_first_contact_finds_any_offset(air, cfo_hz):
    rng = np.random.default_rng(1)
    payload = rng.bytes(500)
    sent = burst(payload, announce(payload, scheme=2))
    receiver = air.receiver(cfo_hz=None)
    assert receiver.cfo_hz is None
    samples = air.through(rng, sent, snr_db=8.0, cfo_hz=cfo_hz, tail=2000)
    assert one(receiver.feed(samples)).payload == payload
    assert receiver.cfo_hz == pytest.approx(cfo_hz, abs=50.0)


@pytest.mark.parametrize("piece", [1, 333, 2048, 10**6])
def test_pieces_do_not_matter(air, piece):
    rng = np.random.default_rng(2)
    payloads = [rng.bytes(n) for n in (200, 1, 700)]
    parts = [
        air.through(rng, burst(p, announce(p, scheme=2, sequence=i)), snr_db=9.0, lead=150, tail=90)
        for i, p in enumerate(payloads)
    ]
    samples = np.concatenate([*parts, np.zeros(700)]).astype(np.complex64)
    receiver = air.receiver()
    receptions = []
    for first in range(0, len(samples), piece):
        receptions += receiver.feed(samples[first : first + piece])
    assert [r.payload for r in receptions] == payloads
    assert [r.header.sequence for r in receptions] == [0, 1, 2]
    starts = np.cumsum([150, *[len(p) for p in parts[:-1]]])
    assert np.abs(np.array([r.start for r in receptions]) - starts).max() <= 16


def test_a_block_is_decoded_when_its_last_symbol_is_there(air):
    """Before the burst ends all blocks but the last are decoded."""
    rng = np.random.default_rng(3)
    payload = rng.bytes(8192)
    sent = burst(payload, announce(payload, scheme=5))
    samples = air.through(rng, sent, snr_db=10.0)
    receiver = air.receiver()
    assert receiver.feed(samples[: 700 + len(sent) - 1100]) == []
    assert receiver.counters.blocks == 7
    assert one(receiver.feed(samples[700 + len(sent) - 1100 : 700 + len(sent) + 9])).payload


def test_a_burst_without_payload_is_a_header(air):
    rng = np.random.default_rng(4)
    header = announce(b"", scheme=0, kind=5, sequence=4242, destination=17)
    samples = air.through(rng, burst(b"", header), snr_db=3.0)
    reception = one(air.receiver().feed(samples))
    assert (reception.payload, reception.header, reception.blocks) == (b"", header, ())


@pytest.mark.parametrize("ppm", [-40.0, 25.0])
def test_the_sample_clock_of_the_same_oscillator_may_be_off(air, ppm):
    """A transmitter ``ppm`` fast: carrier and samples. 64QAM over 45,000 samples drifts by 1.8."""
    rng = np.random.default_rng(5)
    payload = rng.bytes(16384)
    sent = burst(payload, announce(payload, scheme=10))
    padded = np.concatenate([sent, np.zeros(1000)])
    spectrum = np.fft.fft(padded)
    frequency = np.fft.fftfreq(len(padded))
    times = np.arange(len(sent) + 100) * (1.0 + 1e-6 * ppm)  # exact: the signal is band-limited
    late = times - np.round(times)
    whole = np.round(times).astype(int)
    shifted = np.empty(len(times), complex)
    for group in np.unique(np.round(late, 2)):  # a hundredth of a sample is below the noise
        moved = np.fft.ifft(spectrum * np.exp(2j * np.pi * frequency * group))
        chosen = np.round(late, 2) == group
        shifted[chosen] = moved[whole[chosen]]
    samples = air.through(rng, shifted, snr_db=20.0, cfo_hz=1e-6 * ppm * air.carrier_hz)
    receiver = air.receiver(cfo_hz=1e-6 * ppm * air.carrier_hz + 100.0)
    reception = one(receiver.feed(samples))
    assert reception.payload == payload
    assert 10 * math.log10(reception.snr) > 18.5


def test_a_channel_that_changes_during_the_burst(air):
    """Six taps at 16 Hz Doppler, 64QAM, 23 ms: decided blocks as pilots keep up."""
    rng = np.random.default_rng(6)
    received = 0
    for _ in range(4):
        payload = rng.bytes(16384)
        sent = burst(payload, announce(payload, scheme=8))
        angles = 2 * np.pi * rng.random((6, 12))  # sum of sinusoids for every tap
        phases = 2 * np.pi * rng.random((6, 12))
        profile = np.exp(-np.arange(6) / 2.0)
        profile /= profile.sum()
        time = np.arange(len(sent)) / air.rate_hz
        clean = np.zeros(len(sent), complex)
        for tap in range(6):
            waves = np.exp(
                1j * (2 * np.pi * 16.0 * np.outer(np.cos(angles[tap]), time) + phases[tap][:, None])
            )
            gain = waves.sum(axis=0) * math.sqrt(profile[tap] / 12)
            clean[tap:] += gain[tap:] * sent[: len(sent) - tap]
        samples = air.through(rng, clean, snr_db=30.0, taps=np.ones(1))
        receptions = air.receiver(doppler_hz=16.0).feed(samples)
        received += sum(b.received for r in receptions for b in r.blocks)
    assert received >= 0.9 * 4 * 16  # of 64 blocks; some bursts stand in a notch


@pytest.mark.parametrize("redundancy", [0, 2])
def test_two_bursts_below_the_threshold_add_up(air, redundancy):
    """Neither decodes alone; the blocks are asked for again and their soft bits combined."""
    rng = np.random.default_rng(7)
    payload = rng.bytes(3000)
    header = announce(payload, scheme=5, sequence=11)
    receiver = air.receiver()
    first = one(receiver.feed(air.through(rng, burst(payload, header), snr_db=4.6)))
    assert first.payload is None
    assert first.missing == tuple(range(len(first.blocks)))
    again = retransmission(header, redundancy=redundancy, blocks=0xFFFF)
    second = one(receiver.feed(air.through(rng, burst(payload, again), snr_db=4.6)))
    assert second.payload == payload
    alone = one(air.receiver().feed(air.through(rng, burst(payload, again), snr_db=4.6)))
    assert alone.payload is None


def test_only_missing_blocks_are_sent_again(air):
    rng = np.random.default_rng(8)
    payload = rng.bytes(8192)
    header = announce(payload, scheme=5, sequence=12)
    sent = burst(payload, header)
    sent[20000:23000] = 0  # a gap of 1.5 ms in the middle
    receiver = air.receiver()
    first = one(receiver.feed(air.through(rng, sent, snr_db=12.0)))
    assert first.payload is None
    assert 0 < len(first.missing) < 8
    mask = sum(1 << block for block in first.missing)
    again = retransmission(header, redundancy=0, blocks=mask)
    second = one(receiver.feed(air.through(rng, burst(payload, again), snr_db=12.0)))
    assert second.payload == payload
    assert tuple(block.block for block in second.blocks) == first.missing


def test_the_memory_of_partial_payloads_is_bounded(air):
    rng = np.random.default_rng(9)
    memory = SoftMemory(capacity=2)
    settings = Settings(sample_rate_hz=air.rate_hz, carrier_hz=air.carrier_hz, cfo_hz=0.0)
    receiver = Receiver(settings, memory)
    for sequence in range(5):
        payload = rng.bytes(600)
        header = announce(payload, scheme=10, sequence=sequence)
        assert one(receiver.feed(air.through(rng, burst(payload, header), snr_db=8.0)))
    assert len(memory) == 2


def test_old_soft_bits_are_not_added(air):
    memory = SoftMemory(max_age=1000)
    header = announce(b"abc", scheme=2)
    partial = memory.open(header, now=0)
    partial.blocks[0] = b"abc"
    assert memory.open(header, now=900) is partial
    assert memory.open(header, now=5000).blocks == {}
    memory.close(header)
    assert len(memory) == 0
    with pytest.raises(ValueError, match="must be positive"):
        SoftMemory(capacity=0)


def test_another_transmitter_is_not_received(air):
    rng = np.random.default_rng(10)
    payload = rng.bytes(500)
    sent = burst(payload, announce(payload, scheme=2), Format(sequence=5))
    samples = air.through(rng, sent, snr_db=20.0)
    assert air.receiver(form=Format(sequence=6)).feed(samples) == []
    assert one(air.receiver(form=Format(sequence=5)).feed(samples)).payload == payload


@pytest.mark.parametrize("pilot_symbols", [1, 4])
def test_pilot_symbols_reach_lower(air, pilot_symbols):
    rng = np.random.default_rng(11)
    form, received = Format(pilot_symbols=pilot_symbols), 0
    for _ in range(10):
        payload = rng.bytes(60)
        sent = burst(payload, announce(payload, scheme=0), form)
        receptions = air.receiver(form=form).feed(air.through(rng, sent, snr_db=-2.5))
        received += any(r.payload == payload for r in receptions)
    assert received >= 9


def test_a_quieter_header_is_accounted_for(air):
    """Its amplitude is measured, so the response that 16QAM needs is right."""
    rng = np.random.default_rng(12)
    payload = rng.bytes(2000)
    sent = burst(payload, announce(payload, scheme=7), header_amplitude=0.5)
    reception = one(air.receiver().feed(air.through(rng, sent, snr_db=12.0)))
    assert reception.payload == payload
    assert reception.gain == pytest.approx(1.0, rel=0.05)


def test_a_lost_offset_is_searched_again(air):
    """The oscillator jumps by 9 kHz: after some lost bursts first contact finds it."""
    rng = np.random.default_rng(13)
    receiver, got = air.receiver(patience_s=2e-3), []
    for number in range(12):
        payload = rng.bytes(200)
        sent = burst(payload, announce(payload, scheme=2, sequence=number))
        cfo_hz = 0.0 if number < 2 else 9e3
        got.append(
            any(receiver.feed(air.through(rng, sent, snr_db=12.0, cfo_hz=cfo_hz, tail=1500)))
        )
    assert got[:2] == [True, True]
    assert got[-2:] == [True, True]


def test_noise_and_silence_are_nothing(air):
    rng = np.random.default_rng(14)
    receiver = air.receiver()
    noise = rng.standard_normal((200_000, 2)) @ [1.0, 1j]
    for part in np.split(noise, 50):
        assert receiver.feed(part) == []
    assert receiver.feed(np.zeros(50_000, complex)) == []
    assert receiver.counters.headers == 0
    assert receiver._stream._buffer.size <= 65536 * 2


@pytest.mark.parametrize("value", [np.nan, np.inf, 1j * np.nan, 1e30, 1e300])
def test_samples_that_are_no_numbers_are_refused(air, value):
    rng = np.random.default_rng(15)
    payload = rng.bytes(300)
    samples = air.through(rng, burst(payload, announce(payload, scheme=2)), snr_db=15.0)
    bad = samples.copy()
    bad[2000] = value
    receiver = air.receiver()
    with pytest.raises(BadSamples, match="burst in progress is lost"):
        receiver.feed(bad)
    assert one(receiver.feed(samples)).payload == payload  # it goes on


def test_samples_must_be_a_complex_row(air):
    for wrong in (np.zeros(10), np.zeros((2, 5), complex)):
        with pytest.raises(ValueError, match="complex row"):
            air.receiver().feed(wrong)


def damage(rng, samples):
    """One of many ways to damage a burst."""
    samples = samples.copy()
    first, last = sorted(rng.integers(0, len(samples), 2))
    kind = int(rng.integers(0, 8))
    if kind == 0:
        samples[first:last] = 0
    elif kind == 1:
        samples[first:last] *= 30
    elif kind == 2:
        samples = np.concatenate([samples[:first], samples[last:]])
    elif kind == 3:
        samples = np.clip(samples.real, -0.2, 0.2) + 1j * np.clip(samples.imag, -0.2, 0.2)
    elif kind == 4:
        samples[first:last] = rng.standard_normal((last - first, 2)) @ [3.0, 3j]
    elif kind == 5:
        samples[first:] = samples[first:].conj()
    elif kind == 6:
        samples = np.concatenate([samples[:last], samples[first:]])
    else:
        samples[first:last] = 1.0
    return samples


def test_damaged_bursts_give_no_wrong_payload_and_no_error(air):
    """Cut, clipped, doubled, jammed, mirrored: 150 bursts, whatever arrives is what was sent."""
    rng = np.random.default_rng(16)
    sent, received = set(), []
    receiver = air.receiver()
    for number in range(150):
        payload = rng.bytes(int(rng.integers(1, 900)))
        sent.add(payload)
        header = announce(payload, scheme=int(rng.integers(0, 11)), sequence=number % 5)
        form_samples = air.through(rng, burst(payload, header), snr_db=18.0, lead=100, tail=100)
        for _ in range(int(rng.integers(0, 3))):
            form_samples = damage(rng, form_samples)
        received += receiver.feed(form_samples.astype(np.complex64))
    payloads = [r.payload for r in received if r.payload]
    assert len(payloads) > 40
    assert set(payloads) <= sent


def test_random_soft_bits_are_never_a_block(air):
    """Two thousand words of noise: none fulfils parity and checksum."""
    from siftmoe.radio.modem.coding.blocks import segment

    rng = np.random.default_rng(17)
    cut = segment(16, 0.66)
    code = cut.code
    for _ in range(2000):
        totals = code.blank()
        soft = rng.integers(-127, 128, 292).astype(np.int16)
        code.add(totals, soft, version=0, bits_per_symbol=2)
        decoded = code.decode(totals, rows=code.rows(292, 0), iterations=8)
        bits = decoded.word.reshape(-1)[: code.payload].view(np.uint8)
        assert not decoded.consistent or cut.bytes_of(bits) is None


@pytest.mark.parametrize(
    "values",
    [
        {"sample_rate_hz": 0.0},
        {"carrier_hz": math.nan},
        {"doppler_hz": -1.0},
        {"cfo_range_hz": 1.1e6},
        {"cfo_hz": math.nan},
        {"iterations": 0},
    ],
)
def test_impossible_settings_are_refused(air, values):
    with pytest.raises(ValueError, match="receiver"):
        air.receiver(**values)

"""Parts of the receiver against theory: response, phase, cutting, soft bits, acquisition."""

import math

import numpy as np
import pytest

from siftmoe.radio.errors import HeaderInvalid
from siftmoe.radio.modem.framing.carriers import NUMEROLOGIES
from siftmoe.radio.modem.framing.preamble import preamble
from siftmoe.radio.modem.receiving.acquisition import LOOK_AHEAD, Acquisition
from siftmoe.radio.modem.receiving.following import follow
from siftmoe.radio.modem.receiving.opening import open_burst
from siftmoe.radio.modem.receiving.response import Comb
from siftmoe.radio.modem.receiving.softening import soft_bits, symbol_errors
from siftmoe.radio.modem.receiving.stream import Stream
from siftmoe.radio.modem.receiving.tracking import PhaseState, frequency_walk, smooth
from siftmoe.radio.modem.receiving.windows import Timing, cut, symbols
from siftmoe.radio.modem.symbols.constellation import modulate
from siftmoe.radio.modem.transmitter import Format, announce, burst

LARGE = NUMEROLOGIES[2]


def gaussian(rng, shape, variance):
    return math.sqrt(0.5 * variance) * (rng.standard_normal((*shape, 2)) @ np.array([1.0, 1j]))


def test_response_of_known_taps():
    comb = Comb(LARGE.fft_size, LARGE.carriers)
    taps = gaussian(np.random.default_rng(0), (16,), 1.0)
    expected = np.fft.fft(taps, LARGE.fft_size)[LARGE.carriers]
    assert np.allclose(comb.response(taps), expected, atol=1e-4)


def test_the_tap_fit_reaches_its_bound():
    """16 parameters from 3,200 symbols: NMSE 16 / 3200 of the noise, within 4 standard errors."""
    rng = np.random.default_rng(1)
    comb = Comb(LARGE.fft_size, LARGE.carriers)
    errors = []
    for _ in range(40):
        taps = gaussian(rng, (16,), 1 / 16)
        response = np.fft.fft(taps, LARGE.fft_size)[LARGE.carriers]
        sent = np.exp(0.5j * np.pi * rng.integers(0, 4, (4, LARGE.used)))
        received = response * sent + gaussian(rng, sent.shape, 0.1)
        matched = np.sum(sent.conj() * received, axis=0).astype(np.complex64)
        power = np.full(LARGE.used, 4.0, np.float32)
        sums = comb.sums(matched, power, count=3200.0)
        errors.append(np.mean(np.abs(comb.response(sums.taps()) - response) ** 2))
    bound = 0.1 * 16 / 3200
    spread = bound * math.sqrt(1 / 16 / 40)
    assert np.mean(errors) == pytest.approx(bound, abs=4 * spread + 1e-5)  # 1e-5: the ridge


def test_sums_of_different_symbols_add_up():
    rng = np.random.default_rng(2)
    taps = gaussian(rng, (16,), 1 / 16)
    total = None
    for numerology in NUMEROLOGIES:
        comb = Comb(numerology.fft_size, numerology.carriers)
        matched = np.fft.fft(taps, numerology.fft_size)[numerology.carriers].astype(np.complex64)
        part = comb.sums(matched, np.ones(numerology.used, np.float32), count=numerology.used)
        total = part if total is None else total + part
    response = comb.response(total.taps())
    assert np.mean(np.abs(response - comb.response(taps)) ** 2) < 1e-5  # mean power 1
    assert total.faded(0.5).count == total.count / 2


def test_the_phase_filter_is_as_uncertain_as_it_says():
    """A drifting phase at 0 dB a symbol: normalised errors have unit variance."""
    rng = np.random.default_rng(3)
    walk, step, energy = 1e-12, 1040.0, 8.0
    times = step * np.arange(1, 61)
    ends, smoothed = [], []
    for _ in range(150):
        turn = np.cumsum(np.concatenate([[rng.normal(0, 1e-4)], rng.normal(0, 1, 60)]) * 1.0)
        turn = turn[0] + np.cumsum(rng.normal(0, math.sqrt(walk * step), 60))
        phase = np.cumsum(step * turn)
        matched = energy * np.exp(1j * phase) + gaussian(rng, (60,), energy)
        start = PhaseState(time=0.0, phase=0.0, turn=0.0, covariance=np.array([0.01, 0.0, 1e-8]))
        phases, state = smooth(
            start,
            times=times,
            matched=matched,
            energy=np.full(60, energy),
            walk=walk,
            passed=60,
        )
        ends.append((state.phase - phase[-1]) / math.sqrt(state.covariance[0]))
        smoothed.append(phases[:-10] - phase[:-10])
    assert np.var(ends) == pytest.approx(1.0, abs=0.5)
    assert np.std(smoothed) < 0.6 * math.sqrt(0.5 / energy)  # better than each symbol alone


def test_the_state_after_some_symbols_does_not_depend_on_later_ones():
    rng = np.random.default_rng(4)
    start = PhaseState(time=0.0, phase=0.1, turn=0.0, covariance=np.array([0.1, 0.0, 1e-8]))
    times, matched = 500.0 * np.arange(1, 9), gaussian(rng, (8,), 1.0) + 5
    energy = np.full(8, 5.0)
    _, short = smooth(
        start, times=times[:3], matched=matched[:3], energy=energy[:3], walk=1e-13, passed=3
    )
    _, state = smooth(start, times=times, matched=matched, energy=energy, walk=1e-13, passed=3)
    assert (state.time, state.phase, state.turn) == (short.time, short.phase, short.turn)
    _, same = smooth(start, times=times, matched=matched, energy=energy, walk=1e-13, passed=0)
    assert same.phase == start.phase


def test_the_walk_grows_with_the_doppler():
    assert frequency_walk(10.0, 2e6) == pytest.approx(8 * frequency_walk(5.0, 2e6))


def test_cutting_removes_offset_and_drift():
    """A tone at a carrier, 20 ppm off in carrier and clock, 200,000 samples into a burst."""
    drift, turn, first = -2e-5, 3e-4, 200_000
    bin_turn = 2 * np.pi * 37 / LARGE.fft_size
    late = (first + 16) * (1 + drift)
    time = np.arange(first + 3000)
    samples = np.exp(1j * (bin_turn * (time - late) + turn * time)).astype(np.complex64)
    data = np.empty((1, LARGE.data_cells), np.complex64)
    tones = np.empty((1, 8), np.complex64)
    timing = Timing(turn=turn, drift=drift)
    symbols(samples, LARGE, first=first, timing=timing, data=data, tones=tones)
    carriers = np.zeros(LARGE.used, complex)
    carriers[LARGE.data_places], carriers[LARGE.pilot_places] = data[0], tones[0]
    place = int(np.flatnonzero(LARGE.carriers == 37)[0])
    assert np.abs(carriers).argmax() == place
    assert carriers[place] / abs(carriers[place]) == pytest.approx(1.0, abs=0.02)


def test_cutting_outside_of_the_samples_is_refused():
    with pytest.raises(ValueError, match="of 100 samples"):
        cut(np.zeros(100, np.complex64), np.array([50.0]), 60, Timing(turn=0.0, drift=0.0))


def test_following_a_response_that_moves():
    """16QAM at 15 dB; the taps turn by a radian over 12 symbols, no pilot is used."""
    rng = np.random.default_rng(5)
    comb = Comb(LARGE.fft_size, LARGE.carriers[LARGE.data_places])
    count, cells = 12, LARGE.data_cells
    first, second = gaussian(rng, (2, 4), 1 / 8)
    taps = np.zeros((count, 16), complex)
    turn = np.exp(1j * np.linspace(0.0, 1.0, count))[:, None]
    taps[:, :4] = first + second * turn
    responses = np.stack([comb.response(t) for t in taps])
    sent = modulate(rng.integers(0, 2, count * cells * 4).astype(np.uint8), 4)
    sent = sent.reshape(count, cells)
    noise = float(np.mean(np.abs(responses) ** 2)) * 10**-1.5
    data = (responses * sent + gaussian(rng, sent.shape, noise)).astype(np.complex64)
    start = comb.sums(responses[0], np.ones(cells, np.float32), count=float(cells))
    found, _ = follow(
        data,
        np.ones(count, np.complex64),
        start,
        comb=comb,
        noise=noise,
        order=4,
        symbol_length=LARGE.symbol_length,
    )
    error = np.mean(np.abs(comb.response(found[-1]) - responses[-1]) ** 2)
    still = np.mean(np.abs(responses[0] - responses[-1]) ** 2)
    assert error < 0.1 * still


def test_disturbed_symbols_count_less():
    rng = np.random.default_rng(6)
    sent = modulate(rng.integers(0, 2, 4 * 300 * 2).astype(np.uint8), 2).reshape(4, 300)
    received = sent + gaussian(rng, sent.shape, 0.1)
    error = gaussian(rng, (4, 8), 0.1)
    received[2] += 3.0
    error[2] += 3.0
    phasors = np.exp(1j * np.arange(4)).astype(np.complex64)
    tones, expected = np.ones((4, 8)) + error, np.ones((1, 8), np.complex64)
    tones = (tones * phasors[:, None]).astype(np.complex64)
    power = symbol_errors(tones, phasors, expected)
    assert np.allclose(power, np.mean(np.abs(error) ** 2, axis=1), rtol=1e-4)
    soft = soft_bits(
        (received * phasors[:, None]).astype(np.complex64),
        phasors,
        np.ones((1, 300), np.complex64),
        power,
        (100, 1150),
        noise=0.1,
        order=2,
        tones=8,
    )
    soft = np.concatenate([np.zeros(200), soft, np.zeros(100)]).reshape(4, 600)
    size = np.abs(soft[:, 200:500]).mean(axis=1)
    assert size[2] < 0.2 * size[[0, 1, 3]].min()


@pytest.mark.parametrize("turn", [None, 2 * math.pi * 3e3 / 2e6])
def test_acquisition_finds_bursts_at_minus_two_decibels(air, turn):
    """Timing within the prefix, offset within its spread, 40 of 40; AWGN."""
    rng = np.random.default_rng(7)
    search = Acquisition(sequence=9, turn=turn, turn_range=2 * math.pi * 0.06)
    starts, turns = [], []
    for _ in range(40):
        tail = 2 * LOOK_AHEAD
        sent = np.concatenate([preamble(9, 1), gaussian(rng, (800,), 1.0)])
        samples = air.through(rng, sent, snr_db=-2.0, cfo_hz=3e3, lead=900, tail=tail)
        found, _ = search.find(samples.astype(np.complex64), 0)
        assert found is not None
        starts.append(found.start - 900)
        turns.append(found.turn * 2e6 / (2 * math.pi) - 3e3)
    assert -16 <= min(starts) <= max(starts) <= 0
    assert np.std(turns) < 1000.0
    assert abs(np.mean(turns)) < 3 * 1000.0 / math.sqrt(40)


def test_noise_is_not_acquired():
    rng = np.random.default_rng(8)
    noise = gaussian(rng, (120_000,), 1.0).astype(np.complex64)
    for turn in (0.0, None):
        search = Acquisition(sequence=0, turn=turn, turn_range=0.3)
        found, position = search.find(noise, 0)
        assert found is None
        assert len(noise) - 2 * LOOK_AHEAD <= position <= len(noise)


def test_a_preamble_without_a_header_is_refused(air):
    rng = np.random.default_rng(9)
    form = Format()
    sent = np.concatenate([preamble(0, 0), gaussian(rng, (700,), 1.0)])
    samples = air.through(rng, sent, snr_db=20.0, lead=0).astype(np.complex64)
    with pytest.raises(HeaderInvalid, match="no checksum holds"):
        open_burst(samples, 0.0, form, drift_per_turn=0.0, walk=1e-13)


def test_a_header_that_names_no_block_is_refused(air, monkeypatch):
    """Its checksum is right: as by chance, or from a transmitter with a fault."""
    from siftmoe.radio.modem.framing.carriers import SHORT
    from siftmoe.radio.modem.framing.header import Header, header_cells

    rng = np.random.default_rng(10)
    header = Header(length=10, scheme=2, blocks=0b100)
    sent = np.concatenate([preamble(0, 0), SHORT.modulate(header_cells(header))])
    samples = air.through(rng, sent, snr_db=20.0, lead=0).astype(np.complex64)
    with pytest.raises(HeaderInvalid, match="name none"):
        open_burst(samples, 0.0, Format(), drift_per_turn=0.0, walk=1e-13)


def test_the_header_offset_is_refined(air):
    """64 bytes at 10 dB: preamble and header give the offset within some 20 Hz."""
    rng = np.random.default_rng(11)
    payload = rng.bytes(64)
    sent = burst(payload, announce(payload, scheme=2))
    errors = []
    for _ in range(30):
        samples = air.through(rng, sent, snr_db=10.0, cfo_hz=500.0, lead=0)
        opened = open_burst(
            samples.astype(np.complex64), 0.0, Format(), drift_per_turn=0.0, walk=1e-13
        )
        errors.append(opened.timing.turn * 2e6 / (2 * math.pi) - 500.0)
    assert np.std(errors) < 40.0
    assert abs(np.mean(errors)) < 3 * 40.0 / math.sqrt(30)


def test_a_stream_grows_and_is_dropped():
    stream = Stream()
    sent = np.arange(300_000).astype(np.complex64)
    kept = 0
    for first in range(0, len(sent), 7000):
        stream.append(sent[first : first + 7000])
        dropped = stream.drop(len(stream.samples) - 100)
        kept += dropped
        assert stream.base == kept
        assert stream.samples[0] == sent[kept]
        assert len(stream.samples) <= 7200
    assert stream.drop(10) == 0  # the smaller part stays

"""Acquisition. Counts are compared within 4.5 standard deviations, seeds are fixed."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from siftmoe.radio.sounding import bounds, pilots
from siftmoe.radio.sounding.sync import Search, acquire, matched_filter

KNOWN = Search(sample_rate_hz=2e6)
FIRST_CONTACT = Search(sample_rate_hz=2e6, cfo_range_hz=50e3)


def _noise(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.standard_normal((count, 2)) @ np.array([1.0, 1j])


def _agrees(hits: int, trials: int, probability: float) -> bool:
    return abs(hits - trials * probability) < 4.5 * np.sqrt(
        trials * probability * (1 - probability)
    )


@pytest.mark.parametrize("power", [1e-6, 1.0, 3e3])
def test_false_alarm_rate_is_as_stated_at_any_noise_power(power):
    metric = matched_filter(np.sqrt(power) * _noise(np.random.default_rng(1), 256 * 4000), cfo=0.01)
    windows = metric[::256]  # disjoint windows are independent
    assert stats.kstest(windows[:2000] / 256, "beta", args=(1, 255)).pvalue > 1e-3
    hits = int((windows > bounds.metric_threshold(1e-2)).sum())
    assert _agrees(hits, len(windows), 1e-2)


@pytest.mark.parametrize("snr_db", [-13.0, -10.0, -8.0])
def test_detection_rate_follows_the_curve(air, snr_db):
    rng = np.random.default_rng(2)
    trials, snr, probability = 1500, 10 ** (snr_db / 10), 1e-6
    rows = air.received(rng, air.taps(rng, taps=1, count=trials), length=300, noise_power=1 / snr)
    threshold = bounds.metric_threshold(probability)
    hits = sum(matched_filter(row, cfo=0.0)[pilots.PREFIX] > threshold for row in rows)
    expected = bounds.detection_probability(snr, false_alarm_probability=probability)
    assert _agrees(hits, trials, float(expected))


def test_detection_with_cfo_follows_the_curve(air):
    rng = np.random.default_rng(3)
    trials, snr, error = 1500, 0.1, 1 / 1024
    rows = air.received(
        rng,
        air.taps(rng, taps=1, count=trials),
        length=300,
        noise_power=1 / snr,
        cfo_hz=error * air.sample_rate_hz,
    )
    threshold = bounds.metric_threshold(1e-6)
    hits = sum(matched_filter(row, cfo=0.0)[pilots.PREFIX] > threshold for row in rows)
    expected = bounds.detection_probability(snr, false_alarm_probability=1e-6, cfo_error=error)
    assert _agrees(hits, trials, float(expected))


@pytest.mark.parametrize("search", [KNOWN, FIRST_CONTACT])
def test_noise_is_no_burst(search):
    rng = np.random.default_rng(4)
    for _ in range(20):
        detection = acquire(_noise(rng, 4096), search)
        assert not detection.detected
        assert detection.metric < detection.threshold


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_silence_and_a_bare_carrier_are_no_burst(level):
    samples = np.full(4096, level, dtype=complex)
    assert not acquire(samples, FIRST_CONTACT).detected


@pytest.mark.parametrize("start", [610, 700, 1200, 1800])
def test_a_burst_cut_at_the_end_is_not_reported(air, start):
    rng = np.random.default_rng(5)
    samples = air.received(
        rng, air.taps(rng, taps=1, count=1), length=2048, start=start, noise_power=1e-2
    )[0]
    assert not acquire(samples, KNOWN).detected


@pytest.mark.parametrize("cut", [1, 40, 100, 200, 700])
def test_a_burst_cut_at_the_front_is_not_reported(air, cut):
    rng = np.random.default_rng(5)
    samples = air.received(
        rng, air.taps(rng, taps=1, count=1), length=2048 + cut, noise_power=1e-2
    )[0]
    assert not acquire(samples[cut:], KNOWN).detected


def test_a_weak_whole_burst_is_found_beside_a_strong_one_cut_short(air):
    rng = np.random.default_rng(5)
    taps = np.ones((1, 1))
    strong = air.received(rng, taps, length=3000, start=1800)[0]
    weak = 0.1 * air.received(rng, taps, length=3000, start=100, noise_power=1e-1)[0]
    detection = acquire(strong + weak, KNOWN)
    assert detection.detected
    assert detection.start == 100


@pytest.mark.parametrize("cfo_hz", [-49_300.0, -2_000.0, 0.0, 777.0, 31_250.0, 50_000.0])
def test_first_contact_finds_any_cfo_of_its_range(air, cfo_hz):
    rng = np.random.default_rng(6)
    for start in (0, 333, 608):
        samples = air.received(
            rng,
            air.taps(rng, taps=1, count=1),
            length=2048,
            start=start,
            cfo_hz=cfo_hz,
            noise_power=0.5,
        )[0]
        detection = acquire(samples, FIRST_CONTACT)
        assert detection.detected
        assert detection.start == start
        assert abs(detection.cfo_hz - cfo_hz) < 5 * detection.cfo_std_hz


def test_timing_and_cfo_hold_up_at_the_edge_of_detection(air):
    rng = np.random.default_rng(7)
    found = 0
    for _ in range(150):
        cfo = rng.uniform(-1900, 1900)
        samples = air.received(
            rng, air.taps(rng, taps=1, count=1), length=2048, start=200, cfo_hz=cfo, noise_power=8.0
        )[0]
        detection = acquire(samples, KNOWN)
        if detection.detected:
            found += 1
            # never at the half-burst echo, 128 samples off
            assert detection.start == 200
            assert abs(detection.cfo_hz - cfo) < 3000
    assert found > 75


def test_origin_covers_all_paths(air):
    rng = np.random.default_rng(8)
    held = []
    for taps in air.taps(rng, taps=6, count=200):
        samples = air.received(rng, taps[np.newaxis], length=2048, start=300, noise_power=0.1)[0]
        detection = acquire(samples, KNOWN)
        assert detection.detected
        first = 300 - detection.origin
        assert detection.start == 300 + np.abs(taps).argmax() or first >= 0
        kept = np.abs(taps[max(0, -first) : 16 - first]) ** 2
        held.append(kept.sum() / (np.abs(taps) ** 2).sum())
    assert min(held) > 0.999


@pytest.mark.parametrize("shape", [(1439,), (2, 2048), (65537,)])
def test_wrong_lengths_are_refused(shape):
    with pytest.raises(ValueError, match="acquire: samples must be"):
        acquire(np.zeros(shape, dtype=complex), KNOWN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sample_rate_hz": 0.0}, "sample_rate_hz"),
        ({"false_alarms_per_s": 0.0}, "false_alarms_per_s"),
        ({"cfo_range_hz": -1.0}, "cfo_range_hz"),
        ({"cfo_hz": 9e5, "cfo_range_hz": 2e5}, "beyond half the sample rate"),
    ],
)
def test_impossible_searches_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Search(**{"sample_rate_hz": 2e6, **options})

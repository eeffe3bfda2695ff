"""Bounds against the Fisher matrix and against simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from siftmoe.radio.sounding import bounds, pilots

SAMPLE_RATE_HZ = 2e6


def _fisher_cfo_std(taps: np.ndarray, *, snr: float) -> float:
    """CRLB of the CFO with 16 unknown taps, from the Fisher matrix of the samples."""
    burst = pilots.burst_waveform()
    delayed = [np.concatenate([np.zeros(lag), burst[: 1440 - lag]]) for lag in range(16)]
    used = np.concatenate(
        [s.start + np.arange(s.length) for s in (*pilots.sync_segments(), *pilots.pilot_segments())]
    )
    design = np.stack(delayed, axis=1)[used]  # [1280, 16]
    slope = 2 * np.pi * used / SAMPLE_RATE_HZ * (design[:, : len(taps)] @ taps)
    basis = np.linalg.qr(design)[0]
    slope = slope - basis @ (basis.conj().T @ slope)
    return float(1 / np.sqrt(2 * snr * np.vdot(slope, slope).real))


def test_cfo_bound_is_the_fisher_bound_within_a_tenth_of_a_decibel():
    exact = _fisher_cfo_std(np.array([1.0]), snr=2.0)
    stated = bounds.cfo_std_hz(2.0, sample_rate_hz=SAMPLE_RATE_HZ)
    assert abs(20 * np.log10(exact / stated)) < 0.1


@pytest.mark.parametrize("probability", [1e-2, 1.4e-10])
def test_threshold_inverts_the_law_of_the_metric_in_noise(probability):
    threshold = bounds.metric_threshold(probability)
    assert stats.beta(1, 255).sf(threshold / 256) == pytest.approx(probability, rel=1e-9)


@pytest.mark.parametrize("probability", [1e-2, 1.4e-10])
def test_detection_curve_is_the_noncentral_f_law(probability):
    snr = np.array([0.01, 0.05, 0.1, 0.3, 1.0])
    level = bounds.metric_threshold(probability) / 256
    ratio = level / (1 - level) * (510 / 2)
    expected = stats.ncf(2, 510, 2 * 256 * snr).sf(ratio)
    got = bounds.detection_probability(snr, false_alarm_probability=probability)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-12)


def test_detection_target_at_zero_decibel():
    # one false alarm an hour at 2 MS/s
    per_sample = 1.0 / 3600.0 / SAMPLE_RATE_HZ
    assert bounds.detection_probability(1.0, false_alarm_probability=per_sample) > 0.99
    half_step = 1.0 / 1024
    missed = bounds.detection_probability(
        0.1, false_alarm_probability=per_sample, cfo_error=half_step
    )
    assert missed < bounds.detection_probability(0.1, false_alarm_probability=per_sample)


def test_tap_limit_is_worth_eleven_decibels():
    ratio = bounds.least_squares_nmse(1.0) / bounds.tap_limited_nmse(1.0)
    assert 10 * np.log10(ratio) == pytest.approx(10.97, abs=0.01)


@pytest.mark.parametrize("snr", [0.0, -1.0, float("nan")])
def test_snr_must_be_positive(snr):
    with pytest.raises(ValueError, match="snr must be positive"):
        bounds.tap_limited_nmse(snr)


@pytest.mark.parametrize("probability", [0.0, 1.0, -0.1])
def test_false_alarm_probability_must_be_one(probability):
    with pytest.raises(ValueError, match="false_alarm_probability"):
        bounds.metric_threshold(probability)

"""Prediction from an older estimate, against the process it is derived from."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.radio.channel.aging import aged, power_correlation
from siftmoe.radio.channel.fading import FadingKind, FadingModel
from siftmoe.radio.channel.link import ChannelOrigin, ChannelState


def state_of(gain: float, std: float = 0.0) -> ChannelState:
    return ChannelState(
        gain=gain,
        noise_psd=1e-20,
        bandwidth_hz=2e6,
        time_s=1.0,
        origin=ChannelOrigin.SOUNDED,
        gain_std=std,
    )


def test_a_fresh_estimate_stays_and_an_old_one_is_the_mean():
    fresh = aged(state_of(3.0, 0.1), now_s=1.0, mean_gain=2.0, coherence_time_s=0.1)
    assert (fresh.gain, fresh.gain_std) == (3.0, pytest.approx(0.1))
    old = aged(state_of(3.0, 0.1), now_s=100.0, mean_gain=2.0, coherence_time_s=0.1)
    # A Rayleigh channel's gain is exponential: its deviation is its mean.
    assert (old.gain, old.gain_std) == (pytest.approx(2.0), pytest.approx(2.0))
    assert old.time_s == 1.0


def test_the_correlation_is_one_half_after_a_coherence_time():
    assert power_correlation(0.3, coherence_time_s=0.3) == 0.5


@pytest.mark.parametrize("lag", [0.05, 0.1, 0.25])
def test_mean_and_deviation_are_those_of_the_process(lag):
    """Links of a Gauss-Markov process: the prediction's error is unbiased and as wide as stated."""
    model = FadingModel(kind=FadingKind.GAUSS_MARKOV, coherence_time_s=0.1, gain_floor=0.0)
    standardised = []
    for link in range(3000):
        fading = model.link(link, seed=11)
        before = float(fading.gain(1.0))
        after = float(fading.gain(1.0 + lag))
        predicted = aged(state_of(before), now_s=1.0 + lag, mean_gain=1.0, coherence_time_s=0.1)
        standardised.append((after - predicted.gain) / predicted.gain_std)
    assert abs(np.mean(standardised)) < 4 / np.sqrt(3000)
    assert np.std(standardised) == pytest.approx(1.0, abs=0.08)


@pytest.mark.parametrize("mean", [0.0, -1.0, float("nan")])
def test_a_mean_that_is_none_is_refused(mean):
    with pytest.raises(ValueError, match="mean_gain"):
        aged(state_of(1.0), now_s=2.0, mean_gain=mean, coherence_time_s=0.1)
    with pytest.raises(ValueError, match="coherence_time_s"):
        power_correlation(1.0, coherence_time_s=0.0)

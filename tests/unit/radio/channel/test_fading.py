"""Fading against theory. Seeds are fixed; bounds are five standard errors unless stated."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import special, stats

from siftmoe.radio.channel.fading import (
    GAUSS_MARKOV_STEPS,
    FadingKind,
    FadingModel,
    doppler_hz,
)
from siftmoe.radio.channel.pathloss import path_gain

COHERENCE_S = 0.02
KINDS = list(FadingKind)
RANDOM_KINDS = [FadingKind.BLOCK, FadingKind.JAKES, FadingKind.GAUSS_MARKOV]


def _ensemble(kind: FadingKind, links: int, time_s: object, **options: float) -> np.ndarray:
    model = FadingModel(kind=kind, coherence_time_s=COHERENCE_S, **options)
    return np.array([model.link(n, seed=7).response(time_s) for n in range(links)])


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_rayleigh_gain_is_exponential_with_mean_one(kind):
    gain = np.abs(_ensemble(kind, 3000, 1.234)) ** 2
    # rejects a true exponential with probability 1e-3
    assert stats.kstest(gain, "expon").pvalue > 1e-3
    assert gain.mean() == pytest.approx(1.0, abs=5 / np.sqrt(3000))


def test_blocks_of_one_link_are_independent_and_exponential():
    link = FadingModel(coherence_time_s=COHERENCE_S).link(0, seed=3)
    response = link.response(np.arange(8000) * COHERENCE_S + 0.5 * COHERENCE_S)
    assert stats.kstest(np.abs(response) ** 2, "expon").pvalue > 1e-3
    neighbours = np.vdot(response[:-1], response[1:]) / 7999
    assert abs(neighbours) < 5 / np.sqrt(7999)


def test_block_is_constant_within_its_coherence_time():
    link = FadingModel(coherence_time_s=COHERENCE_S).link(0, seed=3)
    inside = link.response(COHERENCE_S * (5 + np.linspace(0.01, 0.99, 20)))
    assert np.all(inside == inside[0])
    assert link.response(6.01 * COHERENCE_S) != inside[0]


def test_jakes_autocorrelation_is_j0():
    links, starts = 600, 8
    lags = np.linspace(0.0, 3.0, 25) * COHERENCE_S
    # starts 50 coherence times apart count as independent
    times = np.arange(starts)[:, np.newaxis] * 50 * COHERENCE_S + lags
    response = _ensemble(FadingKind.JAKES, links, times)
    measured = (response * response[..., :1].conj()).mean(axis=(0, 1))
    theory = special.j0(2 * np.pi * doppler_hz(COHERENCE_S) * lags)
    assert np.abs(measured - theory).max() < 5 / np.sqrt(links * starts)


def test_jakes_time_average_of_one_link_is_near_one():
    link = FadingModel(kind=FadingKind.JAKES, coherence_time_s=COHERENCE_S).link(0, seed=5)
    gain = link.gain(np.arange(20_000) * 0.37 * COHERENCE_S)
    assert gain.mean() == pytest.approx(1.0, abs=0.1)


def test_gauss_markov_autocorrelation_is_exponential():
    links = 2000
    step = COHERENCE_S / GAUSS_MARKOV_STEPS
    lags = np.arange(0, 4 * GAUSS_MARKOV_STEPS + 1, 4)
    response = _ensemble(FadingKind.GAUSS_MARKOV, links, (lags + 0.5) * step)
    measured = (response * response[:, :1].conj()).mean(axis=0)
    theory = 2.0 ** (-lags / (2.0 * GAUSS_MARKOV_STEPS))
    assert np.abs(measured - theory).max() < 5 / np.sqrt(links)


def test_gauss_markov_innovations_are_white_and_of_the_right_power():
    count = 40_000
    step = COHERENCE_S / GAUSS_MARKOV_STEPS
    link = FadingModel(kind=FadingKind.GAUSS_MARKOV, coherence_time_s=COHERENCE_S).link(0, seed=2)
    response = link.response((np.arange(count) + 0.5) * step)
    rho = 2.0 ** (-1.0 / (2 * GAUSS_MARKOV_STEPS))
    innovation = (response[1:] - rho * response[:-1]) / np.sqrt(1 - rho**2)
    assert np.mean(np.abs(innovation) ** 2) == pytest.approx(1.0, abs=5 / np.sqrt(count))
    assert abs(np.vdot(innovation[1:], innovation[:-1])) / count < 5 / np.sqrt(count)


@pytest.mark.parametrize("kind", [FadingKind.JAKES, FadingKind.GAUSS_MARKOV])
def test_gain_correlation_at_the_coherence_time_is_one_half(kind):
    links = 2000
    middle = 0.5 / GAUSS_MARKOV_STEPS
    gain = np.abs(_ensemble(kind, links, np.array([middle, 1 + middle]) * COHERENCE_S)) ** 2
    # the standard error of a sample correlation of exponentials stays below 2/sqrt(n)
    assert np.corrcoef(gain.T)[0, 1] == pytest.approx(0.5, abs=10 / np.sqrt(links))


@pytest.mark.parametrize("kind", RANDOM_KINDS)
@pytest.mark.parametrize("rician_k", [1.0, 6.0])
def test_rician_gain_is_noncentral_chi_square(kind, rician_k):
    gain = np.abs(_ensemble(kind, 2000, 0.4, rician_k=rician_k)) ** 2
    # 2 (K+1) g is noncentral chi-square with two degrees of freedom and noncentrality 2 K
    assert stats.kstest(2 * (rician_k + 1) * gain, "ncx2", args=(2, 2 * rician_k)).pvalue > 1e-3
    spread = np.sqrt(1 + 2 * rician_k) / (1 + rician_k)
    assert gain.mean() == pytest.approx(1.0, abs=5 * spread / np.sqrt(2000))


def test_gain_floor_has_its_stated_mean_and_bounds_the_inverse():
    floor = 0.05
    link = FadingModel(coherence_time_s=1.0, gain_floor=floor).link(0, seed=1)
    gain = link.gain(np.arange(8000))
    assert gain.min() == floor
    assert gain.mean() == pytest.approx(floor + np.exp(-floor), abs=5 / np.sqrt(8000))
    inverse = (1 - np.exp(-floor)) / floor + special.exp1(floor)
    spread = np.std(1 / gain) / np.sqrt(8000)
    assert np.mean(1 / gain) == pytest.approx(inverse, abs=5 * spread)


@pytest.mark.parametrize("kind", KINDS)
def test_any_order_of_reading_gives_the_same(kind):
    model = FadingModel(kind=kind, coherence_time_s=COHERENCE_S, rician_k=0.5)
    times = np.array([[3.0, 0.0, 0.013], [-1.0, 0.013, 7.5]])
    together = model.link(4, seed=9).response(times)
    link = model.link(4, seed=9)
    apart = [complex(link.response(float(t))) for t in times.ravel()[::-1]][::-1]
    assert together.shape == times.shape
    np.testing.assert_allclose(together.ravel(), apart, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", RANDOM_KINDS)
def test_links_and_seeds_are_uncorrelated(kind):
    model = FadingModel(kind=kind, coherence_time_s=COHERENCE_S)
    first, second, other = [], [], []
    for n in range(1500):
        first.append(complex(model.link(2 * n, seed=1).response(0.0)))
        second.append(complex(model.link(2 * n + 1, seed=1).response(0.0)))
        other.append(complex(model.link(2 * n, seed=2).response(0.0)))
    assert abs(np.vdot(first, second)) / 1500 < 5 / np.sqrt(1500)
    assert abs(np.vdot(first, other)) / 1500 < 5 / np.sqrt(1500)


def test_static_link_does_not_fade():
    link = FadingModel(kind=FadingKind.STATIC).link(0, seed=0)
    assert np.all(link.gain(np.arange(5.0)) == 1.0)


@pytest.mark.parametrize("kind", KINDS)
def test_no_times_give_no_responses(kind):
    link = FadingModel(kind=kind).link(0, seed=0)
    assert link.response(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize(
    "options",
    [
        {"coherence_time_s": 0.0},
        {"coherence_time_s": float("inf")},
        {"rician_k": -1.0},
        {"rician_k": float("nan")},
        {"gain_floor": -0.1},
    ],
)
def test_impossible_models_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        FadingModel(**options)


def test_bad_seed_and_time_are_refused():
    with pytest.raises(ValueError, match="seed"):
        FadingModel().link(0, seed=-1)
    with pytest.raises(ValueError, match="finite"):
        FadingModel().link(0, seed=0).response(float("nan"))


def test_path_gain_is_free_space_at_the_reference_and_falls_with_the_exponent():
    gain = path_gain(distance_m=[1.0, 10.0], carrier_hz=2.4e9, exponent=3.0)
    # Friis at 2.4 GHz and 1 m: 40.05 dB
    assert -10 * np.log10(gain[0]) == pytest.approx(40.05, abs=0.01)
    assert 10 * np.log10(gain[0] / gain[1]) == pytest.approx(30.0)


@pytest.mark.parametrize(
    "options", [{"distance_m": 0.5}, {"carrier_hz": 0.0}, {"exponent": 0.0}, {"reference_m": -1.0}]
)
def test_path_gain_refuses_what_has_no_meaning(options):
    with pytest.raises(ValueError, match="path gain"):
        path_gain(**{"distance_m": 3.0, "carrier_hz": 2.4e9, **options})

"""Received bursts with a known channel, made without any of the receiver's code."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from siftmoe.radio.sounding import pilots

SAMPLE_RATE_HZ = 2e6


def exponential_taps(rng: np.random.Generator, *, taps: int, count: int) -> np.ndarray:
    """Rayleigh taps of unit mean power; a single tap has unit power and a random phase."""
    if taps == 1:
        return np.exp(2j * np.pi * rng.random((count, 1)))
    profile = np.exp(-np.arange(taps) / 2.0)
    profile /= profile.sum()
    normal = rng.standard_normal((count, taps, 2)) @ np.array([1.0, 1j])
    return normal * np.sqrt(profile / 2.0)


def frequency_response(taps: np.ndarray, *, delay: int = 0) -> np.ndarray:
    """Response at the pilots' carriers of taps that start ``delay`` samples late."""
    lags = delay + np.arange(taps.shape[-1])
    return taps @ np.exp(-2j * np.pi * np.outer(lags, pilots.carriers()) / pilots.FFT_SIZE)


def received(
    rng: np.random.Generator,
    taps: np.ndarray,
    *,
    length: int,
    start: int = 0,
    cfo_hz: float | np.ndarray = 0.0,
    noise_power: float = 0.0,
) -> np.ndarray:
    """Rows of ``length`` samples: burst through ``taps`` at ``start``, CFO, white noise."""
    count = len(taps)
    rows = np.zeros((count, length), dtype=complex)
    burst = pilots.burst_waveform()
    for lag in range(taps.shape[-1]):
        stop = min(length, start + lag + len(burst))
        rows[:, start + lag : stop] += taps[:, lag, None] * burst[: stop - start - lag]
    turn = np.asarray(cfo_hz).reshape(-1, 1) * np.arange(length) / SAMPLE_RATE_HZ
    noise = rng.standard_normal((count, length, 2)) @ np.array([1.0, 1j])
    return rows * np.exp(2j * np.pi * turn) + np.sqrt(noise_power / 2.0) * noise


@pytest.fixture(scope="session")
def air():
    """The functions above, by name."""
    return SimpleNamespace(
        taps=exponential_taps,
        response=frequency_response,
        received=received,
        sample_rate_hz=SAMPLE_RATE_HZ,
    )

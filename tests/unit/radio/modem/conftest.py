"""Bursts through a channel, made without any of the receiver's code."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from siftmoe.radio.modem.receiving.receiver import Receiver
from siftmoe.radio.modem.receiving.settings import Settings

RATE_HZ = 2e6
CARRIER_HZ = 2.45e9


def rayleigh(rng: np.random.Generator, taps: int) -> np.ndarray:
    """Taps of unit mean power that fall off by half in 1.4 taps."""
    profile = np.exp(-np.arange(taps) / 2.0)
    normal = rng.standard_normal((taps, 2)) @ np.array([1.0, 1j])
    return normal * np.sqrt(0.5 * profile / profile.sum())


def through(
    rng: np.random.Generator,
    sent: np.ndarray,
    *,
    snr_db: float,
    taps: np.ndarray | None = None,
    cfo_hz: float = 0.0,
    lead: int = 700,
    tail: int = 300,
) -> np.ndarray:
    """Samples with the burst ``lead`` samples late; ``snr_db`` of a used carrier."""
    taps = np.exp(2j * np.pi * rng.random(1)) if taps is None else taps
    clean = np.convolve(sent, taps)
    samples = np.concatenate([np.zeros(lead), clean, np.zeros(tail)])
    samples = samples * np.exp(2j * np.pi * cfo_hz / RATE_HZ * np.arange(len(samples)))
    noise = 10 ** (-snr_db / 10) * 256 / 200
    normal = rng.standard_normal((len(samples), 2)) @ np.array([1.0, 1j])
    return samples + np.sqrt(0.5 * noise) * normal


def receiver(**settings: object) -> Receiver:
    """A receiver at 2 MS/s and 2.45 GHz that knows the carrier offset unless told otherwise."""
    values = {"sample_rate_hz": RATE_HZ, "carrier_hz": CARRIER_HZ, "cfo_hz": 0.0, **settings}
    return Receiver(Settings(**values))


@pytest.fixture(scope="session")
def air():
    """The functions above, by name."""
    return SimpleNamespace(
        rayleigh=rayleigh,
        through=through,
        receiver=receiver,
        rate_hz=RATE_HZ,
        carrier_hz=CARRIER_HZ,
    )

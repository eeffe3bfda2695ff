"""One band divided at least energy: against a general solver, and at its optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from siftmoe.coordinator.energy.sharing import share_band
from siftmoe.radio.channel.link import transmit_energy

NOISE = 4e-21


def random_case(seed, helpers=4, *, scale=1.0):
    rng = np.random.default_rng(seed)
    bits = rng.integers(1, 20, helpers) * 2048.0 * scale
    return bits, rng.uniform(0.05, 3.0, helpers) * 1e-8, np.full(helpers, NOISE)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("scale", [1e-4, 1.0, 8.0])
def test_no_division_needs_less(seed, scale):
    bits, gain, noise = random_case(seed, scale=scale)
    air = {"airtime_s": 0.02, "gain": gain, "noise_psd": noise}
    band, energy = share_band(bits, band_hz=8e6, **air)
    assert band.sum() == pytest.approx(8e6, rel=1e-9)
    assert (band > 0.0).all()

    def total(share):
        parts = transmit_energy(payload_bits=bits, bandwidth_hz=8e6 * share, **air)
        return float(parts.sum()) / energy.sum()

    found = minimize(
        total,
        np.full(4, 0.25),
        bounds=[(1e-3, 1.0)] * 4,
        constraints={"type": "eq", "fun": lambda share: share.sum() - 1.0},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 200},
    )
    assert total(np.full(4, 0.25)) >= 1.0 - 1e-12
    assert found.fun >= 1.0 - 1e-9
    # the energy that a further hertz saves is the same everywhere
    step = band * 1e-4
    more = transmit_energy(payload_bits=bits, bandwidth_hz=band + step, **air)
    less = transmit_energy(payload_bits=bits, bandwidth_hz=band - step, **air)
    saved = (less - more) / (2 * step)
    if scale >= 1.0:  # below, the differences are rounding
        assert saved == pytest.approx(np.full(4, saved.mean()), rel=1e-4)


def test_who_is_sent_nothing_has_no_band_and_one_alone_has_all():
    _, gain, noise = random_case(0)
    bits = np.array([0.0, 5e4, 0.0, 0.0])
    band, energy = share_band(bits, airtime_s=0.02, band_hz=8e6, gain=gain, noise_psd=noise)
    assert band.tolist() == pytest.approx([0.0, 8e6, 0.0, 0.0])
    assert (energy > 0.0).tolist() == [False, True, False, False]
    nothing = share_band(0 * bits, airtime_s=0.02, band_hz=8e6, gain=gain, noise_psd=noise)
    assert nothing[1].sum() == 0.0


def test_equal_helpers_share_evenly():
    same = np.full(5, 1e-8)
    band, _ = share_band(
        np.full(5, 3e4), airtime_s=0.02, band_hz=1e6, gain=same, noise_psd=np.full(5, NOISE)
    )
    assert band == pytest.approx(np.full(5, 2e5))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"airtime_s": 0.0}, "airtime_s must be positive"),
        ({"band_hz": float("nan")}, "band_hz must be positive"),
        ({"gain": np.array([1.0, np.nan])}, "gains and noise densities"),
        ({"payload_bits": np.array([1.0, -1.0])}, "payload_bits must not be negative"),
    ],
)
def test_nonsense_is_refused(changes, said):
    given = {
        "payload_bits": np.ones(2),
        "airtime_s": 1.0,
        "band_hz": 1.0,
        "gain": np.ones(2),
        "noise_psd": np.ones(2),
        **changes,
    }
    with pytest.raises(ValueError, match=said):
        share_band(given.pop("payload_bits"), **given)

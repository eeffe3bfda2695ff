"""Conversion between decibels and linear SI units, and thermal noise."""

from __future__ import annotations

import math

BOLTZMANN_J_PER_K = 1.380649e-23
#: Reference temperature of noise figures (IEEE), kelvin.
REFERENCE_TEMPERATURE_K = 290.0


def db_to_linear(value_db: float) -> float:
    """Power ratio of a value in dB."""
    return float(10.0 ** (value_db / 10.0))


def linear_to_db(ratio: float) -> float:
    """Value in dB of a positive power ratio."""
    if not ratio > 0.0:
        raise ValueError(f"a power ratio must be positive to have a value in dB, got {ratio}")
    return 10.0 * math.log10(ratio)


def dbm_to_watt(power_dbm: float) -> float:
    """Power in watt of a level in dBm."""
    return 1e-3 * db_to_linear(power_dbm)


def watt_to_dbm(power_w: float) -> float:
    """Level in dBm of a positive power in watt."""
    return linear_to_db(power_w) + 30.0


def thermal_noise_psd(*, noise_figure_db: float = 0.0) -> float:
    r"""Noise power spectral density at a receiver's input.

    .. math:: N_0 = k T_0 F

    Parameters
    ----------
    noise_figure_db : float, dB
        Noise figure :math:`F` of the receiver.

    Returns
    -------
    float, W/Hz
    """
    return BOLTZMANN_J_PER_K * REFERENCE_TEMPERATURE_K * db_to_linear(noise_figure_db)

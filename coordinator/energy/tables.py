r"""Energy tables: least energy to send q tokens to a helper within the window.

A policy does not model radios; it gets :math:`e_n(q)`, the least energy that serves a load of q
tokens on helper n. Every table made here is convex and nondecreasing in q, starts at 0 and is
infinite beyond what the power limits carry, which is all that the algorithms need.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.energy.circuit import least_energy
from siftmoe.radio.channel.link import payload_capacity, transmit_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: A load may exceed the link's capacity by this share of one token: rounding.
CAPACITY_SLACK = 1e-12


def uplink_energy_table(
    *,
    max_load: int,
    payload_bits: float,
    window_s: FloatArray | float,
    bandwidth_hz: FloatArray,
    gain: FloatArray,
    noise_psd: FloatArray,
    tx_power_limit_w: FloatArray,
    circuit_power_w: FloatArray | float = 0.0,
) -> FloatArray:
    r"""Energy of the uplink alone, every helper on its own band for the whole window.

    .. math:: e_n(q) = E(q s, T) = \frac{T N_0 B_n}{g_n}\left(2^{q s/(B_n T)} - 1\right), \quad
              q \le Q_n = \left\lfloor \frac{B_n T}{s}
              \log_2\left(1 + \frac{P_n g_n}{N_0 B_n}\right)\right\rfloor

    Parameters
    ----------
    max_load : int
        Largest load Q of the table.
    payload_bits : float, bit
        Bits :math:`s` of one token.
    window_s : float or (N,) float64, s
        Airtime :math:`T` that a helper's tokens share.
    bandwidth_hz, gain, noise_psd, tx_power_limit_w : (N,) float64, Hz, 1, W/Hz, W
        One direction of each helper's link; the power limit may be infinite.
    circuit_power_w : float or (N,) float64, W
        Of the circuits of both ends while a burst is on the air; bursts then end early where that
        costs less (`siftmoe.coordinator.energy.circuit`). 0 leaves them out.

    Returns
    -------
    (N, max_load+1) float64, J
        Infinite beyond the power limit.

    Raises
    ------
    ValueError
        If a size, the window, a bandwidth, a gain or a noise density is not positive, or a power
        limit is negative.

    Notes
    -----
    Shannon's capacity solved for power; SiftMoE (arXiv 2603.23888) names B_n and T, the formula
    is this project's reading (docs/explanation/theory.md, section 0).
    """
    check_sizes(max_load=max_load, payload_bits=payload_bits)
    check_powers(tx_power_limit_w)
    load = np.arange(max_load + 1, dtype=np.float64)
    link = {
        "payload_bits": load[None, :] * payload_bits,
        "bandwidth_hz": bandwidth_hz[:, None],
        "gain": gain[:, None],
        "noise_psd": noise_psd[:, None],
    }
    window = np.broadcast_to(np.asarray(window_s, dtype=np.float64), gain.shape)
    circuit = np.broadcast_to(np.asarray(circuit_power_w, dtype=np.float64), gain.shape)
    if circuit.any():
        table = least_energy(
            window_s=window[:, None],
            tx_power_limit_w=tx_power_limit_w[:, None],
            circuit_power_w=circuit[:, None],
            **link,
        ).energy_j  # [N, Q+1]
    else:
        table = transmit_energy(airtime_s=window[:, None], **link)  # [N, Q+1]
    capacity = payload_capacity(
        tx_power_w=tx_power_limit_w,
        airtime_s=window,
        bandwidth_hz=bandwidth_hz,
        gain=gain,
        noise_psd=noise_psd,
    )
    most = np.floor(capacity / payload_bits + CAPACITY_SLACK)  # [N]
    result: FloatArray = np.where(load[None, :] <= most[:, None], table, np.inf)
    return result


def check_sizes(*, max_load: int, payload_bits: float) -> None:
    """Raise ValueError if the largest load or the payload is not positive."""
    if max_load < 0:
        raise ValueError(f"max_load must not be negative, got {max_load}")
    if not payload_bits > 0.0:
        raise ValueError(f"payload_bits must be positive, got {payload_bits}")


def check_powers(tx_power_limit_w: FloatArray) -> None:
    """Raise ValueError for a negative power limit."""
    if not np.all(tx_power_limit_w >= 0.0):
        raise ValueError(f"tx_power_limit_w must not be negative, got {tx_power_limit_w}")

r"""Least energy of a burst where circuits take power as long as it lasts.

A transmitter's and a receiver's circuits (synthesiser, mixers, converters, baseband; of the power
amplifier what it does not radiate) take :math:`P_c` while a burst is on the air. A burst of b bits
in a window T then costs least at

.. math:: \min_{\tau \le T} \frac{\tau N_0 B}{g}\left(2^{b/(B\tau)} - 1\right) + P_c \tau

whose optimum has the spectral efficiency x that does not depend on b,

.. math:: \frac{N_0 B}{g}\left(x \ln 2\; 2^x - 2^x + 1\right) = P_c, \qquad \tau = \frac{b}{B x}

where that is shorter than the window and within the power limit. The energy is a perspective
function plus a linear one, jointly convex in (b, :math:`\tau`), so its minimum over the convex set
:math:`b / (B x_{max}) \le \tau \le T` is convex in the load: every algorithm holds. With
:math:`P_c = 0` bursts last their whole window, as in the paper's setting. Own derivation:
docs/explanation/theory.md, section 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.links.states import Direction
from siftmoe.radio.channel.link import MAX_BITS_PER_HERTZ, transmit_energy

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

_LN2: Final = math.log(2.0)
#: Below it the excess is summed as a series: its closed form would cancel.
_SMALL: Final = 0.5
#: Coefficients (k - 1) / k! of y^k, k = 2 to 19; the rest is below 1e-22 of the sum.
_SERIES: Final = tuple((k - 1) / math.factorial(k) for k in range(2, 20))
#: Newton's method converges quadratically from above; it takes 4 to 9 steps.
_STEPS: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPower:
    """Power of the circuits of both ends while a burst is on the air.

    Parameters
    ----------
    user_tx_w, user_rx_w : float, W
        Of the user's device, of the chain that sends one burst or receives one.
    helper_tx_w, helper_rx_w : float, W
        Of a helper.

    Raises
    ------
    ValueError
        If a power is negative or not finite.
    """

    user_tx_w: float = 0.0
    user_rx_w: float = 0.0
    helper_tx_w: float = 0.0
    helper_rx_w: float = 0.0

    def __post_init__(self) -> None:
        for name in ("user_tx_w", "user_rx_w", "helper_tx_w", "helper_rx_w"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ValueError(
                    f"circuit power {name} is {value}, must be finite and not negative; 0 leaves "
                    f"the circuit out"
                )

    def sender_w(self, direction: Direction) -> float:
        """Power of the circuits of a burst's sender, W."""
        return self.user_tx_w if direction is Direction.UP else self.helper_tx_w

    def receiver_w(self, direction: Direction) -> float:
        """Power of the circuits of one receiver of a burst, W."""
        return self.helper_rx_w if direction is Direction.UP else self.user_rx_w

    def of(self, direction: Direction, *, receivers: int = 1) -> float:
        """Power of the circuits of all ends of a burst, W."""
        return self.sender_w(direction) + receivers * self.receiver_w(direction)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spent:
    """Energy of bursts, radiated and circuit apart; arrays of one shape.

    Parameters
    ----------
    airtime_s : float64, s
        0 where there is nothing to send.
    radiated_j, circuit_j : float64, J
        Infinite and 0 where the power limit does not carry the payload.
    """

    airtime_s: FloatArray
    radiated_j: FloatArray
    circuit_j: FloatArray

    @property
    def energy_j(self) -> FloatArray:
        """Both together, J."""
        return self.radiated_j + self.circuit_j


def best_efficiency(
    *,
    bandwidth_hz: ArrayLike,
    gain: ArrayLike,
    noise_psd: ArrayLike,
    circuit_power_w: ArrayLike,
) -> FloatArray:
    r"""Spectral efficiency at which a bit costs least, circuits included.

    .. math:: \frac{N_0 B}{g}\left(x \ln 2\; 2^x - 2^x + 1\right) = P_c

    Parameters
    ----------
    bandwidth_hz, gain, noise_psd, circuit_power_w : broadcastable, Hz, 1, W/Hz, W

    Returns
    -------
    float64 of the broadcast shape, bit/s/Hz
        0 without circuit power; at most ``MAX_BITS_PER_HERTZ``.

    Raises
    ------
    ValueError
        If a circuit power is negative or not finite.

    Notes
    -----
    Own derivation. The left side is convex and rises from 0; Newton's method from above finds the
    root to rounding, whatever its size.
    """
    circuit = np.asarray(circuit_power_w, dtype=np.float64)
    if not (np.all(circuit >= 0.0) and np.all(circuit < np.inf)):
        raise ValueError(
            f"circuit_power_w must be finite and not negative, got {circuit_power_w!r}"
        )
    noise_w = np.asarray(noise_psd) * np.asarray(bandwidth_hz)
    if not (np.all(noise_w > 0.0) and np.all(np.asarray(gain) > 0.0)):
        raise ValueError("bandwidth_hz, gain and noise_psd must be positive")
    share = circuit * np.asarray(gain) / noise_w
    # Two upper bounds of the root: y^2 / 2 is below the left side, and so is (y - 1) e^y.
    y = np.minimum(np.sqrt(2.0 * share), 1.0 + np.log1p(share))
    for _ in range(_STEPS):
        slope = y * np.exp(y)
        step = np.divide(_excess(y) - share, slope, out=np.zeros_like(y), where=slope > 0.0)
        y = np.maximum(y - step, 0.0)
        if np.all(np.abs(step) <= 1e-15 * y):
            break
    efficiency: FloatArray = np.minimum(y / _LN2, MAX_BITS_PER_HERTZ)
    return efficiency


def _excess(y: FloatArray) -> FloatArray:
    """Compute y e^y - e^y + 1 without cancellation."""
    near = np.minimum(y, _SMALL)
    series = np.zeros_like(y)
    for coefficient in reversed(_SERIES):
        series = series * near + coefficient
    result: FloatArray = np.where(y < _SMALL, series * near * near, y * np.exp(y) - np.expm1(y))
    return result


def least_energy(
    *,
    payload_bits: ArrayLike,
    window_s: ArrayLike,
    bandwidth_hz: ArrayLike,
    gain: ArrayLike,
    noise_psd: ArrayLike,
    tx_power_limit_w: ArrayLike,
    circuit_power_w: ArrayLike,
) -> Spent:
    r"""Least energy of bursts that may end before their window does.

    .. math:: \min_{b/(B x_{max}) \le \tau \le T} \frac{\tau N_0 B}{g}
              \left(2^{b/(B\tau)} - 1\right) + P_c \tau

    Parameters
    ----------
    payload_bits : broadcastable, bit
    window_s : broadcastable, s
    bandwidth_hz, gain, noise_psd : broadcastable, Hz, 1, W/Hz
    tx_power_limit_w : broadcastable, W
        Of what is radiated; may be infinite.
    circuit_power_w : broadcastable, W
        Of all ends of the burst together; where it is 0 the burst lasts its window.

    Returns
    -------
    Spent
        Of the broadcast shape. A payload that the power limit does not carry in the window is not
        refused here: it fills the window, and its power is above the limit.

    Raises
    ------
    ValueError
        If a window, bandwidth, gain or noise is not positive, or a payload or power negative.

    Notes
    -----
    Own derivation; without circuits it is `transmit_energy`, to the last bit.
    """
    bits, window, band, gains, noise, limit, circuit = np.broadcast_arrays(
        *(
            np.asarray(value, dtype=np.float64)
            for value in (
                payload_bits,
                window_s,
                bandwidth_hz,
                gain,
                noise_psd,
                tx_power_limit_w,
                circuit_power_w,
            )
        )
    )
    efficiency = best_efficiency(
        bandwidth_hz=band, gain=gains, noise_psd=noise, circuit_power_w=circuit
    )
    most = np.log1p(limit * gains / (noise * band)) / _LN2
    efficiency = np.minimum(efficiency, most)
    shorter = efficiency * band * window > bits  # the burst ends before its window
    rate = np.where(shorter, efficiency * band, 1.0)
    airtime = np.where(shorter, bits / rate, window)
    radiated = transmit_energy(
        payload_bits=bits,
        airtime_s=np.where(airtime > 0.0, airtime, window),
        bandwidth_hz=band,
        gain=gains,
        noise_psd=noise,
    )
    on_air = np.where(bits > 0.0, airtime, 0.0)
    spent = np.where(np.isinf(radiated), 0.0, circuit * on_air)
    return Spent(airtime_s=on_air, radiated_j=radiated, circuit_j=spent)

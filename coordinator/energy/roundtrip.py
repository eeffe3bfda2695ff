r"""Energy when uplink, compute and downlink share one deadline.

A helper sums its weighted experts before it answers, so one vector goes to it and one comes back
per token. For every load the deadline is divided between the two so that the marginal energy of
airtime is equal in both directions.

.. math:: e_n(q) = \min_{T_u + T_d = T - \tau_0 - \tau_n q}
          w_u\, E(q s_u, T_u; g^u_n) + w_d\, E(q s_d, T_d; g^d_n)

Both energies are perspective functions, jointly convex in (payload, airtime), so the minimum over
the convex set of divisions is convex in q. A power limit is a least airtime that grows linearly
with q and keeps that. This project's derivation (docs/explanation/theory.md, section 0).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import plain
from siftmoe.coordinator.energy.division import divide
from siftmoe.coordinator.energy.tables import check_powers, check_sizes
from siftmoe.radio.channel.link import MAX_BITS_PER_HERTZ, shannon_rate, transmit_energy

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


#: Share of a deadline that stands for none: nothing can be sent in it, and it is still a window.
_NO_TIME = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class OneWay:
    """One direction of every helper's link.

    Parameters
    ----------
    bandwidth_hz : (N,) float64, Hz
    gain : (N,) float64
    noise_psd : (N,) float64, W/Hz
    tx_power_limit_w : (N,) float64, W
        Infinite where there is no limit.
    """

    bandwidth_hz: FloatArray
    gain: FloatArray
    noise_psd: FloatArray
    tx_power_limit_w: FloatArray

    def seconds_per_bit(self) -> FloatArray:
        """Shortest airtime of a bit at the power limit, (N,) s."""
        with np.errstate(divide="ignore"):
            at_limit = 1.0 / shannon_rate(
                tx_power_w=self.tx_power_limit_w,
                bandwidth_hz=self.bandwidth_hz,
                gain=self.gain,
                noise_psd=self.noise_psd,
            )
        result: FloatArray = np.maximum(at_limit, 1.0 / (MAX_BITS_PER_HERTZ * self.bandwidth_hz))
        return result

    def seconds(self, bits: FloatArray) -> FloatArray:
        """Shortest airtime of payloads at the power limit, (N, m) s; 0 of none."""
        sent = bits > 0.0
        per_bit = np.broadcast_to(self.seconds_per_bit()[:, None], bits.shape)
        return np.multiply(bits, per_bit, out=np.zeros_like(bits), where=sent)

    def energy_j(self, bits: FloatArray, airtime_s: FloatArray) -> FloatArray:
        """Least energy of payloads at their airtimes, (N, m) J; infinite where there is none."""
        table = np.where(np.isnan(airtime_s), np.inf, 0.0)
        sent = (bits > 0.0) & ~np.isnan(airtime_s)
        row = np.nonzero(sent)[0]
        table[sent] = transmit_energy(
            payload_bits=bits[sent],
            airtime_s=airtime_s[sent],
            bandwidth_hz=self.bandwidth_hz[row],
            gain=self.gain[row],
            noise_psd=self.noise_psd[row],
        )
        return table


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTripTable:
    """Energy of every load, and the division of its deadline.

    Parameters
    ----------
    energy_j : (N, Q+1) float64, J
        Uplink energy plus the priced downlink energy; infinite where a load does not fit.
    uplink_s, downlink_s : (N, Q+1) float64, s
        Airtimes; NaN where a load does not fit.
    """

    energy_j: FloatArray
    uplink_s: FloatArray
    downlink_s: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundTrip:
    r"""Uplink, compute and downlink of every helper within one deadline.

    Parameters
    ----------
    uplink_bits, downlink_bits : float, bit
        Payload of one token in each direction; the downlink may be 0.
    window_s : float, s
        Deadline :math:`T`.
    fixed_s : float, s
        Part :math:`\tau_0` of it that does not depend on the load.
    compute_s : (N,) float64, s
        Compute time :math:`\tau_n` of one token on each helper.
    uplink, downlink : OneWay
    uplink_price, downlink_price : float
        :math:`w_u, w_d`, prices of the user's joule and of a helper's; a side without a price sends
        as fast as its power limit allows.

    Raises
    ------
    ValueError
        If the payload or the deadline is not positive, or a power limit, a time or the price is
        negative.
    """

    uplink_bits: float
    downlink_bits: float
    window_s: float
    fixed_s: float
    compute_s: FloatArray
    uplink: OneWay
    downlink: OneWay
    downlink_price: float
    uplink_price: float = 1.0

    def __post_init__(self) -> None:
        check_sizes(max_load=0, payload_bits=self.uplink_bits)
        if not self.window_s > 0.0:
            raise ValueError(f"window_s must be positive, got {self.window_s}")
        for name, value in (
            ("downlink_bits", self.downlink_bits),
            ("fixed_s", self.fixed_s),
            ("compute_s", self.compute_s.min(initial=0.0)),
            ("downlink_price", self.downlink_price),
            ("uplink_price", self.uplink_price),
        ):
            if not value >= 0.0:
                raise ValueError(f"{name} must not be negative, got {value}")
        check_powers(self.uplink.tx_power_limit_w)
        check_powers(self.downlink.tx_power_limit_w)

    def airtimes(self, loads: IntArray) -> FloatArray:
        """Divide the deadline.

        Parameters
        ----------
        loads : (N, m) int64
            Tokens of each helper.

        Returns
        -------
        (2, N, m) float64, s
            Airtimes of uplink and downlink; 0 for no load, NaN where a load does not fit.
        """
        count = np.asarray(loads, dtype=np.float64)
        return self._divided(
            count * self.uplink_bits, count * self.downlink_bits, count * self.compute_s[:, None]
        )

    def table(self, max_load: int) -> RoundTripTable:
        """Price every load up to ``max_load``."""
        check_sizes(max_load=max_load, payload_bits=self.uplink_bits)
        loads = np.tile(np.arange(max_load + 1), (len(self.compute_s), 1))  # [N, Q+1]
        count = loads.astype(np.float64)
        up_s, down_s = self.airtimes(loads)
        energy = self._priced(count * self.uplink_bits, up_s, count * self.downlink_bits, down_s)
        return RoundTripTable(energy_j=energy, uplink_s=up_s, downlink_s=down_s)

    def alone(self, uplink_bits: FloatArray, downlink_bits: FloatArray) -> FloatArray:
        """Priced energy of one token at every pair of sizes, (N, B, V) J.

        Parameters
        ----------
        uplink_bits : (B,) float64, bit
        downlink_bits : (V,) float64, bit
            In the place of the token's own.
        """
        shape = len(self.compute_s), len(uplink_bits), len(downlink_bits)
        flat = shape[0], shape[1] * shape[2]
        up = np.broadcast_to(uplink_bits[:, None], shape).reshape(flat)
        down = np.broadcast_to(downlink_bits, shape).reshape(flat)
        compute_s = np.broadcast_to(self.compute_s[:, None], flat)
        up_s, down_s = self._divided(up, down, compute_s)
        return self._priced(up, up_s, down, down_s).reshape(shape)

    def of_payloads(
        self, uplink_bits: FloatArray, downlink_bits: FloatArray, tokens: IntArray
    ) -> RoundTripTable:
        """Divide the deadline for one payload each way of every helper, (N,) each.

        Returns
        -------
        RoundTripTable
            With arrays of shape (N,).
        """
        up, down = uplink_bits[:, None], downlink_bits[:, None]
        up_s, down_s = self._divided(up, down, (tokens * self.compute_s)[:, None])
        energy = self._priced(up, up_s, down, down_s)
        return RoundTripTable(energy_j=energy[:, 0], uplink_s=up_s[:, 0], downlink_s=down_s[:, 0])

    def parts(
        self, uplink_bits: FloatArray, downlink_bits: FloatArray, tokens: int
    ) -> tuple[FloatArray, FloatArray]:
        """Divide the deadline, less the compute of ``tokens``, in the proportion of payloads (N,).

        Returns
        -------
        pair of (N,) float64, s
            For requests and for answers; halves where there is no payload or it does not fit.
        """
        found = self.of_payloads(uplink_bits, downlink_bits, np.full(len(self.compute_s), tokens))
        total = found.uplink_s + found.downlink_s
        known = total > 0.0  # not NaN either
        share = np.divide(found.uplink_s, total, out=np.full(len(total), 0.5), where=known)
        window = self.window_s - self.fixed_s - tokens * self.compute_s
        window = np.maximum(window, _NO_TIME * self.window_s)
        return window * share, window * (1.0 - share)

    def _divided(self, up: FloatArray, down: FloatArray, compute_s: FloatArray) -> FloatArray:
        """Airtimes (2, N, m) of payloads (N, m) bit, and of the compute between them."""
        ways = ((self.uplink, self.uplink_price, up), (self.downlink, self.downlink_price, down))
        least = [way.seconds(bits) for way, _, bits in ways]
        hertz_s = [bits / way.bandwidth_hz[:, None] for way, _, bits in ways]
        noise_w = [price * way.noise_psd * way.bandwidth_hz / way.gain for way, price, _ in ways]
        result: FloatArray = divide(
            *_pair(least),
            *_pair(hertz_s),
            *_pair(noise_w),
            plain(compute_s, np.float64),
            self.window_s - self.fixed_s,
        )
        return result

    def _priced(
        self, up: FloatArray, up_s: FloatArray, down: FloatArray, down_s: FloatArray
    ) -> FloatArray:
        """Priced energy of payloads at their airtimes, (N, m) J; infinite where there is none."""
        energy = np.where(np.isnan(up_s), np.inf, 0.0)
        for way, price, bits, airtime in (
            (self.uplink, self.uplink_price, up, up_s),
            (self.downlink, self.downlink_price, down, down_s),
        ):
            if price > 0.0:
                energy += price * way.energy_j(bits, airtime)
        return energy


def _pair(parts: list[FloatArray]) -> tuple[FloatArray, FloatArray]:
    """Of requests and of answers, as compiled code takes them."""
    return plain(parts[0], np.float64), plain(parts[1], np.float64)

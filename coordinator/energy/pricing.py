r"""Price table of loads, for vectors of one width or of several.

With several widths in one window the loads of a helper's requests and of its answers are counted in
units, the greatest common divisor of the bits of a vector at each width, so that

.. math:: e_n(q) = E(q\,u, T), \qquad q = \sum_t s_{b_t} / u

is exact for every mix, in either direction. Where that table would be too long, units are larger
and a vector's bits are rounded up to them; energies are then slightly too high, and give no valid
lower bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.energy.tables import uplink_energy_table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.medium import Medium
    from siftmoe.coordinator.energy.roundtrip import OneWay

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Largest number of columns of a table: 2,048 tokens of 128 entries, and 2 MB for each helper.
MOST_COLUMNS: Final = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """Energy of loads.

    Parameters
    ----------
    energy_j : (R, Q+1) float64, J
        As ``SelectionProblem.energy``; priced.
    units : (B,) int64
        As of ``Precision``; one width is one unit.
    reply_units : (V,) int64
        As of ``Replies``.
    pooled, rounded, joint
        As of ``Precision``.
    medium : Medium or None
        As of ``SelectionProblem``.
    """

    energy_j: FloatArray
    units: IntArray
    reply_units: IntArray
    pooled: bool = True
    rounded: bool = False
    joint: bool = False
    medium: Medium | None = None

    @classmethod
    def of_one_width(cls, energy_j: FloatArray) -> Pricing:
        """Every token is a unit of its helper's load, which has one row for both directions."""
        one = np.ones(1, dtype=np.int64)
        return cls(energy_j=energy_j, units=one, reply_units=one)


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedWay:
    """One direction of every helper's link, with the price of its energy.

    Parameters
    ----------
    way : OneWay
    price : float
        Of a joule that is radiated; 0 leaves only the power limits.
    circuit_power_w : float, W
        Of the circuits while a burst is on the air, priced as what is radiated.
    """

    way: OneWay
    price: float
    circuit_power_w: float = 0.0

    def table(
        self, *, max_load: int, payload_bits: float, window_s: FloatArray | float
    ) -> FloatArray:
        """Priced energy of loads of so many bits a unit, (N, max_load+1) J."""
        energy = uplink_energy_table(
            max_load=max_load,
            payload_bits=payload_bits,
            window_s=window_s,
            bandwidth_hz=self.way.bandwidth_hz,
            gain=self.way.gain,
            noise_psd=self.way.noise_psd,
            tx_power_limit_w=self.way.tx_power_limit_w,
            circuit_power_w=self.circuit_power_w,
        )
        if self.price == 0.0:
            return np.where(np.isinf(energy), np.inf, 0.0)
        return self.price * energy

    def each(self, bits: Iterable[float], *, window_s: float) -> FloatArray:
        """Priced energy of one vector of each size, alone in its window, (N, B) J."""
        alone = [self.table(max_load=1, payload_bits=b, window_s=window_s)[:, 1] for b in bits]
        return np.stack(alone, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Units:
    """Units in which loads of several widths are counted.

    Parameters
    ----------
    bits : int, bit
        Of a unit.
    units : (B,) int64
        Of a vector of each width.
    columns : int
        Units of the largest load.
    rounded : bool
        Whether vectors' bits are rounded up to units.
    """

    bits: int
    units: IntArray
    columns: int
    rounded: bool


def common_units(
    width_bits: Mapping[int, int], tokens: int, *, most_columns: int = MOST_COLUMNS
) -> Units:
    """Count vectors in the greatest unit that divides them all, or in a larger one.

    Parameters
    ----------
    width_bits : mapping of int to int
        Bits of a vector by width, ascending.
    tokens : int
        T.
    most_columns : int
        Approximate limit of the units of the largest load.
    """
    bits = np.array(list(width_bits.values()), dtype=np.int64)
    unit = math.gcd(*bits.tolist())
    most = max(tokens, 1) * int(bits.max())
    coarser = -(-most // (unit * most_columns))
    units = -(-bits // (unit * coarser))
    return Units(
        bits=unit * coarser,
        units=units,
        columns=max(tokens, 1) * int(units.max()),
        rounded=coarser > 1,
    )


def pooled_pricing(
    up: PricedWay,
    down: PricedWay,
    *,
    width_bits: Mapping[int, int],
    reply_bits: Mapping[int, int],
    tokens: int,
    window_s: Sequence[FloatArray | float],
) -> Pricing:
    """Price vectors of several widths that share a window for each helper and direction.

    Parameters
    ----------
    up, down : PricedWay
    width_bits, reply_bits : mapping of int to int
        Bits of a vector by width in either direction, ascending.
    tokens : int
        T.
    window_s : pair of float or (N,) float64, s
        Of requests and of answers.
    """
    requests, answers = common_units(width_bits, tokens), common_units(reply_bits, tokens)
    tables = [
        way.table(max_load=counted.columns, payload_bits=float(counted.bits), window_s=window)
        for way, counted, window in zip((up, down), (requests, answers), window_s, strict=True)
    ]
    return joined_tables(tables, requests, answers)


def joined_tables(tables: Sequence[FloatArray], requests: Units, answers: Units) -> Pricing:
    """Put the tables of requests and of answers, (N, .) each, below each other."""
    columns = max(requests.columns, answers.columns) + 1
    padded = [
        np.pad(table, ((0, 0), (0, columns - table.shape[1])), constant_values=np.inf)
        for table in tables
    ]
    return Pricing(
        energy_j=np.concatenate(padded),
        units=requests.units,
        reply_units=answers.units,
        rounded=requests.rounded or answers.rounded,
    )


def separate_pricing(token_j: FloatArray, *, tokens: int, joint: bool = False) -> Pricing:
    """Price vectors with a window each.

    Parameters
    ----------
    token_j : (N, B, V) float64, J
        A token's energy by helper and widths up and back; infinite where it does not fit.
    tokens : int
        T.
    joint : bool
        Whether that is not a sum of one for each direction.
    """
    ways = token_j.reshape(-1, 1)  # [N * B * V, 1]
    table = np.zeros((len(ways), tokens + 1))
    table[:, 1:] = ways * np.arange(1, tokens + 1)  # no 0 * inf
    return Pricing(
        energy_j=table,
        units=np.ones(token_j.shape[1], dtype=np.int64),
        reply_units=np.ones(token_j.shape[2], dtype=np.int64),
        pooled=False,
        joint=joint,
    )

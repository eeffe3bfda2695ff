r"""Price table of loads, for vectors of one width or of several.

With several widths :math:`b` in one window a helper's load is counted in units, the greatest common
divisor of the bits of a vector at each width, so that

.. math:: e_n(q) = E(q\,u, T), \qquad q = \sum_t s_{b_t} / u

is exact for every mix. Where that table would be too long, units are larger and a vector's bits are
rounded up to them; energies are then slightly too high, and give no valid lower bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.energy.tables import uplink_energy_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

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
        As ``SelectionProblem.energy``.
    units, pooled, rounded
        As of ``Precision``; one width is one unit.
    """

    energy_j: FloatArray
    units: IntArray
    pooled: bool = True
    rounded: bool = False

    @classmethod
    def of_one_width(cls, energy_j: FloatArray) -> Pricing:
        """Every token is a unit of its helper's load."""
        return cls(energy_j=energy_j, units=np.ones(1, dtype=np.int64))


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
    way: OneWay,
    *,
    width_bits: Mapping[int, int],
    tokens: int,
    window_s: float,
    reply_table_j: FloatArray,
    circuit_power_w: float = 0.0,
) -> Pricing:
    """Price vectors of several widths that share a helper's window.

    Parameters
    ----------
    way : OneWay
        To the helpers.
    width_bits : mapping of int to int
        Bits of a vector by width, ascending.
    tokens : int
        T.
    window_s : float, s
    reply_table_j : (N, T+1) float64, J
        Energy of the replies, infinite where they do not fit.
    circuit_power_w : float, W
        Of the circuits of both ends while a burst is on the air.
    """
    counted = common_units(width_bits, tokens)
    columns = counted.columns
    table = uplink_energy_table(
        max_load=columns,
        payload_bits=float(counted.bits),
        window_s=window_s,
        bandwidth_hz=way.bandwidth_hz,
        gain=way.gain,
        noise_psd=way.noise_psd,
        tx_power_limit_w=way.tx_power_limit_w,
        circuit_power_w=circuit_power_w,
    )
    # most replies that fit; fewer units than one more token needs at least are no more tokens
    answers = np.isfinite(reply_table_j).sum(axis=1) - 1  # [N]
    most_units = np.where(answers >= tokens, columns, (answers + 1) * int(counted.units.min()) - 1)
    table = np.where(np.arange(columns + 1) <= most_units[:, None], table, np.inf)
    return Pricing(energy_j=table, units=counted.units, rounded=counted.rounded)


def separate_pricing(token_j: FloatArray, *, tokens: int) -> Pricing:
    """Price vectors with a window each.

    Parameters
    ----------
    token_j : (N, B) float64, J
        A token's energy by helper and width; infinite where it does not fit.
    tokens : int
        T.
    """
    ways = token_j.reshape(-1, 1)  # [N * B, 1]
    table = np.zeros((len(ways), tokens + 1))
    table[:, 1:] = ways * np.arange(1, tokens + 1)  # no 0 * inf
    return Pricing(energy_j=table, units=np.ones(token_j.shape[1], dtype=np.int64), pooled=False)

"""Checks of figures that enter a layer from outside: hidden states, gate weights, energies.

A NaN in one of them would pass through selection and sums without an error: NaN energy counts as
out of reach, a NaN gate weight as a slot that no set of helpers serves well enough.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.air.bursts import Bursts


def check_rows(
    layer: int, rows: NDArray[np.int64], hidden: NDArray[np.float32], weights: NDArray[np.float64]
) -> None:
    """Check what the model gives an expert layer.

    Parameters
    ----------
    layer : int
    rows : (T,) int64
        Rows of the forward pass, for the message.
    hidden : (T, d) float32
    weights : (T, K) float64
        Gate weights of the routed experts.

    Raises
    ------
    ValueError
        If a hidden state or a gate weight is not finite.
    """
    for name, values in (("gate weight", weights), ("hidden state", hidden)):
        finite = np.isfinite(values)
        if finite.all():
            continue
        row, column = (int(i[0]) for i in np.nonzero(~finite))
        raise ValueError(
            f"layer {layer}: {name} {column} of row {rows[row]} is {values[row, column]}, must be "
            f"finite; the model itself computes it: check its weights, its dtype and the input"
        )


def check_bursts(bursts: Bursts, names: Sequence[str]) -> None:
    """Check what the air says of its bursts.

    Parameters
    ----------
    bursts : Bursts
    names : sequence of str
        Names by helper index.

    Raises
    ------
    ValueError
        If an energy, a power or an airtime is negative or not finite.
    """
    for name in ("energy_j", "tx_power_w", "airtime_s", "circuit_tx_j", "circuit_rx_j"):
        values = getattr(bursts, name)
        if (values >= 0.0).all() and values.sum() < np.inf:
            continue
        i = int(np.flatnonzero(~((values >= 0.0) & np.isfinite(values)))[0])
        raise ValueError(
            f"air: {name} of the {bursts.direction.value}link burst of {names[bursts.helper[i]]!r} "
            f"({bursts.tokens[i]} tokens) is {values[i]}, must be finite and not negative; check "
            f"the air and the channel gains it was given"
        )

"""Links whose gains do not change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.links.states import LinkStates
from siftmoe.radio.channel.link import ChannelOrigin

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float64]


def per_link(name: str, value: ArrayLike, count: int) -> FloatArray:
    """Array of one value per link, from a number or an array; read-only.

    Raises
    ------
    ValueError
        If the shape is another one, or a value is not positive and finite.
    """
    array = np.asarray(value, dtype=np.float64)
    if array.shape not in ((), (count,)):
        raise ValueError(f"links: {name} must be a number or {count} numbers, got {value!r}")
    if not np.all((array > 0.0) & np.isfinite(array)):
        raise ValueError(f"links: {name} must be positive and finite, got {value!r}")
    spread: FloatArray = np.broadcast_to(array, (count,)).copy()
    spread.setflags(write=False)
    return spread


class FixedLinks:
    """Links that do not change; a downlink is like its uplink unless given.

    Parameters
    ----------
    gain : (N,), linear
        Uplink gain.
    noise_psd, bandwidth_hz : number or (N,), W/Hz and Hz
    downlink_gain : (N,) or None, linear
    """

    def __init__(
        self,
        *,
        gain: ArrayLike,
        noise_psd: ArrayLike,
        bandwidth_hz: ArrayLike,
        downlink_gain: ArrayLike | None = None,
    ) -> None:
        count = np.atleast_1d(np.asarray(gain)).shape[0]
        self._up = per_link("gain", gain, count)
        self._down = self._up
        if downlink_gain is not None:
            self._down = per_link("downlink_gain", downlink_gain, count)
        self._noise = per_link("noise_psd", noise_psd, count)
        self._band = per_link("bandwidth_hz", bandwidth_hz, count)

    @property
    def num_links(self) -> int:
        """N."""
        return len(self._up)

    def states(self, now_s: float) -> LinkStates:
        """Return the same gains at any time."""
        return LinkStates(
            uplink_gain=self._up,
            downlink_gain=self._down,
            noise_psd=self._noise,
            bandwidth_hz=self._band,
            time_s=np.full(self.num_links, now_s),
            origin=(ChannelOrigin.FIXED,) * self.num_links,
        )

"""Fading links on the virtual clock, from a seeded model.

States are a pure function of time: they do not depend on the number or order of calls.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.links.fixed import per_link
from siftmoe.coordinator.links.states import LinkStates
from siftmoe.radio.channel.link import ChannelOrigin
from siftmoe.radio.channel.pathloss import path_gain
from siftmoe.radio.units import thermal_noise_psd

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from siftmoe.radio.channel.fading import Fading, FadingModel

    BoolArray = NDArray[np.bool_]
    FloatArray = NDArray[np.float64]


class SimulatedLinks:
    """Fading links on the virtual clock.

    Link n fades independently of every other, and does not depend on the number of links.

    Parameters
    ----------
    mean_gain : (N,), linear
        Mean power gain of each link; the fading multiplies it.
    noise_psd, bandwidth_hz : number or (N,), W/Hz and Hz
    fading : FadingModel
    seed : int
    reciprocal : bool
        Both directions share one response, as on one carrier within a coherence time; otherwise
        (two carriers) they fade independently.
    """

    def __init__(
        self,
        *,
        mean_gain: ArrayLike,
        noise_psd: ArrayLike,
        bandwidth_hz: ArrayLike,
        fading: FadingModel,
        seed: int,
        reciprocal: bool = True,
    ) -> None:
        count = np.atleast_1d(np.asarray(mean_gain)).shape[0]
        self._mean = per_link("mean_gain", mean_gain, count)
        self._noise = per_link("noise_psd", noise_psd, count)
        self._band = per_link("bandwidth_hz", bandwidth_hz, count)
        # Directions are the even and the odd streams of the model.
        self._up = [fading.link(2 * n, seed=seed) for n in range(count)]
        self._down = self._up
        if not reciprocal:
            self._down = [fading.link(2 * n + 1, seed=seed) for n in range(count)]

    @classmethod
    def at_distances(
        cls,
        distance_m: ArrayLike,
        *,
        carrier_hz: float,
        bandwidth_hz: ArrayLike,
        fading: FadingModel,
        seed: int,
        path_loss_exponent: float = 3.0,
        noise_figure_db: float = 5.0,
        reciprocal: bool = True,
    ) -> SimulatedLinks:
        """Links whose mean gain follows the log-distance law and whose noise is thermal."""
        return cls(
            mean_gain=path_gain(
                distance_m=distance_m, carrier_hz=carrier_hz, exponent=path_loss_exponent
            ),
            noise_psd=thermal_noise_psd(noise_figure_db=noise_figure_db),
            bandwidth_hz=bandwidth_hz,
            fading=fading,
            seed=seed,
            reciprocal=reciprocal,
        )

    @property
    def num_links(self) -> int:
        """N."""
        return len(self._mean)

    def states(self, now_s: float) -> LinkStates:
        """Gains at ``now_s``, known exactly and without delay.

        Raises
        ------
        ValueError
            If the time is not finite.
        """
        if not math.isfinite(now_s):
            raise ValueError(f"links: now_s must be finite, got {now_s}")
        up = self._mean * _gains(self._up, now_s)
        down = up if self._down is self._up else self._mean * _gains(self._down, now_s)
        return LinkStates(
            uplink_gain=up,
            downlink_gain=down,
            noise_psd=self._noise,
            bandwidth_hz=self._band,
            time_s=np.full(self.num_links, now_s),
            origin=(ChannelOrigin.SIMULATED,) * self.num_links,
        )


def _gains(links: list[Fading], now_s: float) -> FloatArray:
    return np.array([float(link.gain(now_s)) for link in links])

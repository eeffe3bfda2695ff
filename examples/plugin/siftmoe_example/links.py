"""A source of links: a corridor in which people block one link after the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

import siftmoe


@dataclass(frozen=True)
class Corridor:
    """Mean gains, of which one at a time is lower by some dB.

    ``num_links`` and ``states(now_s)`` are all that siftmoe asks of links.
    """

    clear: siftmoe.LinkStates
    loss: float
    period_s: float

    @property
    def num_links(self) -> int:
        """N."""
        return self.clear.num_links

    def states(self, now_s: float) -> siftmoe.LinkStates:
        """Return the gains at a time of the run's clock."""
        gains = self.clear.uplink_gain.copy()
        gains[int(now_s / self.period_s) % self.num_links] *= self.loss
        return siftmoe.LinkStates(
            uplink_gain=gains,
            downlink_gain=gains,
            noise_psd=self.clear.noise_psd,
            bandwidth_hz=self.clear.bandwidth_hz,
            time_s=np.full(self.num_links, now_s),
            origin=self.clear.origin,
        )


def corridor(
    radio: siftmoe.RadioEntry,
    distances_m: Sequence[float],
    *,
    loss_db: float = 20.0,
    period_s: float = 0.05,
) -> Corridor:
    """Make the links of a run from its ``[radio]`` settings: ``--links corridor:loss_db=10``."""
    still = msgspec.structs.replace(radio, fading="none", links="simulated")
    clear = siftmoe.simulated_links(still, distances_m).states(0.0)
    return Corridor(clear, loss=10.0 ** (-loss_db / 10.0), period_s=period_s)

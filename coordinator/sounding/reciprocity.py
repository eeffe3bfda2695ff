r"""Reciprocity of a link: derives the downlink from the uplink where measurements support it.

On one carrier and within a coherence time the medium is reciprocal, but front ends are not, and
hence neither are sounded gains. The ratio of both gains is measured in dB whenever both were
sounded close together in time, and used only if its spread over several soundings is small:

.. math:: \hat g_{down} = g_{up} 10^{\bar r / 10}, \qquad
          u(\hat g_{down}) / \hat g_{down} = \sqrt{(u_{up} / g_{up})^2 + (c\, s_r)^2}

with mean :math:`\bar r` and sample deviation :math:`s_r` of the ratio and
:math:`c = \ln(10) / 10`. This project's rule; docs/explanation/sounding.md.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from siftmoe.radio.channel.link import ChannelState

#: Least number of pairs before the ratio is used, and number of pairs kept.
LEAST_PAIRS: Final = 5
_MOST_PAIRS: Final = 20
#: Largest spread of the ratio at which it is used.
MAX_SPREAD_DB: Final = 1.0
#: The downlink is still sounded once in so many uplink soundings.
CHECK_EVERY: Final = 10
_NEPER_PER_DB: Final = math.log(10.0) / 10.0


class Reciprocity:
    """The measured ratio of both directions of one link."""

    def __init__(self) -> None:
        self._ratios_db: deque[float] = deque(maxlen=_MOST_PAIRS)
        self._since_check = 0

    def observe(self, up: ChannelState, down: ChannelState) -> None:
        """Record both directions, sounded within a coherence time of each other."""
        self._ratios_db.append(10.0 * math.log10(down.gain / up.gain))
        self._since_check = 0

    def forget(self) -> None:
        """Drop all pairs: the link was lost, or a radio replaced."""
        self._ratios_db.clear()

    @property
    def spread_db(self) -> float:
        """Sample deviation of the ratio; infinite before there are enough pairs."""
        if len(self._ratios_db) < LEAST_PAIRS:
            return math.inf
        return statistics.stdev(self._ratios_db)

    @property
    def holds(self) -> bool:
        """Whether the downlink may be derived from the uplink now."""
        return self.spread_db <= MAX_SPREAD_DB and self._since_check < CHECK_EVERY

    def downlink(self, up: ChannelState) -> ChannelState:
        """Downlink that follows from an uplink.

        Raises
        ------
        ValueError
            If reciprocity was not measured to hold.
        """
        if not self.holds:
            raise ValueError(
                f"reciprocity does not hold: spread {self.spread_db:.2f} dB of "
                f"{len(self._ratios_db)} pairs; sound the downlink"
            )
        self._since_check += 1
        gain = up.gain * 10.0 ** (statistics.fmean(self._ratios_db) / 10.0)
        relative = math.hypot(up.gain_std / up.gain, _NEPER_PER_DB * self.spread_db)
        return replace(up, gain=gain, gain_std=gain * relative)

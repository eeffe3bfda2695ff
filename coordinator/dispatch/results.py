"""Result of a dispatch: the layer's output, times and payloads of helpers, and failures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.agent.wire.protocol import Result
    from siftmoe.coordinator.dispatch.grouping import Share
    from siftmoe.coordinator.errors import CoordinatorError

    Float32Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperTiming:
    """Times of one helper, in seconds: round trip, and the compute and queue time within it."""

    helper: int
    tokens: int
    round_trip_s: float
    compute_s: float
    queue_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchResult:
    """A layer's output, with timings and failures.

    Parameters
    ----------
    output : (T, d) float32
    timings : tuple of HelperTiming
        By ascending helper.
    failures : dict
        Error of each helper without a result; its part is missing in ``output``.
    given_up_s : dict, s
        Time from sending to giving up the wait.
    uplink_bits, downlink_bits : dict, bit
        Bits of the vectors in requests and replies by helper, scales and padding included.
    """

    output: Float32Array
    timings: tuple[HelperTiming, ...]
    failures: dict[int, CoordinatorError]
    given_up_s: dict[int, float]
    uplink_bits: dict[int, int]
    downlink_bits: dict[int, int]

    @property
    def slowest(self) -> HelperTiming | None:
        """The helper of the longest round trip; None if none was asked."""
        return max(self.timings, key=lambda timing: timing.round_trip_s, default=None)

    @property
    def compute_s(self) -> float:
        """Compute time of the slowest helper."""
        return self.slowest.compute_s if self.slowest else 0.0

    @property
    def queue_s(self) -> float:
        """Queue time at the slowest helper."""
        return self.slowest.queue_s if self.slowest else 0.0


def timing_of(
    share: Share, result: Result, round_trip_s: float, *, num_tokens: int
) -> HelperTiming:
    """Make the times of one helper from its result; rows from ``num_tokens`` on are checks."""
    return HelperTiming(
        helper=share.helper,
        tokens=int(np.count_nonzero(share.tokens < num_tokens)),
        round_trip_s=round_trip_s,
        compute_s=result.compute_s,
        queue_s=result.queue_s,
    )

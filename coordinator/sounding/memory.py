"""State of one sounded link between soundings: last estimates, mean gains, failures."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from siftmoe.coordinator.sounding.reciprocity import Reciprocity
from siftmoe.radio.channel.aging import aged

if TYPE_CHECKING:
    from siftmoe.coordinator.sounding.results import Sounded
    from siftmoe.radio.channel.link import ChannelState

#: A lost link is retried after this time, then after twice as long, up to the longest.
RETRY_FIRST_S: Final = 0.5
RETRY_MOST_S: Final = 10.0
#: Weight of the last sounding in a link's mean gain.
_MEAN_WEIGHT: Final = 0.1


@dataclass(slots=True)
class Way:
    """One direction of a link.

    Parameters
    ----------
    state : ChannelState or None
        From the last successful exchange.
    mean_gain : float, linear
        Over the last ten soundings or so.
    lost : str
        Reason why the last exchange failed; empty if it succeeded.
    retry_s : float, s
        Time of the next attempt for a lost one.
    """

    state: ChannelState | None = None
    mean_gain: float = 0.0
    lost: str = ""
    retry_s: float = 0.0
    _backoff_s: float = RETRY_FIRST_S

    def take(self, result: Sounded, *, now_s: float) -> None:
        """Update from an exchange."""
        if result.channel is None:
            self.lost = result.reason or "not heard"
            self.retry_s = now_s + self._backoff_s
            self._backoff_s = min(2.0 * self._backoff_s, RETRY_MOST_S)
            return
        self._set(result.channel)

    def derive(self, state: ChannelState) -> None:
        """Take a state derived from the other direction, with the noise of its own receiver."""
        known = self.state
        if known is not None:
            state = replace(
                state,
                noise_psd=known.noise_psd,
                noise_psd_std=known.noise_psd_std,
                noise_source=known.noise_source,
            )
        self._set(state)

    def _set(self, state: ChannelState) -> None:
        weight = 1.0 if self.state is None else _MEAN_WEIGHT
        self.mean_gain += weight * (state.gain - self.mean_gain)
        self.state, self.lost, self._backoff_s = state, "", RETRY_FIRST_S

    def is_due(self, *, now_s: float, refresh_s: float) -> bool:
        """Whether it must be sounded: too old, or lost with its pause over."""
        if self.lost:
            return now_s >= self.retry_s
        return self.state is None or self.state.age_s(now_s) >= refresh_s

    def oldest_s(self) -> float:
        """Time of the state; -inf if it was never sounded."""
        return -math.inf if self.state is None else self.state.time_s

    def predicted(self, *, now_s: float, coherence_time_s: float | None) -> ChannelState | None:
        """Return the state, or its prediction for now if it is older than the coherence time.

        Without a coherence time it is returned whatever its age.
        """
        if self.state is None or coherence_time_s is None:
            return self.state
        if self.state.age_s(now_s) <= coherence_time_s:
            return self.state
        return aged(
            self.state,
            now_s=now_s - coherence_time_s,  # constant within the coherence time
            mean_gain=self.mean_gain,
            coherence_time_s=coherence_time_s,
        )


@dataclass(slots=True)
class LinkMemory:
    """Both directions of the link to one helper."""

    name: str
    up: Way = field(default_factory=Way)
    down: Way = field(default_factory=Way)
    reciprocity: Reciprocity = field(default_factory=Reciprocity)

    @property
    def lost(self) -> str:
        """Reason why the link is lost; empty if it is not."""
        return self.up.lost or self.down.lost

    def compare(self, *, within_s: float) -> None:
        """Update reciprocity from both directions, if sounded at about the same time."""
        up, down = self.up.state, self.down.state
        if self.lost:
            self.reciprocity.forget()
        elif up is not None and down is not None and abs(up.time_s - down.time_s) <= within_s:
            self.reciprocity.observe(up, down)

    def unusable(self, *, now_s: float, limit_s: float) -> str:
        """Reason why the link cannot be used; empty if it can."""
        if self.lost:
            return f"lost: {self.lost}"
        for way, name in ((self.up, "uplink"), (self.down, "downlink")):
            if way.state is None:
                return f"{name} not sounded yet"
            age_s = way.state.age_s(now_s)
            if age_s > limit_s:
                return f"{name} state is {age_s:.2f} s old, {limit_s:.2f} s allowed"
        return ""

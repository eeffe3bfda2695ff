"""Links whose states radios sound, once per coherence time.

Every request for states sounds those older than a coherence time again, the oldest first: uplinks
of all helpers at once, downlinks one after the other. At most half of a coherence time is spent on
it per request. If all links need longer, some states are older; with "refuse" such a link is
excluded until it has been sounded again, with "widen" the run continues with a prediction
(`siftmoe.radio.channel.aging`) whose uncertainty grows.

A link whose exchange fails is lost: it is excluded at once, retried automatically, and used again
after the first successful exchange. If allowed, the link of a helper without a radio is simulated,
and its states are labelled so.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.errors import StaleChannelState
from siftmoe.coordinator.links.states import Direction, LinkStates
from siftmoe.coordinator.sounding.memory import LinkMemory
from siftmoe.coordinator.sounding.results import Fault
from siftmoe.radio.channel.link import ChannelOrigin

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from siftmoe.coordinator.config.radio import SoundingEntry
    from siftmoe.coordinator.links.states import Links
    from siftmoe.coordinator.sounding.exchange import PilotExchanges
    from siftmoe.coordinator.sounding.results import Sounded
    from siftmoe.radio.channel.link import ChannelState

_log = logging.getLogger(__name__)

#: Share of a coherence time that one request for states may spend on sounding.
SHARE: Final = 0.5
#: Deadline of an exchange: with an open radio it takes some 20 ms.
DEADLINE_S: Final = 2.0
#: Deadline of the first exchange: a driver starts, a radio is opened and calibrates itself.
FIRST_DEADLINE_S: Final = 20.0
#: Deadline of a lost link's exchange: short, its agent reopens the radio in the background.
_RETRY_DEADLINE_S: Final = 0.3
#: Number of states kept for trials.
_REMEMBERED: Final = 256
#: Time that a run waits for a link when all are lost.
PATIENCE_S: Final = 30.0


class SoundedLinks:
    """States of N links, sounded when due.

    Parameters
    ----------
    exchanges : PilotExchanges
    names : sequence of str
        Of the helpers.
    settings : SoundingEntry
    coherence_time_s : float, s
    bandwidth_hz : float, Hz
        Of a link; sounded noise is per hertz.
    simulated : Links
        For helpers without a radio.
    clock : callable
        Time of the run, s.
    book : callable
        Called with every exchange, also failed ones.
    """

    def __init__(
        self,
        exchanges: PilotExchanges,
        *,
        names: Sequence[str],
        settings: SoundingEntry,
        coherence_time_s: float,
        bandwidth_hz: float,
        simulated: Links,
        clock: Callable[[], float],
        book: Callable[[Sounded], None],
    ) -> None:
        self._exchanges = exchanges
        self._links = [LinkMemory(name) for name in names]
        self._settings = settings
        self._coherence_s = coherence_time_s
        self._bandwidth_hz = bandwidth_hz
        self._simulated = simulated
        self._without_radio: dict[int, str] = {}
        self._clock = clock
        self._book = book
        self._observed: deque[LinkStates] = deque(maxlen=_REMEMBERED)

    @property
    def num_links(self) -> int:
        """N."""
        return len(self._links)

    @property
    def without_radio(self) -> Mapping[int, str]:
        """Reasons of the helpers whose links are simulated."""
        return self._without_radio

    def first_contact(self) -> dict[int, str]:
        """Sound all links once; returns the helpers without a radio, with reasons.

        Helpers with a radio that was not heard, or without a reachable agent, are not among them:
        their links are lost for now.
        """
        everybody = [n for n in range(self.num_links) if n not in self._without_radio]
        missing = self._sound_up(everybody, deadline_s=FIRST_DEADLINE_S)
        for n in everybody:
            if n not in missing:
                missing |= self._sound_down(n, deadline_s=FIRST_DEADLINE_S)
        return missing

    def simulate(self, helper: int, reason: str) -> None:
        """Simulate a helper's link from now on."""
        self._without_radio[helper] = reason

    def states(self, now_s: float) -> LinkStates:
        """Sound the links that are due, and return all states.

        Raises
        ------
        StaleChannelState
            If no link has had a usable state for 30 s; the message has every link's reason.
        """
        end_s = time.monotonic() + PATIENCE_S
        self._refresh()
        states = self._states()
        while not states.available().any():
            if time.monotonic() >= end_s:
                raise StaleChannelState(
                    f"no link could be used for {PATIENCE_S:.0f} s: {states.lost_text()}"
                )
            time.sleep(0.05)
            self._refresh()
            states = self._states()
        return states

    def observed(self) -> tuple[LinkStates, ...]:
        """Return the last states after soundings; at least the present one."""
        return tuple(self._observed) or (self._states(),)

    def _refresh(self) -> None:
        began_s = self._clock()
        due = self._due(began_s)
        self._sound(due, began_s=began_s)
        if due:
            states = self._states()
            if states.available().all():
                self._observed.append(states)

    def _sound(self, due: Sequence[Callable[[], object]], *, began_s: float) -> None:
        for turn in due:
            turn()
            if self._clock() - began_s > SHARE * self._coherence_s:
                return

    def _due(self, now_s: float) -> list[Callable[[], object]]:
        """Return the exchanges that are due, that of the oldest state first."""
        due = {"now_s": now_s, "refresh_s": self._coherence_s}
        mine = [n for n in range(self.num_links) if n not in self._without_radio]
        up = [n for n in mine if self._links[n].up.is_due(**due)]
        turns: list[tuple[float, Callable[[], object]]] = []
        # Working links must not wait for lost ones.
        for lost, deadline_s in ((False, DEADLINE_S), (True, _RETRY_DEADLINE_S)):
            group = [n for n in up if bool(self._links[n].up.lost) is lost]
            if group:
                oldest_s = min(self._links[n].up.oldest_s() for n in group)
                turns.append((oldest_s, partial(self._sound_up, group, deadline_s=deadline_s)))
        turns += [
            (self._links[n].down.oldest_s(), partial(self._sound_down_again, n))
            for n in mine
            if self._links[n].down.is_due(**due)
        ]
        turns.sort(key=lambda turn: turn[0])
        return [turn for _, turn in turns]

    def _sound_up(self, helpers: Sequence[int], *, deadline_s: float) -> dict[int, str]:
        if not helpers:
            return {}
        return self._take(self._exchanges.uplinks(helpers, deadline_s=deadline_s))

    def _sound_down_again(self, n: int) -> None:
        link = self._links[n]
        deadline_s = _RETRY_DEADLINE_S if link.lost else DEADLINE_S
        if link.up.lost:
            return  # its uplink is tried first
        up = link.up.state
        if self._settings.reciprocity and up is not None and link.reciprocity.holds:
            link.down.derive(link.reciprocity.downlink(up))
            return
        self._sound_down(n, deadline_s=deadline_s)

    def _sound_down(self, n: int, *, deadline_s: float) -> dict[int, str]:
        missing = self._take(self._exchanges.downlink(n, deadline_s=deadline_s))
        self._links[n].compare(within_s=self._coherence_s)
        return missing

    def _take(self, results: Sequence[Sounded]) -> dict[int, str]:
        """Book results and update each helper's link; returns the helpers without a radio."""
        missing: dict[int, str] = {}
        for result in results:
            self._book(result)
            if result.fault in (Fault.NO_RADIO, Fault.USER_RADIO):
                missing[result.helper] = result.reason
        for result in {result.helper: result for result in results}.values():
            link = self._links[result.helper]
            was_lost = link.lost
            way = link.up if result.direction is Direction.UP else link.down
            way.take(result, now_s=self._clock())
            if link.lost and not was_lost:
                _log.warning("link to %s lost: %s", link.name, link.lost)
            elif was_lost and not link.lost:
                _log.warning("link to %s is back", link.name)
        return missing

    def _states(self) -> LinkStates:
        now_s = self._clock()
        simulated = self._simulated.states(now_s)
        limit_s = self._settings.limit_s(self._coherence_s)
        coherence_s = self._coherence_s if self._settings.stale == "widen" else None
        up: list[ChannelState] = []
        down: list[ChannelState] = []
        lost: list[str] = []
        for n, link in enumerate(self._links):
            if n in self._without_radio:
                up.append(simulated.channel_state(n, Direction.UP))
                down.append(simulated.channel_state(n, Direction.DOWN))
                lost.append("")
                continue
            reason = link.unusable(now_s=now_s, limit_s=limit_s)
            lost.append(f"link to {link.name}: {reason}" if reason else "")
            for way, states in ((link.up, up), (link.down, down)):
                # A lost link needs some valid state.
                known = way.predicted(now_s=now_s, coherence_time_s=coherence_s)
                states.append(known or simulated.channel_state(n, Direction.UP))
        return LinkStates(
            uplink_gain=np.array([state.gain for state in up]),
            downlink_gain=np.array([state.gain for state in down]),
            noise_psd=np.array([state.noise_psd for state in up]),
            downlink_noise_psd=np.array([state.noise_psd for state in down]),
            bandwidth_hz=np.full(self.num_links, self._bandwidth_hz),
            time_s=np.array([min(u.time_s, d.time_s) for u, d in zip(up, down, strict=True)]),
            origin=tuple(
                ChannelOrigin.SIMULATED if n in self._without_radio else ChannelOrigin.SOUNDED
                for n in range(self.num_links)
            ),
            uplink_gain_std=np.array([state.gain_std for state in up]),
            downlink_gain_std=np.array([state.gain_std for state in down]),
            lost=tuple(lost),
        )

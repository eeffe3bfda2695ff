"""When links are sounded, lost, retried and predicted, on scripted exchanges.

The exchanges over real sockets and radios are in tests/loopback/commands/test_run_command.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from siftmoe.agent.errors import NoBurst, NotSupported, Overloaded
from siftmoe.coordinator.config.radio import SoundingEntry
from siftmoe.coordinator.errors import (
    AgentRefused,
    AgentUnreachable,
    DeadlineMissed,
    StaleChannelState,
)
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.sounding import links as links_sounded
from siftmoe.coordinator.sounding.links import SoundedLinks
from siftmoe.coordinator.sounding.memory import RETRY_FIRST_S, RETRY_MOST_S
from siftmoe.coordinator.sounding.reciprocity import CHECK_EVERY, LEAST_PAIRS
from siftmoe.coordinator.sounding.results import Fault, Sounded, failed, nothing
from siftmoe.radio.channel.link import ChannelOrigin, ChannelState

COHERENCE_S = 1.0


@dataclass
class Bench:
    """A clock, gains, and who cannot be heard; stands where the exchanges stand."""

    gains: list[float]
    ratio: float = 1.0
    now_s: float = 0.0
    turn_s: float = 0.01
    faults: dict[int, Fault] = field(default_factory=dict)
    asked: list[tuple[str, tuple[int, ...], float]] = field(default_factory=list)
    booked: list[Sounded] = field(default_factory=list)

    def uplinks(self, helpers, *, deadline_s):
        self.asked.append(("up", tuple(helpers), deadline_s))
        self.now_s += self.turn_s
        return [self._result(n, Direction.UP) for n in helpers]

    def downlink(self, helper, *, deadline_s):
        self.asked.append(("down", (helper,), deadline_s))
        self.now_s += self.turn_s
        return [self._result(helper, Direction.DOWN)]

    def _result(self, n, direction):
        if n in self.faults:
            return nothing(n, direction, self.faults[n], f"{self.faults[n].value}", now_s=0.0)
        gain = self.gains[n] * (1.0 if direction is Direction.UP else self.ratio)
        state = ChannelState(
            gain=gain,
            gain_std=0.01 * gain,
            noise_psd=2e-20 if direction is Direction.UP else 3e-20,
            bandwidth_hz=2e6,
            time_s=self.now_s,
            origin=ChannelOrigin.SOUNDED,
        )
        return Sounded(helper=n, direction=direction, time_s=self.now_s, channel=state)

    def links(self, **settings) -> SoundedLinks:
        count = len(self.gains)
        return SoundedLinks(
            self,
            names=[f"h{n}" for n in range(count)],
            settings=SoundingEntry(uri="ip:x", **settings),
            coherence_time_s=COHERENCE_S,
            bandwidth_hz=1e6,
            simulated=FixedLinks(gain=np.full(count, 7e-7), noise_psd=1e-20, bandwidth_hz=1e6),
            clock=lambda: self.now_s,
            book=self.booked.append,
        )

    def kinds(self) -> list[tuple[str, tuple[int, ...]]]:
        return [(kind, helpers) for kind, helpers, _ in self.asked]


def test_first_contact_sounds_everything_and_tells_who_has_no_radio():
    bench = Bench([1e-7, 2e-7, 3e-7], faults={1: Fault.NO_RADIO, 2: Fault.NO_BURST})
    links = bench.links()
    assert links.first_contact() == {1: "no radio"}  # 2 has one, and is only not heard
    assert bench.kinds() == [("up", (0, 1, 2)), ("down", (0,)), ("down", (2,))]
    links.simulate(1, "no radio")
    states = links.states(bench.now_s)
    assert states.origin == (
        ChannelOrigin.SOUNDED,
        ChannelOrigin.SIMULATED,
        ChannelOrigin.SOUNDED,
    )
    assert states.available().tolist() == [True, True, False]
    assert states.lost_text() == "link to h2: lost: no burst"
    assert states.uplink_gain[1] == 7e-7
    assert states.bandwidth_hz.tolist() == [1e6] * 3


def test_an_agent_that_is_away_is_lost_and_not_simulated():
    bench = Bench([1e-7, 2e-7], faults={1: Fault.UNREACHABLE})
    links = bench.links()
    assert links.first_contact() == {}
    assert links.states(bench.now_s).available().tolist() == [True, False]
    bench.faults.clear()
    bench.now_s += 2 * RETRY_FIRST_S
    states = links.states(bench.now_s)
    assert states.available().all()
    assert states.origin == (ChannelOrigin.SOUNDED,) * 2


@pytest.mark.parametrize(
    ("error", "cause", "fault"),
    [
        (AgentUnreachable("dead"), None, Fault.UNREACHABLE),
        (DeadlineMissed("slow"), None, Fault.NO_RADIO),
        (AgentRefused("no"), NotSupported("no radio"), Fault.NO_RADIO),
        (AgentRefused("no"), NoBurst("not found"), Fault.NO_BURST),
        (AgentRefused("no"), Overloaded("clipped"), Fault.OVERLOAD),
    ],
)
def test_why_an_agent_gave_no_channel(error, cause, fault):
    error.__cause__ = cause
    result = failed(2, Direction.UP, error=error, now_s=1.0)
    assert (result.fault, result.channel) == (fault, None)
    assert result.reason == str(cause or error)


def test_both_ends_have_their_own_noise():
    bench = Bench([1e-7])
    states = bench.links(stale="refuse").states(0.0)
    assert states.receiver_noise_psd(Direction.UP).tolist() == [2e-20]
    assert states.receiver_noise_psd(Direction.DOWN).tolist() == [3e-20]


def test_a_link_is_sounded_once_per_coherence_time():
    bench = Bench([1e-7, 1e-7])
    links = bench.links()
    for _ in range(30):
        links.states(bench.now_s)
        bench.now_s += 0.1
    ups = [helpers for kind, helpers in bench.kinds() if kind == "up"]
    assert len(ups) == 3
    assert all(helpers == (0, 1) for helpers in ups)


def test_a_change_is_seen_within_one_coherence_time():
    bench = Bench([1e-7, 1e-7])
    links = bench.links(stale="refuse")
    links.states(bench.now_s)
    bench.now_s += 0.3
    bench.gains[1] = 1e-9
    changed_s = bench.now_s
    while links.states(bench.now_s).uplink_gain[1] > 1e-8:
        bench.now_s += 0.02
    assert bench.now_s - changed_s <= COHERENCE_S + 3 * bench.turn_s


def test_sounding_takes_at_most_half_of_the_time_and_the_oldest_first():
    bench = Bench([1e-7] * 8, turn_s=0.2)
    links = bench.links()
    links.first_contact()
    bench.now_s += 2.0
    bench.asked.clear()
    links.states(bench.now_s)
    assert bench.kinds() == [("up", tuple(range(8))), ("down", (0,)), ("down", (1,))]
    bench.asked.clear()
    links.states(bench.now_s)
    assert bench.kinds() == [("down", (2,)), ("down", (3,)), ("down", (4,))]


def test_refused_are_those_that_are_too_old_for_the_channel():
    bench = Bench([1e-7] * 8, turn_s=0.2)
    links = bench.links(stale="refuse")
    links.first_contact()
    bench.now_s += 2.0
    states = links.states(bench.now_s)
    assert states.available().tolist() == [True] * 2 + [False] * 6
    assert "downlink state is" in states.lost[2]
    assert "1.00 s allowed" in states.lost[2]


def test_widened_states_forget_towards_the_mean_and_say_so():
    bench = Bench([1e-7] * 8, turn_s=0.2)
    links = bench.links(stale="widen")
    links.first_contact()
    bench.now_s += 0.5
    states = links.states(bench.now_s)
    assert states.available().all()
    relative = states.downlink_gain_std / states.downlink_gain
    assert relative[:2] == pytest.approx(0.01)  # sounded anew just now
    assert np.all(relative[2:] > 0.3)
    assert np.all(np.diff(relative[2:]) < 0.0)  # the older, the less is certain


def test_a_lost_link_is_tried_again_ever_more_rarely_and_comes_back():
    bench = Bench([1e-7, 1e-7])
    links = bench.links()
    links.first_contact()
    bench.faults[1] = Fault.NO_RADIO
    bench.now_s += 1.5
    assert links.states(bench.now_s).available().tolist() == [True, False]
    bench.asked.clear()
    times = []
    while bench.now_s < 60.0:
        before = len(bench.asked)
        links.states(bench.now_s)
        if any(kind == "up" and helpers == (1,) for kind, helpers, _ in bench.asked[before:]):
            times.append(bench.now_s)
        bench.now_s += 0.05
    gaps = np.diff(times)
    assert gaps[0] == pytest.approx(2 * RETRY_FIRST_S, abs=0.2)
    assert np.all(np.diff(gaps) > -0.2)
    assert gaps[-1] == pytest.approx(RETRY_MOST_S, abs=0.2)
    retries = [deadline for kind, helpers, deadline in bench.asked if helpers == (1,)]
    assert max(retries) < 0.5  # nobody waits long for who is lost
    del bench.faults[1]
    while not links.states(bench.now_s).available().all():
        bench.now_s += 0.05
        assert bench.now_s < 60.0 + RETRY_MOST_S + 1.0


def test_without_any_link_it_waits_and_then_names_them(monkeypatch):
    monkeypatch.setattr(links_sounded, "PATIENCE_S", 0.2)
    bench = Bench([1e-7, 1e-7], faults={0: Fault.USER_RADIO, 1: Fault.USER_RADIO})
    links = bench.links()
    with pytest.raises(StaleChannelState, match=r"link to h0: lost: the user's radio.*h1"):
        links.states(0.0)


def test_reciprocity_is_used_only_once_measured():
    bench = Bench([1e-7], ratio=0.5)
    links = bench.links(reciprocity=True, stale="refuse")

    def downs() -> int:
        return sum(kind == "down" for kind, _ in bench.kinds())

    def rounds(count: int) -> None:
        for _ in range(count):
            bench.now_s += 1.1
            states = links.states(bench.now_s)
            assert states.downlink_gain[0] == pytest.approx(0.5 * states.uplink_gain[0], rel=0.02)
            assert states.receiver_noise_psd(Direction.DOWN).tolist() == [3e-20]

    rounds(LEAST_PAIRS)
    assert downs() == LEAST_PAIRS
    rounds(CHECK_EVERY)
    assert downs() == LEAST_PAIRS
    rounds(1)
    assert downs() == LEAST_PAIRS + 1  # it is checked now and then


def test_reciprocity_that_does_not_hold_is_not_used():
    bench = Bench([1e-7])
    links = bench.links(reciprocity=True, stale="refuse")
    for number in range(20):
        bench.ratio = (0.3, 3.0)[number % 2]
        bench.now_s += 1.1
        links.states(bench.now_s)
    assert sum(kind == "down" for kind, _ in bench.kinds()) == 20


def test_every_exchange_is_booked():
    bench = Bench([1e-7, 2e-7], faults={1: Fault.NO_BURST})
    bench.links().first_contact()
    assert [(b.helper, b.direction.value, b.fault) for b in bench.booked] == [
        (0, "up", None),
        (1, "up", Fault.NO_BURST),
        (0, "down", None),
        (1, "down", Fault.NO_BURST),
    ]

"""Pilot exchanges between the user's radio and an agent's, both on one simulated air.

The agent's side is real (`Soundings`); only the sockets between the two are left out.
"""

from __future__ import annotations

import queue
from dataclasses import dataclass, field
from types import SimpleNamespace

import msgspec
import pytest

from siftmoe.agent.service.sounding import Soundings
from siftmoe.agent.wire.protocol import Failure, Sound, error_of
from siftmoe.coordinator.client.exchange import Exchange
from siftmoe.coordinator.errors import AgentRefused
from siftmoe.coordinator.ledger.rows import SoundingRow
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.sounding.exchange import PilotExchanges
from siftmoe.coordinator.sounding.results import Fault, sounding_row
from siftmoe.radio.channel.link import Source
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import DeviceNotFound
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.impairments import Impairments
from siftmoe.radio.simulated.radio import SimulatedRadio

PATIENCE_S = 20.0
SETTINGS = RadioSettings(
    carrier_hz=2.4e9, sample_rate_hz=2e6, tx_attenuation_db=10.0, rx_gain_db=40.0
)


@dataclass
class Agents:
    """One agent without sockets, in the client's place; ``older`` knows no sequences."""

    soundings: Soundings
    older: bool = False
    asked: list[Sound] = field(default_factory=list)

    @property
    def fleet(self) -> list[SimpleNamespace]:
        hello = SimpleNamespace(sequences=not self.older)
        return [SimpleNamespace(name="board", hello=hello)]

    def next_id(self) -> int:
        return len(self.asked) + 1

    def exchange(self, requests, *, deadline_s):
        self.asked += requests.values()
        request = requests[0]
        if self.older:
            burst = msgspec.structs.replace(request.burst, own_sequence=False)
            pilot = request.pilot and msgspec.structs.replace(request.pilot, sequence=0)
            request = msgspec.structs.replace(request, burst=burst, pilot=pilot)
        answers: queue.Queue = queue.Queue()
        self.soundings.submit(request, answers.put)
        answer = answers.get(timeout=PATIENCE_S)
        if not isinstance(answer, Failure):
            return Exchange(replies={0: answer})
        refused = AgentRefused("board")
        refused.__cause__ = error_of(answer)
        return Exchange(failures={0: refused})


class Bench:
    """The user's radio and an agent's, their air, and the exchanges between them."""

    def __init__(self, *, gain: float = 1e-7, ppm: float = 4.0, **impairments: object) -> None:
        board = DeviceModel(ppm=-ppm, impairments=Impairments(**impairments))
        devices = {"user": DeviceModel(ppm=ppm), "board": board}
        self.air = Air(devices, sample_rate_hz=2e6, seed=5)
        self.connect(AirPath(gain=gain))
        self.user_gone = False
        self.agents = Agents(Soundings(lambda: SimulatedRadio(self.air, "board"), name="board"))
        self.exchanges = PilotExchanges(
            self._open_user, self.agents, settings=SETTINGS, bursts=4, clock=lambda: 1.0
        )

    def connect(self, path: AirPath) -> None:
        self.air.connect("user", "board", path)
        self.air.connect("board", "user", path)

    def _open_user(self) -> SimulatedRadio:
        if self.user_gone:
            raise DeviceNotFound("no radio")
        return SimulatedRadio(self.air, "user")

    def up(self):
        return self.exchanges.uplinks([0], deadline_s=PATIENCE_S)

    def down(self):
        return self.exchanges.downlink(0, deadline_s=PATIENCE_S)


@pytest.fixture
def make():
    made = []

    def bench(**options: object) -> Bench:
        made.append(Bench(**options))
        return made[-1]

    yield bench
    for each in made:
        each.agents.soundings.close()


def _row(result) -> SoundingRow:
    return sounding_row(result, agent="board", carrier_hz=2.4e9)


@pytest.mark.parametrize("older", [False, True])
def test_both_directions_are_sounded_also_with_an_older_agent(make, older):
    bench = make()
    bench.agents.older = older
    for result in (bench.up()[-1], bench.down()[-1]):
        assert result.fault is None
        assert result.channel.gain == pytest.approx(1e-7, rel=0.02)
        assert (result.pilot.sequence == 0) is older


def test_what_widens_a_gain_is_in_the_ledgers_row(make):
    bench = make()
    bench.connect(AirPath(gain=1e-7, tap_powers=(1.0, 0.02), tap_spacing_s=20e-6))
    for result in (bench.up()[-1], bench.down()[-1]):
        row = _row(result)
        assert row.detected
        assert "does not fit a channel of 16 taps" in row.reason
        assert row.gain_std > 0.05 * row.channel_gain
        assert (row.gain_source, row.noise_source) == (Source.MODELLED, Source.MODELLED)
        assert 0.0 < row.noise_psd_std < 0.1 * row.noise_psd
        assert 0.0 < row.cfo_std_hz < 100.0


def test_a_refused_estimate_is_a_fault_with_its_reason(make):
    bench = make()
    bench.connect(AirPath(gain=1e-7, tap_powers=(1.0, 1.0), tap_spacing_s=20e-6))
    result = bench.up()[-1]
    assert result.fault is Fault.NO_BURST
    assert "not plausible" in _row(result).reason


def test_a_receiver_that_saturates_gets_a_lower_gain(make):
    tries = make(gain=10**-6.2, saturation_dbfs=-34.0).up()
    assert [result.fault for result in tries] == [Fault.OVERLOAD, None]
    assert "saturation" in tries[0].reason
    assert tries[1].channel.gain == pytest.approx(10**-6.2, rel=0.1)


def test_the_ladder_of_gains_ends_and_the_link_comes_back(make):
    bench = make(gain=1e-12)
    for _ in range(3):
        assert bench.up()[-1].fault is Fault.NO_BURST
    assert bench.agents.asked[-1].burst.rx_gain_db == 70.0
    bench.connect(AirPath(gain=10**-9.5))
    assert bench.up()[-1].fault is None


def test_offsets_are_forgotten_when_a_radio_was_lost(make):
    bench = make()
    bench.up()
    bench.up()
    assert bench.agents.asked[-1].burst.cfo_hz is not None
    bench.exchanges.close()
    bench.user_gone = True
    assert bench.up()[-1].fault is Fault.USER_RADIO
    bench.user_gone = False
    assert bench.up()[-1].fault is None
    assert bench.agents.asked[-1].burst.cfo_hz is None


def test_an_offset_that_drifts_between_exchanges_is_found_again(make):
    bench = make()
    for direction, sound in ((Direction.UP, bench.up), (Direction.DOWN, bench.down)):
        bench.exchanges._tuning(0, direction).cfo_hz = 35e3  # it is +-19.2 kHz
        result = sound()[-1]
        assert abs(abs(result.cfo_hz) - 19.2e3) < 30.0
        assert result.channel.gain == pytest.approx(1e-7, rel=0.02)

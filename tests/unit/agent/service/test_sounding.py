"""The agent's side of pilot exchanges, on radios of a simulated air."""

from __future__ import annotations

import math
import queue
import time

import msgspec
import numpy as np
import pytest

from siftmoe.agent.errors import AgentBusy, AgentStopping, ErrorCode
from siftmoe.agent.service.sounding import LIMIT, Soundings
from siftmoe.agent.wire import protocol
from siftmoe.radio.channel.link import Source
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import DeviceNotFound
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.radio import SimulatedRadio
from siftmoe.radio.sounding import pilots
from siftmoe.radio.sounding.sounder import Pilot, hear, transmit_pilot

PATIENCE_S = 20.0
BURST = protocol.Burst(
    carrier_hz=2.4e9, sample_rate_hz=2e6, tx_attenuation_db=10.0, rx_gain_db=40.0
)
SETTINGS = RadioSettings(
    carrier_hz=2.4e9, sample_rate_hz=2e6, tx_attenuation_db=10.0, rx_gain_db=40.0
)


class Bench:
    """A coordinator's radio and an agent's on one simulated air, and the agent's answers."""

    def __init__(self) -> None:
        devices = {"user": DeviceModel(ppm=3.0), "board": DeviceModel(ppm=-4.0)}
        self.air = Air(devices, sample_rate_hz=2e6, seed=5)
        self.air.connect("user", "board", AirPath(gain=1e-7))
        self.air.connect("board", "user", AirPath(gain=2e-7))
        self.user = SimulatedRadio(self.air, "user")
        self.opened = 0
        self.gone = False
        self.answers: queue.Queue[protocol.SoundReply | protocol.Failure] = queue.Queue()
        self.soundings = Soundings(self._open, name="board")

    def _open(self) -> SimulatedRadio:
        if self.gone:
            raise DeviceNotFound("no radio at 'ip:10.0.0.1'")
        self.opened += 1
        return SimulatedRadio(self.air, "board")

    def ask(self, **changes: object) -> protocol.SoundReply | protocol.Failure:
        self.submit(**changes)
        return self.answers.get(timeout=PATIENCE_S)

    def submit(self, **changes: object) -> None:
        request = protocol.Sound(**{"id": 1, "role": "listen", "burst": BURST, **changes})
        self.soundings.submit(request, self.answers.put)

    def pilot(self) -> protocol.PilotPower:
        pilot = transmit_pilot(self.user, SETTINGS)
        return protocol.PilotPower(
            tx_power_w=pilot.tx_power_w,
            tx_power_std_db=pilot.tx_power_std_db,
            source=pilot.source.value,
            sequence=pilot.sequence,
        )


@pytest.fixture
def bench():
    made = Bench()
    yield made
    made.soundings.close()


def test_who_listens_answers_with_the_channel(bench):
    reply = bench.ask(pilot=bench.pilot())

    assert reply.outcome == "heard"
    assert abs(reply.heard.gain - 1e-7) < 5 * reply.heard.gain_std
    assert reply.heard.gain_std < 0.02e-7
    assert reply.heard.cfo_hz == pytest.approx(bench.air.cfo_hz("user", "board", 2.4e9), abs=30)
    response = np.frombuffer(reply.heard.response, dtype=np.complex64)
    assert response.shape == (pilots.USED_CARRIERS,)
    assert np.mean(np.abs(response) ** 2) == pytest.approx(reply.heard.gain, rel=1e-5)
    assert 0.0 < reply.heard.age_s < PATIENCE_S


def test_who_transmits_is_heard_until_it_is_told_to_end(bench):
    reply = bench.ask(role="transmit", duration_s=30.0)
    assert (reply.outcome, bench.air.transmitting()) == ("transmitting", ["board"])
    assert reply.pilot.tx_power_w == pytest.approx(10 ** (0.7 - 1.0 - 0.9) * 1e-3, rel=0.05)

    ended = bench.ask(role="transmit", duration_s=0.0)
    assert ended.outcome == "silent"
    assert 0.0 < ended.on_air_s < PATIENCE_S
    assert bench.air.transmitting() == []
    assert bench.ask(role="transmit", duration_s=0.0).on_air_s == 0.0


def test_a_forgotten_transmission_ends_by_itself(bench):
    bench.ask(role="transmit", duration_s=0.05)
    end_s = time.monotonic() + PATIENCE_S
    while bench.air.transmitting() and time.monotonic() < end_s:
        time.sleep(0.01)
    assert bench.air.transmitting() == []


def test_closing_silences_and_refuses(bench):
    bench.ask(role="transmit", duration_s=30.0)
    bench.soundings.close()
    assert bench.air.transmitting() == []
    with pytest.raises(AgentStopping):
        bench.submit()


def test_no_burst_is_said_and_the_radio_kept(bench):
    power = protocol.PilotPower(tx_power_w=1e-3, tx_power_std_db=0.0, source="modelled")
    reply = bench.ask(pilot=power)
    assert reply.code is ErrorCode.NO_BURST
    assert "agent 'board': no burst of 'coordinator' found" in reply.message

    assert bench.ask(pilot=bench.pilot()).outcome == "heard"
    assert bench.opened == 1


def test_an_overloaded_receiver_says_so(bench):
    loud = protocol.Burst(
        carrier_hz=2.4e9, sample_rate_hz=2e6, tx_attenuation_db=0.0, rx_gain_db=71.0
    )
    bench.air.connect("user", "board", AirPath(gain=1e-3))
    reply = bench.ask(pilot=bench.pilot(), burst=loud)
    assert reply.code is ErrorCode.OVERLOAD
    assert "full scale" in reply.message


def test_a_radio_that_fails_is_opened_anew_and_comes_back(bench):
    bench.gone = True
    reply = bench.ask(pilot=bench.pilot())
    assert reply.code is ErrorCode.RADIO_FAILED
    assert "ip:10.0.0.1" in reply.message

    bench.gone = False
    assert bench.ask(pilot=bench.pilot()).outcome == "heard"


def test_a_setting_that_the_radio_cannot_take_is_answered(bench):
    other = protocol.Burst(
        carrier_hz=2.4e9, sample_rate_hz=3e6, tx_attenuation_db=0.0, rx_gain_db=40.0
    )
    reply = bench.ask(pilot=bench.pilot(), burst=other)
    assert reply.code is ErrorCode.RADIO_FAILED
    assert "3000000.0 Hz" in reply.message


def test_who_listens_must_be_told_the_power(bench):
    reply = bench.ask()
    assert reply.code is ErrorCode.RADIO_FAILED
    assert "told the pilot's power" in reply.message


def test_too_many_at_once_are_refused(bench):
    for _ in range(LIMIT):
        bench.submit(role="transmit", duration_s=0.0, start_s=60.0)
    with pytest.raises(AgentBusy, match=f"{LIMIT} pilot exchanges"):
        bench.submit()
    bench.soundings.close()
    codes = {bench.answers.get(timeout=PATIENCE_S).code for _ in range(LIMIT)}
    assert codes == {ErrorCode.STOPPING}


def test_a_later_start_is_kept(bench):
    began_s = time.monotonic()
    assert bench.ask(role="transmit", duration_s=0.0, start_s=0.1).outcome == "silent"
    assert time.monotonic() - began_s >= 0.1


def test_the_other_direction_agrees_too(bench):
    reply = bench.ask(role="transmit", duration_s=30.0)
    pilot = Pilot(
        transmitter="board",
        tx_power_w=reply.pilot.tx_power_w,
        tx_power_std_db=reply.pilot.tx_power_std_db,
        source=Source(reply.pilot.source),
        carrier_hz=2.4e9,
    )
    heard = hear(bench.user, pilot, settings=SETTINGS, now_s=0.0)
    assert abs(heard.channel.gain - 2e-7) < 5 * heard.channel.gain_std
    assert math.isfinite(heard.snr)


def test_a_transmitter_names_its_own_sequence_when_it_is_asked_for_it(bench):
    asked = msgspec.structs.replace(BURST, own_sequence=True)
    reply = bench.ask(role="transmit", burst=asked, duration_s=30.0)
    assert reply.pilot.sequence == pilots.sequence_of("board")
    pilot = Pilot(
        transmitter="board",
        tx_power_w=reply.pilot.tx_power_w,
        tx_power_std_db=reply.pilot.tx_power_std_db,
        source=Source(reply.pilot.source),
        carrier_hz=2.4e9,
        sequence=reply.pilot.sequence,
    )
    assert hear(bench.user, pilot, settings=SETTINGS, now_s=0.0).detection.detected


def test_an_older_coordinator_transmits_and_gets_sequence_0(bench):
    pilot = transmit_pilot(bench.user, SETTINGS, sequence=0)
    power = protocol.PilotPower(tx_power_w=pilot.tx_power_w, tx_power_std_db=0.0, source="modelled")
    assert bench.ask(pilot=power).outcome == "heard"
    assert bench.ask(role="transmit", duration_s=0.1).pilot.sequence == 0


def test_a_gain_beyond_the_radios_range_is_the_nearest_one(bench):
    bench.air.connect("user", "board", AirPath(gain=1e-10))
    high = msgspec.structs.replace(BURST, rx_gain_db=90.0)
    assert bench.ask(pilot=bench.pilot(), burst=high).heard.rx_gain_db == 71.0


def test_the_reason_for_an_uncertain_gain_is_in_the_answer(bench):
    late = AirPath(gain=1e-7, tap_powers=(1.0, 0.02), tap_spacing_s=20e-6)
    bench.air.connect("user", "board", late)
    heard = bench.ask(pilot=bench.pilot()).heard
    assert "does not fit a channel of 16 taps" in heard.reason
    assert heard.gain_std > 0.05 * heard.gain
    assert (heard.gain_source, heard.noise_source) == ("modelled", "modelled")
    assert heard.noise_psd_std > 0.0


def test_one_unit_at_both_ends_is_named(bench, monkeypatch):
    monkeypatch.setattr(SimulatedRadio, "serial", "1044")
    pilot = msgspec.structs.replace(bench.pilot(), serial="1044")
    reply = bench.ask(pilot=pilot)
    assert reply.code is ErrorCode.RADIO_FAILED
    assert "are one unit, serial number '1044'" in reply.message

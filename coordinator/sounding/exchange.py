"""Pilot exchanges between the user's radio and those of the helpers.

For uplinks the user's radio transmits once and all helpers listen at the same time. For downlinks
one helper after the other transmits and the user listens. Carrier offsets and receiver gains that
worked are kept for the next exchange.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from siftmoe.agent.wire.protocol import Burst, PilotPower, Sound, SoundReply
from siftmoe.agent.wire.sound import MAX_SERIAL
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.sounding.results import (
    Fault,
    Sounded,
    failed,
    heard_by_helper,
    heard_by_user,
    nothing,
)
from siftmoe.radio.channel.link import Source
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import Overload, RadioError, SyncFailed
from siftmoe.radio.sounding.pilots import BURST_LENGTH
from siftmoe.radio.sounding.sounder import FRAME_LENGTH, Pilot, hear, transmit_pilot

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.agent.wire.protocol import Message
    from siftmoe.coordinator.client.exchange import Exchange
    from siftmoe.coordinator.client.requests import Client
    from siftmoe.radio.device import Radio

_log = logging.getLogger(__name__)

#: Share of a repeated frame that is the burst; the rest is its gap.
DUTY: Final = BURST_LENGTH / FRAME_LENGTH
#: Time limit of a transmission if its coordinator dies before ending it; listening takes some
#: 30 ms.
FORGOTTEN_S: Final = 2.0
#: Range of automatically tried receiver gains, and the step.
_GAIN_STEP_DB: Final = 10.0
_GAINS_DB: Final = (0.0, 70.0)


@dataclass(slots=True)
class _Tuning:
    """Last working settings of one direction of one pair."""

    rx_gain_db: float
    cfo_hz: float | None = None

    def learn(self, cfo_hz: float, rx_gain_db: float | None) -> None:
        """Remember the carrier offset, and the gain that the receiver took."""
        self.cfo_hz = cfo_hz
        if rx_gain_db is not None:
            self.rx_gain_db = rx_gain_db

    def adapt(self, *, overload: bool) -> bool:
        """Change the gain for another try; False if there is no other."""
        low, high = _GAINS_DB
        before, self.cfo_hz = self.rx_gain_db, None
        step = -_GAIN_STEP_DB if overload else _GAIN_STEP_DB
        self.rx_gain_db = min(high, max(low, before + step))
        return self.rx_gain_db != before


class PilotExchanges:
    """Carries out pilot exchanges between the user's radio and those of the helpers.

    Parameters
    ----------
    open_radio : callable
        Opens the user's radio; raises a RadioError if there is none.
    client : Client
    settings : RadioSettings
        Initial settings; receiver gains are then adapted.
    bursts : int
        Bursts averaged in one exchange.
    clock : callable
        Time of the run, s.
    """

    def __init__(
        self,
        open_radio: Callable[[], Radio],
        client: Client,
        *,
        settings: RadioSettings,
        bursts: int,
        clock: Callable[[], float],
    ) -> None:
        self._open_radio = open_radio
        self._client = client
        self._settings = settings
        self._bursts = bursts
        self._clock = clock
        self._radio: Radio | None = None
        self._tunings: dict[tuple[int, Direction], _Tuning] = {}

    def close(self) -> None:
        """Silence and release the user's radio."""
        radio, self._radio = self._radio, None
        if radio is not None:
            radio.close()

    def uplinks(self, helpers: Sequence[int], *, deadline_s: float) -> list[Sounded]:
        """Transmit once while helpers listen; repeat for helpers that overload or miss it.

        Returns
        -------
        list of Sounded
            One per try; the last of a helper counts.
        """
        tries, waiting = [], list(helpers)
        for last in (False, True):
            results = self._uplink_round(waiting, deadline_s=deadline_s)
            tries += results
            waiting = [
                result.helper
                for result in results
                if not last and self._may_retry(result, Direction.UP)
            ]
            if not waiting:
                break
        return tries

    def downlink(self, helper: int, *, deadline_s: float) -> list[Sounded]:
        """Listen while a helper transmits; tries as in `uplinks`."""
        tries = [self._downlink_once(helper, deadline_s=deadline_s)]
        if self._may_retry(tries[0], Direction.DOWN):
            tries.append(self._downlink_once(helper, deadline_s=deadline_s))
        return tries

    def _may_retry(self, result: Sounded, direction: Direction) -> bool:
        if result.fault not in (Fault.NO_BURST, Fault.OVERLOAD):
            return False
        overload = result.fault is Fault.OVERLOAD
        return self._tuning(result.helper, direction).adapt(overload=overload)

    def _uplink_round(self, helpers: Sequence[int], *, deadline_s: float) -> list[Sounded]:
        began_s = self._clock()
        try:
            radio = self._require_radio()
            on_air = transmit_pilot(radio, self._settings, sequence=self._sequence(helpers))
            power = _power_of(on_air)
            requests = {
                n: Sound(
                    id=self._client.next_id(),
                    role="listen",
                    burst=self._burst(n, Direction.UP),
                    pilot=power,
                )
                for n in helpers
            }
            try:
                exchange = self._client.exchange(requests, deadline_s=deadline_s)
            finally:
                radio.silence()
        except RadioError as error:
            return self._user_radio_failed(helpers, Direction.UP, error)
        share_s = (self._clock() - began_s) * DUTY / len(requests)
        return [
            replace(self._heard_by(n, exchange), pilot=power, airtime_s=share_s) for n in helpers
        ]

    def _heard_by(self, n: int, exchange: Exchange) -> Sounded:
        now_s = self._clock()
        if n in exchange.failures:
            self._tuning(n, Direction.UP).cfo_hz = None
            return failed(n, Direction.UP, error=exchange.failures[n], now_s=now_s)
        reply = exchange.replies[n]
        if not isinstance(reply, SoundReply) or reply.heard is None:
            return _strange(n, Direction.UP, reply, now_s=now_s)
        self._tuning(n, Direction.UP).learn(reply.heard.cfo_hz, reply.heard.rx_gain_db)
        return heard_by_helper(n, reply.heard, now_s=now_s)

    def _downlink_once(self, n: int, *, deadline_s: float) -> Sounded:
        burst = self._burst(n, Direction.DOWN)
        began = self._ask(n, burst, duration_s=FORGOTTEN_S, deadline_s=deadline_s)
        if isinstance(began, Sounded):
            return began
        try:
            if began.pilot is None:
                return _strange(n, Direction.DOWN, began, now_s=self._clock())
            result = self._listen(n, began.pilot)
        finally:
            ended = self._ask(n, burst, duration_s=0.0, deadline_s=deadline_s)
        on_air_s = 0.0 if isinstance(ended, Sounded) else ended.on_air_s
        return replace(result, pilot=began.pilot, airtime_s=on_air_s * DUTY)

    def _ask(
        self, n: int, burst: Burst, *, duration_s: float, deadline_s: float
    ) -> SoundReply | Sounded:
        request = Sound(
            id=self._client.next_id(), role="transmit", burst=burst, duration_s=duration_s
        )
        exchange = self._client.exchange({n: request}, deadline_s=deadline_s)
        if n in exchange.failures:
            self._tuning(n, Direction.DOWN).cfo_hz = None
            error = exchange.failures[n]
            return failed(n, Direction.DOWN, error=error, now_s=self._clock())
        reply = exchange.replies[n]
        if isinstance(reply, SoundReply):
            return reply
        return _strange(n, Direction.DOWN, reply, now_s=self._clock())

    def _listen(self, n: int, power: PilotPower) -> Sounded:
        tuning = self._tuning(n, Direction.DOWN)
        settings = replace(self._settings, rx_gain_db=tuning.rx_gain_db)
        pilot = Pilot(
            transmitter=self._client.fleet[n].name,
            tx_power_w=power.tx_power_w,
            tx_power_std_db=power.tx_power_std_db,
            source=Source(power.source),
            carrier_hz=settings.carrier_hz,
            sequence=power.sequence,
            serial=power.serial,
        )
        now_s = self._clock()
        try:
            sounding = hear(
                self._require_radio(),
                pilot,
                settings=settings,
                now_s=now_s,
                bursts=self._bursts,
                cfo_hz=tuning.cfo_hz,
                clamp_gain=True,
            )
        except SyncFailed as error:
            return nothing(n, Direction.DOWN, Fault.NO_BURST, str(error), now_s=now_s)
        except Overload as error:
            return nothing(n, Direction.DOWN, Fault.OVERLOAD, str(error), now_s=now_s)
        except RadioError as error:
            return self._user_radio_failed([n], Direction.DOWN, error)[0]
        tuning.learn(sounding.cfo_hz, sounding.rx_gain_db)
        return heard_by_user(n, sounding)

    def _burst(self, n: int, direction: Direction) -> Burst:
        tuning = self._tuning(n, direction)
        return Burst(
            carrier_hz=self._settings.carrier_hz,
            sample_rate_hz=self._settings.sample_rate_hz,
            tx_attenuation_db=self._settings.tx_attenuation_db,
            rx_gain_db=tuning.rx_gain_db,
            count=self._bursts,
            cfo_hz=tuning.cfo_hz if direction is Direction.UP else None,
            own_sequence=True,
        )

    def _tuning(self, n: int, direction: Direction) -> _Tuning:
        begin = _Tuning(rx_gain_db=self._settings.rx_gain_db)
        return self._tunings.setdefault((n, direction), begin)

    def _sequence(self, helpers: Sequence[int]) -> int | None:
        """Sequence 0 if an agent that listens is older; else None, that of the user's radio."""
        hellos = [self._client.fleet[n].hello for n in helpers]
        return None if all(hello is None or hello.sequences for hello in hellos) else 0

    def _require_radio(self) -> Radio:
        if self._radio is None:
            self._radio = self._open_radio()
        return self._radio

    def _user_radio_failed(
        self, helpers: Sequence[int], direction: Direction, error: RadioError
    ) -> list[Sounded]:
        """Release the user's radio, which the next exchange opens again, and forget the offsets."""
        for tuning in self._tunings.values():
            tuning.cfo_hz = None
        try:
            self.close()
        except RadioError as second:
            _log.info("the user's radio did not close cleanly: %s", second)
        reason = f"the user's radio: {error}"
        now_s = self._clock()
        return [nothing(n, direction, Fault.USER_RADIO, reason, now_s=now_s) for n in helpers]


def _strange(n: int, direction: Direction, reply: Message, *, now_s: float) -> Sounded:
    reason = f"answered {type(reply).__name__} without what was asked for"
    return nothing(n, direction, Fault.NO_RADIO, reason, now_s=now_s)


def _power_of(pilot: Pilot) -> PilotPower:
    return PilotPower(
        tx_power_w=pilot.tx_power_w,
        tx_power_std_db=pilot.tx_power_std_db,
        source=pilot.source.value,
        sequence=pilot.sequence,
        serial=pilot.serial[:MAX_SERIAL],
    )

"""The agent's side of pilot exchanges: one thread that owns the radio.

A transmission stays on the air until it is ended, is replaced, or its duration is over, also if the
client that asked for it is gone. A radio that fails is closed and opened again for the next
exchange, so that a reconnected radio works without a restart.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.agent.errors import (
    AgentBusy,
    AgentStopping,
    NoBurst,
    Overloaded,
    RadioFailed,
    WireError,
)
from siftmoe.agent.wire.messages import failure_of
from siftmoe.agent.wire.protocol import Heard, PilotPower, Sound, SoundReply
from siftmoe.agent.wire.sound import MAX_REASON, MAX_SERIAL
from siftmoe.radio.channel.link import Source
from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import Overload, RadioError, SyncFailed
from siftmoe.radio.sounding.sounder import Pilot, hear, transmit_pilot

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.agent.wire.protocol import Failure
    from siftmoe.radio.device import Radio
    from siftmoe.radio.sounding.sounder import Sounding

    Answer = Callable[[SoundReply | Failure], None]

logger = logging.getLogger(__name__)

#: Most exchanges that wait; a coordinator has one at a time.
LIMIT: Final = 8
#: How long the end of the process waits until the radio has stopped transmitting.
_CLOSE_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class _Turn:
    request: Sound
    answer: Answer
    due_s: float


class Soundings:
    """Takes part in pilot exchanges, one after the other.

    Parameters
    ----------
    open_radio : callable
        Opens the radio; raises a RadioError if there is none.
    name : str
        Name of the agent, for messages.
    """

    def __init__(self, open_radio: Callable[[], Radio], *, name: str) -> None:
        self._open_radio = open_radio
        self._name = name
        self._radio: Radio | None = None
        self._turns: deque[_Turn] = deque()
        self._changed = threading.Condition()
        self._silent_at_s: float | None = None
        self._began_s = 0.0
        self._on_air_s = 0.0
        self._closing = False
        self._thread = threading.Thread(target=self._work, name="sounding", daemon=True)
        self._thread.start()

    def submit(self, request: Sound, answer: Answer) -> None:
        """Queue an exchange; ``answer`` is called from another thread.

        Raises
        ------
        AgentBusy
            If `LIMIT` exchanges wait already.
        AgentStopping
            If the agent is stopping.
        """
        with self._changed:
            if self._closing:
                raise AgentStopping("the agent is stopping; its radio is silent")
            if len(self._turns) >= LIMIT:
                raise AgentBusy(f"{LIMIT} pilot exchanges are waiting; ask again later")
            self._turns.append(_Turn(request, answer, time.monotonic() + request.start_s))
            self._changed.notify()

    def close(self) -> None:
        """Stop transmitting and close the radio; a second call does nothing."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join(_CLOSE_S)
        if self._thread.is_alive():
            logger.warning("the radio of agent %r does not answer and is left behind", self._name)

    def _work(self) -> None:
        while True:
            turn = self._next()
            if turn is None:
                break
            if isinstance(turn, _Turn):
                turn.answer(self._reply(turn.request))
            else:
                self._end_transmission()
        for left in self._turns:
            stopping = AgentStopping("the agent is stopping; its radio is silent")
            left.answer(failure_of(stopping, request_id=left.request.id))
        self._release()

    def _next(self) -> _Turn | float | None:
        """Wait for the next turn, the end of a transmission (its time) or the close (None)."""
        with self._changed:
            while not self._closing:
                now_s = time.monotonic()
                if self._silent_at_s is not None and now_s >= self._silent_at_s:
                    return self._silent_at_s
                if self._turns and now_s >= self._turns[0].due_s:
                    return self._turns.popleft()
                waits = [self._turns[0].due_s] if self._turns else []
                waits += [] if self._silent_at_s is None else [self._silent_at_s]
                self._changed.wait(min(waits) - now_s if waits else None)
            return None

    def _reply(self, request: Sound) -> SoundReply | Failure:
        try:
            return self._exchange(request)
        except SyncFailed as error:
            failure: WireError = NoBurst(f"agent {self._name!r}: {error}")
        except Overload as error:
            failure = Overloaded(f"agent {self._name!r}: {error}")
        except (RadioError, ValueError) as error:
            failure = RadioFailed(f"agent {self._name!r}: {error}")
            self._release()
        except Exception as error:
            logger.exception("pilot exchange %d failed", request.id)
            failure = RadioFailed(f"agent {self._name!r}: {error}; see its log")
            self._release()
        return failure_of(failure, request_id=request.id)

    def _exchange(self, request: Sound) -> SoundReply:
        if request.role == "transmit":
            return self._transmit(request)
        pilot = request.pilot
        if pilot is None:
            raise ValueError("a listener must be told the pilot's power")
        self._end_transmission()
        began_s = time.monotonic()
        sounding = hear(
            self._require_radio(),
            Pilot(
                transmitter="coordinator",
                tx_power_w=pilot.tx_power_w,
                tx_power_std_db=pilot.tx_power_std_db,
                source=Source(pilot.source),
                carrier_hz=request.burst.carrier_hz,
                sequence=pilot.sequence,
                serial=pilot.serial,
            ),
            settings=_settings(request),
            now_s=began_s,
            bursts=request.burst.count,
            cfo_hz=request.burst.cfo_hz,
            clamp_gain=True,
        )
        heard = _heard(sounding, age_s=time.monotonic() - began_s)
        return SoundReply(id=request.id, outcome="heard", heard=heard)

    def _transmit(self, request: Sound) -> SoundReply:
        self._end_transmission()
        if request.duration_s <= 0.0:
            on_air_s, self._on_air_s = self._on_air_s, 0.0
            return SoundReply(id=request.id, outcome="silent", on_air_s=on_air_s)
        radio = self._require_radio()
        self._began_s = time.monotonic()
        sequence = None if request.burst.own_sequence else 0
        pilot = transmit_pilot(radio, _settings(request), sequence=sequence)
        self._silent_at_s = time.monotonic() + request.duration_s
        power = PilotPower(
            tx_power_w=pilot.tx_power_w,
            tx_power_std_db=pilot.tx_power_std_db,
            source=pilot.source.value,
            sequence=pilot.sequence,
            serial=pilot.serial[:MAX_SERIAL],
        )
        return SoundReply(id=request.id, outcome="transmitting", pilot=power)

    def _require_radio(self) -> Radio:
        if self._radio is None:
            self._radio = self._open_radio()
        return self._radio

    def _end_transmission(self) -> None:
        if self._silent_at_s is None or self._radio is None:
            return
        self._silent_at_s = None
        self._on_air_s = time.monotonic() - self._began_s
        try:
            self._radio.silence()
        except RadioError as error:
            logger.warning("agent %r: radio lost while transmitting: %s", self._name, error)
            self._release()

    def _release(self) -> None:
        radio, self._radio, self._silent_at_s = self._radio, None, None
        if radio is None:
            return
        try:
            radio.close()
        except RadioError as error:
            logger.info("agent %r: radio did not close cleanly: %s", self._name, error)


def _settings(request: Sound) -> RadioSettings:
    burst = request.burst
    return RadioSettings(
        carrier_hz=burst.carrier_hz,
        sample_rate_hz=burst.sample_rate_hz,
        tx_attenuation_db=burst.tx_attenuation_db,
        rx_gain_db=burst.rx_gain_db,
    )


def _heard(sounding: Sounding, *, age_s: float) -> Heard:
    channel = sounding.channel
    return Heard(
        gain=channel.gain,
        gain_std=channel.gain_std,
        noise_psd=channel.noise_psd,
        bandwidth_hz=channel.bandwidth_hz,
        age_s=age_s,
        snr=max(0.0, sounding.snr),
        cfo_hz=sounding.cfo_hz,
        cfo_std_hz=sounding.cfo_std_hz,
        response=sounding.path_response().astype(np.complex64).tobytes(),
        gain_source=channel.gain_source.value,
        noise_source=channel.noise_source.value,
        noise_psd_std=channel.noise_psd_std,
        rx_gain_db=sounding.rx_gain_db,
        reason=sounding.checks.reason[:MAX_REASON],
    )

"""Result of a pilot exchange in one direction of a link, and its row in the ledger."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.agent.errors import NoBurst, Overloaded, WireError
from siftmoe.coordinator.errors import AgentUnreachable
from siftmoe.coordinator.ledger.rows import SoundingRow
from siftmoe.coordinator.links.states import Direction
from siftmoe.radio.channel.link import ChannelOrigin, ChannelState, Source

if TYPE_CHECKING:
    from siftmoe.agent.wire.protocol import Heard, PilotPower
    from siftmoe.radio.sounding.sounder import Sounding

_NEPER_PER_DB = math.log(10.0) / 10.0


class Fault(str, Enum):
    """Kind of failure of an exchange."""

    NO_BURST = "no burst"
    OVERLOAD = "overload"
    #: The helper has no radio, or it does not work or answer.
    NO_RADIO = "no radio"
    #: The agent cannot be reached; the state of its radio is unknown.
    UNREACHABLE = "unreachable"
    USER_RADIO = "the user's radio"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sounded:
    """Estimate of one direction by one exchange, or the reason of its failure.

    Parameters
    ----------
    helper : int
    direction : Direction
    time_s : float, s
        Of the capture, on the coordinator's clock.
    channel : ChannelState or None
    snr : float, linear
    cfo_hz, cfo_std_hz : float, Hz
    response : bytes
        Path amplitude over the carriers, complex64.
    pilot : PilotPower or None
        None if nothing was transmitted.
    airtime_s : float, s
        On the air, gaps not counted; up, this helper's share of it.
    fault : Fault or None
        None if there is a channel.
    reason : str
        The fault in words.
    """

    helper: int
    direction: Direction
    time_s: float
    channel: ChannelState | None = None
    snr: float = 0.0
    cfo_hz: float = 0.0
    cfo_std_hz: float = 0.0
    response: bytes = b""
    pilot: PilotPower | None = None
    airtime_s: float = 0.0
    fault: Fault | None = None
    reason: str = ""


def nothing(
    helper: int, direction: Direction, fault: Fault, reason: str, *, now_s: float
) -> Sounded:
    """Make the result of an exchange without an estimate."""
    return Sounded(helper=helper, direction=direction, time_s=now_s, fault=fault, reason=reason)


def failed(helper: int, direction: Direction, *, error: Exception, now_s: float) -> Sounded:
    """Make the result of a request that an agent refused or did not answer."""
    cause = error.__cause__
    fault = Fault.NO_RADIO
    if isinstance(cause, NoBurst):
        fault = Fault.NO_BURST
    elif isinstance(cause, Overloaded):
        fault = Fault.OVERLOAD
    elif isinstance(error, AgentUnreachable):
        fault = Fault.UNREACHABLE
    reason = str(cause if isinstance(cause, WireError) else error)
    return nothing(helper, direction, fault, reason, now_s=now_s)


def heard_by_helper(helper: int, heard: Heard, *, now_s: float) -> Sounded:
    """Make the result from a helper's reply.

    A helper is trusted about its own link, within the bounds of the protocol; a response that is
    not finite is left out.
    """
    response = np.frombuffer(heard.response, dtype="<c8")
    time_s = now_s - heard.age_s
    return Sounded(
        helper=helper,
        direction=Direction.UP,
        time_s=time_s,
        channel=ChannelState(
            gain=heard.gain,
            gain_std=heard.gain_std,
            noise_psd=heard.noise_psd,
            bandwidth_hz=heard.bandwidth_hz,
            time_s=time_s,
            origin=ChannelOrigin.SOUNDED,
            gain_source=Source(heard.gain_source),
            noise_psd_std=heard.noise_psd_std,
            noise_source=Source(heard.noise_source),
        ),
        cfo_std_hz=heard.cfo_std_hz,
        reason=heard.reason,
        snr=heard.snr,
        cfo_hz=heard.cfo_hz,
        response=heard.response if np.isfinite(response).all() else b"",
    )


def heard_by_user(helper: int, sounding: Sounding) -> Sounded:
    """Make the result from the capture of the user's radio."""
    return Sounded(
        helper=helper,
        direction=Direction.DOWN,
        time_s=sounding.channel.time_s,
        channel=sounding.channel,
        snr=max(0.0, sounding.snr),
        cfo_hz=sounding.cfo_hz,
        response=sounding.path_response().astype("<c8").tobytes(),
        cfo_std_hz=sounding.cfo_std_hz,
        reason=sounding.checks.reason,
    )


def sounding_row(result: Sounded, *, agent: str, carrier_hz: float) -> SoundingRow:
    """Row of an exchange.

    The airtime is the time that the transmitter was on, by the clock of its computer, without the
    gaps between bursts; the power is that of its calibration, or derived.

    Parameters
    ----------
    result : Sounded
    agent : str
    carrier_hz : float, Hz
    """
    pilot, channel = result.pilot, result.channel
    power_w = 0.0 if pilot is None else pilot.tx_power_w
    relative_std = 0.0 if pilot is None else _NEPER_PER_DB * pilot.tx_power_std_db
    return SoundingRow(
        time_s=result.time_s,
        agent=agent,
        direction=result.direction,
        tx_power_w=power_w,
        tx_power_std_w=power_w * relative_std,
        power_source=Source.DERIVED if pilot is None else Source(pilot.source),
        airtime_s=result.airtime_s,
        airtime_source=Source.MEASURED,
        energy_j=power_w * result.airtime_s,
        energy_std_j=power_w * result.airtime_s * relative_std,
        carrier_hz=carrier_hz,
        detected=channel is not None,
        channel_gain=None if channel is None else channel.gain,
        gain_std=None if channel is None else channel.gain_std,
        snr=None if channel is None else result.snr,
        cfo_hz=None if channel is None else result.cfo_hz,
        noise_psd=None if channel is None else channel.noise_psd,
        gain_source=None if channel is None else channel.gain_source,
        noise_psd_std=None if channel is None else channel.noise_psd_std,
        noise_source=None if channel is None else channel.noise_source,
        cfo_std_hz=None if channel is None else result.cfo_std_hz,
        reason=result.reason,
        response=result.response,
    )

"""From bursts to ledger rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.coordinator.ledger_rows import TransmissionRow
from siftmoe.radio.link import Source

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from siftmoe.coordinator.airtime import Bursts
    from siftmoe.coordinator.links import LinkStates


def transmission_rows(
    bursts: Bursts,
    links: LinkStates,
    *,
    agents: Sequence[str],
    step: int,
    layer: int,
    now_s: float,
) -> Iterator[TransmissionRow]:
    """One row per burst.

    Power and airtime follow from the link's rate model and are labelled ``modelled``; the
    uncertainty of the energy is that of the channel gain, since E is proportional to 1/g.

    Parameters
    ----------
    bursts : Bursts
    links : LinkStates
        The states that the bursts were planned on.
    agents : sequence of str
        Names by helper index.
    step, layer : int
    now_s : float, s
    """
    for i, n in enumerate(bursts.helper):
        state = links.channel_state(int(n), bursts.direction)
        relative_std = state.gain_std / state.gain
        yield TransmissionRow(
            time_s=now_s,
            step=step,
            layer=layer,
            agent=agents[n],
            direction=bursts.direction,
            tokens=int(bursts.tokens[i]),
            payload_bits=float(bursts.payload_bits[i]),
            tx_power_w=float(bursts.tx_power_w[i]),
            tx_power_std_w=float(bursts.tx_power_w[i]) * relative_std,
            power_source=Source.MODELLED,
            airtime_s=float(bursts.airtime_s[i]),
            airtime_source=Source.MODELLED,
            energy_j=float(bursts.energy_j[i]),
            energy_std_j=float(bursts.energy_j[i]) * relative_std,
            rate_bps=float(bursts.rate_bps[i]),
            channel_gain=state.gain,
            channel_age_s=state.age_s(now_s),
            channel_origin=state.origin,
        )

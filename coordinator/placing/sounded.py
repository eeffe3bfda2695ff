"""Link states from the pilots of an earlier run's ledger, for a placement by measured gains."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.errors import PlacementError
from siftmoe.coordinator.ledger.rows import SoundingRow
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.links.states import LinkStates
from siftmoe.radio.channel.link import ChannelOrigin

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def sounded_states(ledger: Path, agents: Sequence[str], *, bandwidth_hz: float) -> list[LinkStates]:
    """Read the sounded states of these agents' links, oldest first.

    State k has the k-th exchange of every link in which its pilots were detected. Where one side
    was not sounded, the channel is taken as reciprocal, and the noise as the other side's.

    Parameters
    ----------
    ledger : Path
        Of a run with radios.
    agents : sequence of str
        Names, in the testbed's order.
    bandwidth_hz : float, Hz
        Of a link.

    Raises
    ------
    PlacementError
        If an agent was not sounded.
    """
    with Ledger.open(ledger) as books:
        rows = [
            row
            for run in books.labels().values()
            for row in books.rows(SoundingRow, run=run)
            if row.channel_gain is not None and row.noise_psd is not None
        ]
    links = [_link([row for row in rows if row.agent == name], name, ledger) for name in agents]
    count = min(len(up) for up, _ in links)
    return [
        LinkStates(
            uplink_gain=np.array([up[k, 0] for up, _ in links]),
            downlink_gain=np.array([down[k, 0] for _, down in links]),
            noise_psd=np.array([up[k, 1] for up, _ in links]),
            downlink_noise_psd=np.array([down[k, 1] for _, down in links]),
            bandwidth_hz=np.full(len(links), bandwidth_hz),
            time_s=np.zeros(len(links)),
            origin=(ChannelOrigin.SOUNDED,) * len(links),
        )
        for k in range(count)
    ]


def _link(rows: Sequence[SoundingRow], name: str, ledger: Path) -> tuple[FloatArray, FloatArray]:
    """Gain and noise of one link's exchanges, (n, 2) upwards and downwards."""
    up = np.array([[r.channel_gain, r.noise_psd] for r in rows if r.direction == "up"])
    down = np.array([[r.channel_gain, r.noise_psd] for r in rows if r.direction == "down"])
    if not len(up) and not len(down):
        raise PlacementError(
            f"{str(ledger)!r} has no pilots of agent {name!r}; name a run with radios on this "
            f"testbed, or leave out --soundings"
        )
    up, down = (up if len(up) else down), (down if len(down) else up)
    count = min(len(up), len(down))
    return up[:count], down[:count]

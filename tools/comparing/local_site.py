"""The site of ``siftmoe loopback``: agents on this machine behind simulated links."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.board_energy import board_energy
from siftmoe.coordinator.clock import VirtualClock
from siftmoe.coordinator.config.entries import LAYER_DEADLINE_S
from siftmoe.coordinator.links.sources import links_of
from siftmoe.models.similarity.file import rotation_of
from siftmoe.tools.comparing.local_fleet import local_fleet
from siftmoe.tools.comparing.site import Site
from siftmoe.tools.showing.captions import fading_text, note_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from siftmoe.coordinator.clock import Clock
    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.coordinator.links.sources import LinkSource
    from siftmoe.coordinator.links.states import Links
    from siftmoe.models.bundle.reader import Bundle

#: Of every helper, if no distances are given: what differs between links is fading alone.
DISTANCE_M = 20.0


@contextmanager
def local_site(
    bundle: Bundle,
    radio: RadioEntry,
    ledger: Ledger,
    *,
    num_agents: int,
    layer_deadline_s: float = LAYER_DEADLINE_S,
    realtime: bool = False,
    source: LinkSource | None = None,
    distances_m: Sequence[float] | None = None,
) -> Iterator[Site]:
    """Start agents that host the experts round-robin, at given distances, for a block's length.

    Parameters
    ----------
    bundle : Bundle
    radio : RadioEntry
    ledger : Ledger
        Not used: nothing is sounded.
    num_agents : int
    layer_deadline_s : float, s
        Real time in which a layer's results must be here.
    realtime : bool
        Wait the airtime.
    source : LinkSource or None
        Of the links' states, instead of the one that the settings name.
    distances_m : sequence of float or None, m
        Of the helpers; None: all at `DISTANCE_M`.

    Raises
    ------
    ValueError
        If there are more agents than experts in a layer.
    AgentError, AgentUnreachable
        If an agent does not start, or is not ready in time.
    """
    del ledger
    distances = [DISTANCE_M] * num_agents if distances_m is None else list(distances_m)

    def links(seed: int) -> Links:
        return links_of(msgspec.structs.replace(radio, seed=seed), distances, source=source)

    def channel() -> tuple[Links, Clock]:
        return links(radio.seed), VirtualClock(realtime=realtime)

    with local_fleet(
        bundle, num_agents, rotation=rotation_of(bundle), layer_deadline_s=layer_deadline_s
    ) as local:
        yield Site(
            fleet=local.fleet,
            dispatcher=local.dispatcher,
            air=partial(air_interface, radio, bundle.shape, distances_m=distances),
            channel=channel,
            trial_links=links,
            note=note_of(radio),
            about=fading_text(radio),
            metered=partial(board_energy, local.client),
        )

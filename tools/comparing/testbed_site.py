"""The site of ``siftmoe run``: the running agents and radios of a testbed file."""

from __future__ import annotations

from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.board_energy import board_energy
from siftmoe.coordinator.clock import VirtualClock
from siftmoe.coordinator.connect import connected
from siftmoe.coordinator.links.replayed import ReplayedLinks
from siftmoe.coordinator.links.sources import links_of
from siftmoe.coordinator.sounding.channel import open_channel
from siftmoe.tools.comparing.captions import fading_text
from siftmoe.tools.comparing.site import Site

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.coordinator.clock import Clock
    from siftmoe.coordinator.config.entries import Testbed
    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.coordinator.links.states import Links
    from siftmoe.coordinator.sounding.channel import RadioChoice
    from siftmoe.models.bundle.reader import Bundle


@contextmanager
def testbed_site(
    bundle: Bundle,
    radio: RadioEntry,
    ledger: Ledger,
    *,
    testbed: Testbed,
    choice: RadioChoice,
    tolerant: bool,
    realtime: bool,
) -> Iterator[Site]:
    """Connect to a testbed's agents and sound the links for the first time.

    Parameters
    ----------
    bundle : Bundle
    radio : RadioEntry
    ledger : Ledger
        Every pilot exchange is booked into it.
    testbed : Testbed
    choice : "auto" or "simulated"
    tolerant : bool
        Begin without the agents that are not ready, if at least one is.
    realtime : bool
        Wait the airtime.

    Raises
    ------
    AgentUnreachable
        If an agent is not ready in time, or does not host what the file says.
    RadioMissing
        If a radio is missing and ``fallback`` is false.
    """
    distances = [agent.distance_m for agent in testbed.agent]
    with (
        connected(testbed, bundle, tolerant=tolerant) as there,
        open_channel(
            testbed, there.client, record=ledger.record, radio=choice, realtime=realtime
        ) as found,
    ):

        def simulated(seed: int) -> Links:
            return links_of(msgspec.structs.replace(radio, seed=seed), distances)

        def as_sounded(seed: int) -> Links:
            return ReplayedLinks(found.observed(), period_s=radio.coherence_time_s, seed=seed)

        def channel() -> tuple[Links, Clock]:
            if found.sounded:
                return found.links, found.clock
            return simulated(radio.seed), VirtualClock(realtime=realtime)

        yield Site(
            fleet=there.fleet,
            dispatcher=there.dispatcher,
            air=partial(air_interface, radio, bundle.shape, distances_m=distances),
            channel=channel,
            trial_links=as_sounded if found.sounded else simulated,
            note=found.note(),
            about=fading_text(radio) if found.simulated else "",
            metered=partial(board_energy, there.client),
        )

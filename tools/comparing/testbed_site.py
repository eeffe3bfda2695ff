"""The site of ``siftmoe run``: the running agents and radios of a testbed file."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
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
from siftmoe.tools.comparing.site import Site
from siftmoe.tools.showing.captions import fading_text
from siftmoe.tools.terminal.progress import working

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
    require_all: bool,
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
    require_all : bool
        Raise if an agent is not ready, instead of beginning without it.
    realtime : bool
        Wait the airtime.

    Raises
    ------
    AgentUnreachable
        If no agent is ready in time, or one is not and all are required.
    RadioMissing
        If a radio is missing and ``fallback`` is false.
    """
    distances = [agent.distance_m for agent in testbed.agent]
    with ExitStack() as opened:
        with working("waiting for the agents"):
            there = opened.enter_context(connected(testbed, bundle, require_all=require_all))
        found = opened.enter_context(
            open_channel(
                testbed, there.client, record=ledger.record, radio=choice, realtime=realtime
            )
        )

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
            note=" ".join(filter(None, (found.note(), there.missing))),
            about=fading_text(radio) if found.simulated else "",
            metered=partial(board_energy, there.client),
        )

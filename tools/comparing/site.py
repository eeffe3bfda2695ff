"""The site of a comparison: its helpers, its dispatcher and the source of channel states."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from siftmoe.coordinator.air.interface import AirInterface
    from siftmoe.coordinator.clock import Clock
    from siftmoe.coordinator.layer.parts import Dispatch, Helpers
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.coordinator.links.states import Links
    from siftmoe.coordinator.selection.widths import Widths


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A fleet that is ready, on a channel that is known.

    Parameters
    ----------
    fleet : Helpers
    dispatcher : Dispatch
    air : callable
        The air interface for one policy, given the widths of its vectors; fast fading is the
        same for each.
    channel : callable
        Links and clock for one policy: simulated ones start anew for each, so that all see the
        same; those that radios sound go on.
    trial_links : callable
        Links for the search of a price on validation text, given a seed: simulated links, or a
        replay of the sounded ones.
    note : str
        The source of the channel states.
    about : str
        The fading of the simulated links; empty if there are none.
    metered : callable
        Books the boards' energy into a ledger while the block runs.
    """

    fleet: Helpers
    dispatcher: Dispatch
    air: Callable[[Widths], AirInterface]
    channel: Callable[[], tuple[Links, Clock]]
    trial_links: Callable[[int], Links]
    note: str
    about: str
    metered: Callable[[Ledger], AbstractContextManager[None]]

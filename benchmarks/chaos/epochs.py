"""The coordinators of `benchmarks.chaos`, one for each epoch, and what becomes of its agents."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from benchmarks.chaos.watch import Checked, Watched, WatchedClient
from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.dispatch.reference import BundleExperts
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.links.assembly import simulated_links
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import unknown_tables
from siftmoe.models.bundle.manifest import Manifest
from tests.liars import WRONG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.chaos.strikes import Board
    from benchmarks.chaos.tally import Tally
    from siftmoe.agent.security.keys import KeyPair
    from siftmoe.coordinator.ledger.store import Ledger

DEADLINE_S: Final = 1.0


@contextlib.contextmanager
def coordinated(
    tally: Tally,
    ledger: Ledger,
    boards: list[Board],
    pairs: dict[str, KeyPair],
    false: dict[str, str],
) -> Iterator[tuple[Checked, WatchedClient]]:
    """Connect a coordinator to the true agents and to the liars; afterwards book who was found."""
    keys = {name: pair.public for name, pair in pairs.items()}
    entries = [
        AgentEntry(name=b.config.name, address=b.agent.endpoint, key=keys.get(b.config.name))
        for b in boards
    ]
    entries += [AgentEntry(name=f"liar-{mode}", address=at) for mode, at in false.items()]
    manifest = Manifest.load(boards[0].config.bundle)
    fleet = Watched(tally, entries, shape=manifest.shape, model_hash=manifest.model_hash)
    security = ClientSecurity(keys=pairs["coordinator"])
    radio = RadioEntry(deadline_s=0.01, bits=32)
    distances = [20.0] * len(entries)
    budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)
    with WatchedClient(tally, fleet, security=security) as client:
        client.connect(timeout_s=60.0)
        coordinator = Checked(
            fleet=fleet,
            dispatcher=Dispatcher(
                client, deadline_s=DEADLINE_S, reference=BundleExperts.of(manifest)
            ),
            links=simulated_links(radio, distances),
            air=air_interface(radio, manifest.shape, distances_m=distances),
            policy=make_policy("topk"),
            tables=unknown_tables(
                manifest.shape.num_layers, manifest.shape.num_experts, budget=budget, width=32
            ),
            ledger=ledger,
        )
        coordinator.shape, coordinator.tally, coordinator.fleet = manifest.shape, tally, fleet
        wrong = [(len(boards) + n, mode) for n, mode in enumerate(false) if mode in WRONG]
        coordinator.liars = dict(wrong)
        tally.rows.clear()
        yield coordinator, client
        for n, mode in wrong:
            found = fleet[n].state is AgentState.DISTRUSTED
            booked = tally.found if found else tally.unfound
            booked.setdefault(mode, []).append(tally.rows[mode])
        tally.accused += sum(fleet[n].state is AgentState.DISTRUSTED for n in range(len(boards)))


def all_back(client: WatchedClient, num_true: int) -> bool:
    """Whether all true agents are ready, or distrusted, after a minute at most."""
    end_s, fine = time.monotonic() + 60.0, (AgentState.READY, AgentState.DISTRUSTED)
    while not all(client.fleet[n].state in fine for n in range(num_true)):
        if time.monotonic() > end_s:
            return False
        client.wait_ready(timeout_s=0.1)
    return True

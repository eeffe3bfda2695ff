"""Starts a fleet of agents on this machine, one process each, and connects to it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import LAYER_DEADLINE_S, AgentEntry
from siftmoe.coordinator.connect import CONNECT_TIMEOUT_S
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.placement import Placement
from siftmoe.tools.terminal.progress import progress_bar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.agent.process.launch import LaunchedAgent, Spawned
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.vectors.quantise import Rotation


@dataclass(frozen=True, slots=True)
class LocalFleet:
    """Running agents with their client and dispatcher."""

    agents: tuple[LaunchedAgent, ...]
    fleet: Fleet
    client: Client
    dispatcher: Dispatcher


@contextmanager
def local_fleet(
    bundle: Bundle,
    num_agents: int,
    *,
    rotation: Rotation = "hadamard",
    layer_deadline_s: float = LAYER_DEADLINE_S,
) -> Iterator[LocalFleet]:
    """Start agents that host a bundle's experts round-robin; all end when the block is left.

    The machine's temperature is ignored: all agents share it, so all would be left out at once.

    Parameters
    ----------
    bundle : Bundle
    num_agents : int
    rotation : "none" or "hadamard"
        Of vectors that travel quantised, both ways.
    layer_deadline_s : float, s
        Real time in which a layer's results must be here.

    Raises
    ------
    ValueError
        If there are more agents than experts in a layer.
    AgentError
        If an agent does not start; the message has what it wrote.
    AgentUnreachable
        If one is not ready in time.
    """
    check_agents(bundle, num_agents)
    placement = Placement.round_robin(bundle.shape, num_helpers=num_agents)
    with ExitStack() as stack:
        agents = _start(bundle, placement, stack)
        entries = [
            AgentEntry(name=str(agent.started["name"]), address=agent.endpoint) for agent in agents
        ]
        fleet = Fleet(
            entries,
            shape=bundle.shape,
            model_hash=bundle.manifest.model_hash,
            placement=placement,
        )
        client = stack.enter_context(Client(fleet))
        client.connect(timeout_s=CONNECT_TIMEOUT_S)
        dispatcher = Dispatcher(client, rotation=rotation, deadline_s=layer_deadline_s)
        yield LocalFleet(tuple(agents), fleet, client, dispatcher)


def check_agents(bundle: Bundle, num_agents: int) -> None:
    """Raise ValueError if there would be agents without an expert."""
    if num_agents > bundle.shape.num_experts:
        raise ValueError(
            f"{num_agents} agents, but a layer has {bundle.shape.num_experts} experts; "
            f"start at most as many agents"
        )


def _start(bundle: Bundle, placement: Placement, stack: ExitStack) -> list[LaunchedAgent]:
    """Start all agents side by side and wait for each."""
    starting: list[Spawned] = []
    stack.callback(lambda: stop_all([agent.process for agent in starting]))
    for helper in range(len(placement.experts)):
        config = AgentConfig(
            bundle=str(bundle.root),
            name=f"agent-{helper}",
            experts=placement.selection(helper),
            threads=1,
            packing="numpy",  # compiled code takes 130 MB in each process
            idle_s=0.0,  # all share one machine, whose energy cannot be attributed to one agent
        )
        starting.append(spawn(config))
    with progress_bar("starting agents", len(starting)) as advance:
        ready = []
        for agent in starting:
            ready.append(agent.wait())
            advance(1)
    return ready

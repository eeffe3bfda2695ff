"""Put a coordinator together from a testbed file, for use from Python.

.. code-block:: python

    bundle = Bundle.open("mixtral.bundle")
    model = bundle.load_backbone()
    with connect("testbed.toml", ledger="ledger.sqlite") as coordinator:
        coordinator.attach(model)
        model.generate(...)
        print(coordinator.ledger.summary())

Links are simulated as ``[radio]`` says.
"""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from siftmoe.coordinator.assembly import air_interface, simulated_links
from siftmoe.coordinator.board_energy import board_energy
from siftmoe.coordinator.client import Client
from siftmoe.coordinator.client_security import ClientSecurity
from siftmoe.coordinator.config import load_testbed
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.dispatch import Dispatcher
from siftmoe.coordinator.fleet import Fleet
from siftmoe.coordinator.fleet_placement import place
from siftmoe.coordinator.ledger import Ledger
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.policies.wdmoe import wdmoe_links
from siftmoe.coordinator.policy_setup import prepare_policy
from siftmoe.models.bundle import Bundle
from siftmoe.models.similarity import read_profile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.coordinator.config import AgentEntry
    from siftmoe.coordinator.fleet_placement import Placement

#: Real time that a layer's results are waited for. A prefill of a large batch keeps a slow board
#: busy for seconds; a dead agent is noticed long before.
REQUEST_DEADLINE_S = 30.0
CONNECT_TIMEOUT_S = 20.0


@contextmanager
def connect(testbed: str | Path, *, ledger: str | Path) -> Iterator[Coordinator]:
    """Connect to the running agents of a testbed.

    Parameters
    ----------
    testbed : str or Path
        TOML, see `siftmoe.coordinator.config`.
    ledger : str or Path
        A file that does not exist.

    Raises
    ------
    ConfigError
        If the file is wrong, or an agent beyond this machine has no key.
    KeyUnusable
        If an agent has a key and the coordinator's own cannot be used.
    AgentUnreachable
        If an agent is not ready in time, or does not host what the file says.
    PlacementError
        If an expert has no host.
    """
    config = load_testbed(testbed)
    bundle = Bundle.open(config.model.bundle)
    shape, radio = bundle.shape, config.radio
    profile = None if bundle.manifest.profile_file() is None else read_profile(bundle.manifest)
    fleet = Fleet(
        config.agent,
        shape=shape,
        model_hash=bundle.manifest.model_hash,
        placement=_placement(config.agent, bundle),
    )
    security = ClientSecurity.of(config)
    distances = [agent.distance_m for agent in config.agent]
    links = simulated_links(radio, distances)
    air = air_interface(radio, shape, distances_m=distances)
    policy = prepare_policy(
        PolicySpec(config.policy.name, config.policy.options),
        shape=shape,
        profile=profile,
        links=lambda: wdmoe_links(links.states(coordinator.now_s), air),
    )
    with (
        Client(fleet, security=security) as client,
        Ledger.create(ledger, msgspec.to_builtins(config), label=config.policy.name) as books,
    ):
        client.connect(timeout_s=CONNECT_TIMEOUT_S)
        coordinator = Coordinator(
            fleet=fleet,
            dispatcher=Dispatcher(
                client, payload_dtype=radio.payload_dtype, deadline_s=REQUEST_DEADLINE_S
            ),
            links=links,
            air=air,
            policy=policy.select,
            tables=policy.tables,
            ledger=books,
        )
        with board_energy(client, books):
            try:
                yield coordinator
            finally:
                coordinator.detach()


def _placement(agents: list[AgentEntry], bundle: Bundle) -> Placement:
    shape = bundle.shape
    sizes = {
        (layer, expert): bundle.manifest.expert_file(layer, expert).num_bytes
        for layer in range(shape.num_layers)
        for expert in range(shape.num_experts)
    }
    return place(agents, shape, num_bytes=sizes)

"""Connects a coordinator to the agents and radios of a testbed file, for use from Python.

.. code-block:: python

    bundle = Bundle.open("mixtral.bundle")
    model = bundle.load_backbone()
    with connect("testbed.toml", ledger="ledger.sqlite") as coordinator:
        coordinator.attach(model)
        model.generate(...)
        print(coordinator.ledger.summary())

With a ``[sounding]`` table radios sound the links; without, they are simulated as ``[radio]`` says.
"""

from __future__ import annotations

import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.board_energy import board_energy
from siftmoe.coordinator.client.health.heat import Heats
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.entries import Testbed
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.dispatch.reference import BundleExperts
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.placement import listed, place
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.policies.setup import prepare_policy, widths_of
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.sounding.channel import open_channel
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.similarity.file import read_profile, rotation_of
from siftmoe.models.vectors.fused import load_kernels

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from siftmoe.coordinator.config.entries import AgentEntry, ExpertId, Testbed
    from siftmoe.coordinator.fleet.placement import Placement
    from siftmoe.coordinator.fleet.status import AgentStatus
    from siftmoe.coordinator.sounding.channel import RadioChoice

_log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 20.0


@dataclass(frozen=True, slots=True)
class Connection:
    """The agents of a testbed and what drives them; ``missing``: who is not ready, in words."""

    fleet: Fleet
    client: Client
    dispatcher: Dispatcher
    missing: str = ""


@contextmanager
def connected(
    testbed: Testbed, bundle: Bundle, *, require_all: bool = False
) -> Iterator[Connection]:
    """Connect to the agents of a testbed.

    Agents that are not ready in time are logged and left out until they are ready, and so are
    experts that no ready agent hosts: policies replace or skip them.

    Parameters
    ----------
    testbed : Testbed
    bundle : Bundle
    require_all : bool
        Raise if an agent is not ready in time.

    Raises
    ------
    ConfigError
        If an agent beyond this machine has no key.
    KeyUnusable
        If an agent has a key and the coordinator's own cannot be used.
    AgentUnreachable
        If no agent is ready in time, or one is not and all are required.
    PlacementError
        If an expert is on no agent of the file.
    """
    load_kernels()  # not in the middle of a layer
    fleet = Fleet(
        testbed.agent,
        shape=bundle.shape,
        model_hash=bundle.manifest.model_hash,
        placement=placement_of(testbed.agent, bundle),
    )
    faults = testbed.faults
    heats = Heats(cool_k=faults.cool_k) if faults.avoid_hot else None
    with Client(fleet, security=ClientSecurity.of(testbed), heats=heats) as client:
        missing = client.connect(timeout_s=CONNECT_TIMEOUT_S, require_all=require_all)
        dispatcher = Dispatcher(
            client,
            rotation=rotation_of(bundle),
            deadline_s=faults.layer_deadline_s,
            reference=BundleExperts.of(bundle.manifest),
        )
        yield Connection(fleet, client, dispatcher, _described(missing, fleet.orphans()))


def _described(missing: Sequence[AgentStatus], orphans: Sequence[ExpertId]) -> str:
    """Describe who and what is missing at the start; logs experts without a host."""
    if not missing:
        return ""
    names = ", ".join(agent.name for agent in missing)
    text = f"Began without {names}"
    if not orphans:
        return f"{text}; the others host every expert."
    text += f"; no ready agent hosted {listed(orphans)}"
    _log.warning(
        "no ready agent hosts %s; they are replaced or skipped until one does", listed(orphans)
    )
    return f"{text}."


@contextmanager
def connect(
    testbed: str | Path | Testbed,
    *,
    ledger: str | Path,
    radio: RadioChoice = "auto",
    require_all: bool = False,
) -> Iterator[Coordinator]:
    """Connect to the running agents of a testbed, and to its radios.

    Parameters
    ----------
    testbed : str, Path or Testbed
        TOML, see `siftmoe.coordinator.config.testbed`, or what was read from it.
    ledger : str or Path
        A file that does not exist.
    radio : "auto" or "simulated"
        Whether links are simulated even where there are radios.
    require_all : bool
        Raise if an agent is not ready in time, instead of beginning without it.

    Raises
    ------
    ConfigError
        If the file is wrong, or an agent beyond this machine has no key.
    KeyUnusable
        If an agent has a key and the coordinator's own cannot be used.
    AgentUnreachable
        If no agent is ready in time, or one is not and all are required.
    PlacementError
        If an expert is on no agent of the file.
    RadioMissing
        If a radio is missing and the file does not allow to simulate its link.
    """
    config = testbed if isinstance(testbed, Testbed) else load_testbed(testbed)
    bundle = Bundle.open(config.model.bundle)
    profile = None if bundle.manifest.profile_file() is None else read_profile(bundle.manifest)
    distances = [agent.distance_m for agent in config.agent]
    spec = PolicySpec(config.policy.name, config.policy.options)
    widths = widths_of(
        spec, profile, bits=config.radio.bits, downlink_bits=config.radio.downlink_bits
    )
    air = air_interface(config.radio, bundle.shape, widths, distances_m=distances)
    with (
        connected(config, bundle, require_all=require_all) as there,
        Ledger.create(ledger, msgspec.to_builtins(config), label=config.policy.name) as books,
        open_channel(config, there.client, record=books.record, radio=radio) as channel,
    ):
        _log.info("%s", channel.note())
        policy = prepare_policy(
            spec,
            shape=bundle.shape,
            profile=profile,
            links=lambda: channel.links.states(channel.clock.now_s),
            air=lambda: air,
            bits=config.radio.bits,
            downlink_bits=config.radio.downlink_bits,
        )
        coordinator = Coordinator(
            fleet=there.fleet,
            dispatcher=there.dispatcher,
            links=channel.links,
            air=air,
            policy=policy.select,
            tables=policy.tables,
            ledger=books,
            clock=channel.clock,
            reads_router=policy.reads_router,
        )
        with board_energy(there.client, books):
            try:
                yield coordinator
            finally:
                coordinator.detach()


def placement_of(agents: list[AgentEntry], bundle: Bundle) -> Placement:
    """Which agent is to host which expert at least.

    Raises
    ------
    PlacementError
        If an expert has no host, or does not fit.
    """
    shape = bundle.shape
    sizes = {
        (layer, expert): bundle.manifest.expert_file(layer, expert).num_bytes
        for layer in range(shape.num_layers)
        for expert in range(shape.num_experts)
    }
    return place(agents, shape, num_bytes=sizes)

"""Checks that a flashed agent answers over the network with the expected release."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.placement import Placement
from siftmoe.coordinator.fleet.status import AgentState

if TYPE_CHECKING:
    from siftmoe.coordinator.fleet.status import AgentStatus
    from siftmoe.tools.flashing.site import Site


def ask(site: Site, index: int, *, timeout_s: float) -> AgentStatus:
    """Say hello to an agent with the testbed's keys; the returned status has the result."""
    agent, bundle = site.agent(index), site.bundle()
    fleet = Fleet(
        [agent],
        shape=bundle.shape,
        model_hash=bundle.model_hash,
        placement=Placement((site.placement(bundle).experts[index],)),
        now_s=time.monotonic(),
    )
    with Client(fleet, security=site.security()) as client:
        client.wait_ready(timeout_s=timeout_s)
    return fleet[0]


def release_of(status: AgentStatus) -> str:
    """Return the release that an agent reports, empty if it was not flashed."""
    return "" if status.hello is None else status.hello.version.partition("+")[2]


def problem_with(status: AgentStatus, release: str) -> str:
    """Return why an agent does not serve a release; empty if it does."""
    if status.state is not AgentState.READY:
        return str(status)
    if release_of(status) != release:
        return f"agent {status.name!r} answers as release {release_of(status) or 'unknown'!r}"
    return ""

"""An agent behind a link that loses packets, delays them or carries nothing; takes root."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from bad_links import GOOD, BadLinks, Link, why_not
from four_agents import PATIENCE_S, Site, four_agents

from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.store import SelectionRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.skipif(bool(why_not()), reason=f"no bad links: {why_not()}"),
]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Agent 0, the nearer host of experts 0 and 1, is behind the link."""
    with BadLinks(1) as links, four_agents(tmp_path, links=links) as site:
        yield site


def step_until_back(site: Site) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while site.step() != {"a0", "a2"}:  # each step compares its outputs with the undivided layers'
        assert time.monotonic() < end_s, site.fleet[0]


def test_a_link_that_carries_nothing_is_planned_around_until_it_does(site: Site) -> None:
    assert site.step() == {"a0", "a2"}
    site.links.set(0, Link(loss=1.0))
    assert site.step() == {"a1", "a2"}
    assert site.fleet[0].state in (AgentState.DEAD, AgentState.WEDGED)
    assert list(site.ledger.rows(SelectionRow))[-1].excluded.startswith("a0: dead: ")
    site.links.set(0, GOOD)
    step_until_back(site)


@pytest.mark.parametrize("link", [Link(loss=0.3), Link(delay_s=0.02, jitter_s=0.01)], ids=str)
def test_whatever_a_bad_link_does_outputs_are_right(site: Site, link: Link) -> None:
    site.links.set(0, link)
    end_s = time.monotonic() + 1.5
    while time.monotonic() < end_s:
        site.step()
    site.links.set(0, GOOD)
    step_until_back(site)

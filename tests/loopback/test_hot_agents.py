"""Agents on boards that become hot under a run, by copies of sysfs whose files change."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from four_agents import HIDDEN, PATIENCE_S, Site, four_agents

from siftmoe.agent.wire.protocol import Apply, Result
from siftmoe.coordinator.client.health.heat import Heats
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.store import FaultRow, SelectionRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

#: A zone that is well, as a Jetson with JetPack 6 has it, and its alert.
BOARD = {
    "thermal_zone0/type": "CPU-therm",
    "thermal_zone0/temp": "61500",
    "thermal_zone0/trip_point_0_type": "passive",
    "thermal_zone0/trip_point_0_temp": "95000",
    "cooling_device0/type": "cpu-throttle-alert",
    "cooling_device0/cur_state": "0",
    "cooling_device0/max_state": "1",
}


def write(sysfs: Path, name: str, text: str) -> None:
    path = sysfs / "class/thermal" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for n in range(4):
        for name, text in BOARD.items():
            write(tmp_path / f"sys-{n}", name, text)
    with four_agents(tmp_path, heats=Heats(cool_k=5.0, ask_s=0.1)) as site:
        yield site


def step_until(site: Site, n: int, state: AgentState) -> set[str]:
    """Go on with the run until an agent is seen in a state, and one step more."""
    end_s = time.monotonic() + PATIENCE_S
    while site.fleet[n].state is not state:
        assert time.monotonic() < end_s, site.fleet[n]
        site.step()
        time.sleep(0.02)
    return site.step()


def excluded(site: Site) -> str:
    return list(site.ledger.rows(SelectionRow))[-1].excluded


def test_a_board_at_its_limit_is_left_out_until_it_is_clearly_below(site: Site) -> None:
    assert site.step() == {"a0", "a2"}
    write(site.sysfs(0), "thermal_zone0/temp", "97200")
    assert step_until(site, 0, AgentState.HOT) == {"a1", "a2"}
    assert excluded(site) == "a0: hot: CPU-therm 97 of 95 °C"
    write(site.sysfs(0), "thermal_zone0/temp", "92000")  # below its limit, not clearly
    end_s = time.monotonic() + 1.5
    while time.monotonic() < end_s:
        assert site.step() == {"a1", "a2"}
        time.sleep(0.05)
    write(site.sysfs(0), "thermal_zone0/temp", "89900")
    assert step_until(site, 0, AgentState.READY) == {"a0", "a2"}
    assert excluded(site) == ""
    assert list(site.ledger.rows(FaultRow)) == []  # nobody failed


def test_a_board_that_throttles_is_left_out_while_it_does(site: Site) -> None:
    write(site.sysfs(2), "cooling_device0/cur_state", "1")
    assert step_until(site, 2, AgentState.HOT) == {"a0", "a3"}
    assert excluded(site) == "a2: hot: cpu-throttle-alert 100%"
    write(site.sysfs(2), "cooling_device0/cur_state", "0")
    assert step_until(site, 2, AgentState.READY) == {"a0", "a2"}


def test_what_was_planned_before_a_board_became_hot_is_sent_to_it(site: Site) -> None:
    write(site.sysfs(0), "thermal_zone0/temp", "97200")
    wait_until_hot(site, 0)
    request = Apply(
        id=site.client.next_id(),
        layer=0,
        hidden=HIDDEN[:1],
        pairs=np.zeros((1, 2), np.int32),
        weights=np.ones(1, np.float32),
    )
    done = site.client.exchange({0: request}, deadline_s=PATIENCE_S)
    assert isinstance(done.require()[0], Result)
    assert site.fleet[0].state is AgentState.HOT


def test_a_hot_agent_that_gives_no_result_rests_and_is_hot_when_it_is_asked_anew(
    site: Site,
) -> None:
    write(site.sysfs(0), "thermal_zone0/temp", "97200")
    wait_until_hot(site, 0)
    site.client.rest(0, reason="it gave no result")
    assert site.fleet[0].state is AgentState.RESTING
    wait_until_hot(site, 0)


def test_a_hot_agent_that_dies_is_dead_and_is_asked_anew_when_it_returns(site: Site) -> None:
    write(site.sysfs(0), "thermal_zone0/temp", "99000")
    step_until(site, 0, AgentState.HOT)
    site.agents[0].stop()
    step_until(site, 0, AgentState.DEAD)
    site.restart(0)
    step_until(site, 0, AgentState.HOT)


def test_while_everybody_is_hot_the_run_waits_until_one_has_cooled(site: Site) -> None:
    for n in range(4):
        write(site.sysfs(n), "thermal_zone0/temp", "95000")
    for n in range(4):
        wait_until_hot(site, n)
    cooled = threading.Timer(1.0, write, (site.sysfs(3), "thermal_zone0/temp", "60000"))
    cooled.start()
    Dispatcher(site.client, deadline_s=1.0, patience_s=0.2).attend()
    cooled.join()
    assert site.fleet.ready().tolist() == [False, False, False, True]


def wait_until_hot(site: Site, n: int) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while site.fleet[n].state is not AgentState.HOT:
        assert time.monotonic() < end_s, site.fleet[n]
        site.client.poll()
        time.sleep(0.02)

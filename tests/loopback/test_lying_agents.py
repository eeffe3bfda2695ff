"""An agent that lies beside true ones, and is nearer: it is found, or does no harm.

Real agents, real sockets; outputs are compared with the undivided layer's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from four_agents import PATIENCE_S, Site, four_agents, whole
from liars import WRONG

from siftmoe.coordinator.dispatch.sampling import ONE_IN
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.store import FaultRow, SelectionRow

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

LIAR = 4
#: Rows of the liar in a step: four in each of two layers.
ROWS = 8
#: A run that goes on so long without a sampled row of the liar has a probability of exp(-25).
MOST_STEPS = 25 * ONE_IN // ROWS


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Four true agents, for all tests."""
    with four_agents(tmp_path_factory.mktemp("true")) as site:
        yield site


def is_right(site: Site) -> bool:
    outputs = site.serve()
    return all(np.allclose(y, whole(n), rtol=1e-3, atol=1e-4) for n, y in enumerate(outputs))


@pytest.mark.parametrize("mode", WRONG)
@pytest.mark.parametrize("reference", [True, False], ids=["users-device", "replica"])
def test_wrong_results_are_found_by_a_second_computation(
    true: Site, tmp_path: Path, mode: str, reference: bool
) -> None:
    with four_agents(tmp_path, running=true, liar=mode, reference=reference) as site:
        assert site.step() == {"liar", "a2"}  # its first two results are true
        steps = 0
        while site.fleet[LIAR].state is not AgentState.DISTRUSTED:
            assert steps < MOST_STEPS
            is_right(site)
            steps += 1
        for _ in range(5):
            assert site.step() == {"a0", "a2"}
        faults = list(site.ledger.rows(FaultRow))
        assert [(row.agent, row.kind) for row in faults] == [("liar", "AgentDistrusted")]
        (why,) = {row.reason.split(": ")[1] for row in faults}
        assert why.split(";")[0].endswith("computes another output")
        last = list(site.ledger.rows(SelectionRow))[-1]
        assert last.excluded.startswith("liar: distrusted")
        assert [agent.state for agent in site.fleet][:LIAR] == [AgentState.READY] * LIAR


def test_its_results_are_wrong_until_it_is_found(true: Site, tmp_path: Path) -> None:
    """What the check is for: without it the run would go on with them."""
    with four_agents(tmp_path, running=true, liar="negated", reference=True, honest=0) as site:
        assert not is_right(site)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("nan", "AgentRefused"), ("inf", "AgentRefused"), ("shape", "AgentRefused")],
)
def test_results_that_cannot_be_used_are_asked_of_others(
    true: Site, tmp_path: Path, mode: str, kind: str
) -> None:
    with four_agents(tmp_path, running=true, liar=mode, reference=True) as site:
        assert site.step() == {"liar", "a2"}
        for _ in range(5):
            assert site.step() == {"a0", "a2"}
        faults = list(site.ledger.rows(FaultRow))
        assert {(row.agent, row.kind) for row in faults} == {("liar", kind)}
        assert site.fleet[LIAR].state is AgentState.RESTING


def test_late_results_are_asked_of_others(true: Site, tmp_path: Path) -> None:
    with four_agents(tmp_path, running=true, liar="late", reference=True, deadline_s=2.0) as site:
        assert site.step() == {"liar", "a2"}
        assert site.step() == {"a0", "a2"}
        faults = list(site.ledger.rows(FaultRow))
        assert {(row.agent, row.kind) for row in faults} <= {("liar", "DeadlineMissed")}


@pytest.mark.parametrize("mode", ["twice", "old", "unasked", "boasts"])
def test_what_was_not_asked_for_does_no_harm(true: Site, tmp_path: Path, mode: str) -> None:
    with four_agents(tmp_path, running=true, liar=mode, reference=True) as site:
        for _ in range(10):
            assert site.step() == {"liar", "a2"}
        assert list(site.ledger.rows(FaultRow)) == []
        assert (site.client.discarded > 0) == (mode != "boasts")


def test_one_that_floods_and_goes_is_used_again_when_it_is_back(true: Site, tmp_path: Path) -> None:
    with four_agents(tmp_path, running=true, liar="floods", reference=True) as site:
        for _ in range(5):
            assert site.step() <= {"liar", "a0", "a2"}
            assert site.client.wait_ready(timeout_s=PATIENCE_S)
        assert site.liar.lies > 1

"""A layer whose deadline comes before its answers: real agents that hang, a testbed file."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import numpy as np
import pytest
from bundles import reference
from four_agents import EXPERTS, GATES, HIDDEN, PATIENCE_S, ROUTED, SHAPE, Site, four_agents, whole

from siftmoe.coordinator.connect import connect
from siftmoe.coordinator.ledger.store import FaultRow, SelectionRow

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

pytestmark = pytest.mark.timeout(300)

TESTBED = """\
[model]
bundle = "bundle"
[radio]
bits = 32
deadline_s = 0.01
fading = "none"
[faults]
layer_deadline_s = {deadline_s}
"""
DEADLINE_S = 4.0


def write_testbed(site: Site, folder: Path) -> Path:
    entries = "".join(
        f'[[agent]]\nname = "a{n}"\naddress = "{agent.endpoint}"\nexperts = "{EXPERTS[n]}"\n'
        f"distance_m = {10 + n}\n"
        for n, agent in enumerate(site.agents)
    )
    path = folder / "testbed.toml"
    path.write_text(TESTBED.format(deadline_s=DEADLINE_S) + entries)
    return path


def of_experts(layer: int, experts: set[int]) -> NDArray[np.float64]:
    """What the slots of these experts give."""
    total = np.zeros_like(HIDDEN, dtype=float)
    for e in experts:
        weight = ((e == ROUTED) * GATES).sum(axis=1)
        total += weight[:, None] * reference(SHAPE, layer, e, HIDDEN.astype(float))
    return total


def test_what_has_arrived_by_the_deadline_counts_and_the_rest_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A stopped agent is to be slow, not wedged: no heartbeat may end the wait before the deadline.
    monkeypatch.setattr("siftmoe.coordinator.client.connections.HEARTBEAT_TIMEOUT_MS", 600_000)
    with (
        four_agents(tmp_path) as site,
        connect(write_testbed(site, tmp_path), ledger=tmp_path / "run.sqlite") as coordinator,
    ):

        def step() -> list[NDArray[np.float32]]:
            coordinator.begin_step(tokens=len(HIDDEN), prefill=True)
            outputs = [
                coordinator.run_layer(layer, HIDDEN, routed_experts=ROUTED, gate_weights=GATES)
                for layer in range(2)
            ]
            coordinator.end_step(failed=False)
            return outputs

        for layer, output in enumerate(step()):
            np.testing.assert_allclose(output, whole(layer), rtol=1e-3, atol=1e-4)
        for n in (0, 1):  # both hosts of experts 0 and 1
            site.strike(n, signal.SIGSTOP)
        for layer, output in enumerate(step()):
            np.testing.assert_allclose(output, of_experts(layer, {2, 3}), rtol=1e-3, atol=1e-4)
        rows = list(coordinator.ledger.rows(SelectionRow))
        faults = list(coordinator.ledger.rows(FaultRow))
        # The first layer asked one after the other, and gave five of its ten slots up; the second
        # did not ask them again.
        assert [(row.agent, row.layer, row.kind) for row in faults] == [
            ("a0", 0, "DeadlineMissed"),
            ("a1", 0, "DeadlineMissed"),
        ]
        assert f"within {DEADLINE_S / 2 * 1e3:g} ms" in faults[0].reason
        assert [(row.kept, row.skipped, row.faulted) for row in rows[2:]] == [(5, 5, 5), (5, 5, 0)]
        assert rows[2].status == rows[3].status == "infeasible"
        assert rows[3].excluded.startswith("a0: resting: agent 'a0'")
        assert coordinator.ledger.summary().faulted == 5
        for n in (0, 1):
            site.strike(n, signal.SIGCONT)
        end_s = time.monotonic() + PATIENCE_S
        outputs = step()
        while not np.allclose(outputs[1], whole(1), rtol=1e-3, atol=1e-4):
            assert time.monotonic() < end_s, "they do not come back"
            time.sleep(0.05)
            outputs = step()

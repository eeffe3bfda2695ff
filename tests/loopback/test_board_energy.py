"""A run books the boards' energy: real agents, sensors that are files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.coordinator.connect import connect
from siftmoe.coordinator.ledger.store import BoardRow, Ledger
from siftmoe.models.bundle.reader import Bundle
from siftmoe.radio.channel.link import Source

if TYPE_CHECKING:
    from pathlib import Path

TESTBED = """
[model]
bundle = "{bundle}"
[policy]
name = "topk"
[radio]
bits = 32
deadline_s = 0.01
[[agent]]
name = "left"
address = "{left}"
experts = "*:0-1"
[[agent]]
name = "right"
address = "{right}"
experts = "*:2-3"
"""


@pytest.fixture
def current(tmp_path: Path) -> Path:
    """The rails of an Orin NX, 6 W in all; returns the file of the total's current."""
    monitor = tmp_path / "sysfs/bus/i2c/devices/1-0040/hwmon/hwmon0"
    monitor.mkdir(parents=True)
    (monitor.parents[1] / "name").write_text("ina3221\n")
    for n, (label, ampere) in enumerate([("VDD_IN", 1200), ("VDD_SOC", 400)], start=1):
        (monitor / f"in{n}_label").write_text(f"{label}\n")
        (monitor / f"in{n}_input").write_text("5000\n")
        (monitor / f"curr{n}_input").write_text(f"{ampere}\n")
    return monitor / "curr1_input"


def test_a_run_states_energy_gross_and_net_of_the_boards_that_have_sensors(
    family_bundle, tmp_path: Path, current: Path
) -> None:
    bundle = family_bundle("mixtral")
    options = {"bundle": str(bundle), "threads": 1, "idle_s": 1.0}
    starting = [
        spawn(AgentConfig(name="left", experts="*:0-1", sysfs=str(tmp_path / "sysfs"), **options)),
        spawn(AgentConfig(name="right", experts="*:2-3", sysfs=str(tmp_path), **options)),
    ]
    try:
        left, right = (agent.wait() for agent in starting)
        assert left.started["board"] == {
            "rails": "VDD_IN",
            "idle_power_w": pytest.approx(6.0),
            "idle_power_std_w": pytest.approx(0.0, abs=1e-9),
        }
        assert right.started["board"] is None
        testbed = tmp_path / "testbed.toml"
        testbed.write_text(TESTBED.format(bundle=bundle, left=left.endpoint, right=right.endpoint))
        model = Bundle.open(bundle).load_backbone()
        current.write_text("1800\n")  # it works now
        with connect(testbed, ledger=tmp_path / "ledger.sqlite") as coordinator:
            coordinator.attach(model)
            with torch.inference_mode():
                for _ in range(20):
                    model(torch.arange(3, 13)[None, :])
        with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
            (row,) = ledger.rows(BoardRow)
            summary = ledger.summary()
    finally:
        stop_all([agent.process for agent in starting])
    assert (row.agent, row.rails, row.source) == ("left", "VDD_IN", Source.MEASURED)
    assert row.duration_s > 0.0
    assert row.samples > 1
    # The first sample may still be one of the idle board.
    assert row.energy_j == pytest.approx(9.0 * row.duration_s, rel=0.2)
    assert abs(row.energy_j - 9.0 * row.duration_s) <= 4.0 * row.energy_std_j
    assert abs(row.net_j - 3.0 * row.duration_s) <= 4.0 * row.net_std_j
    assert row.net_std_j < row.energy_std_j
    per_token = summary.board_energy_per_token()
    assert per_token.value == pytest.approx(row.energy_j / 200)
    assert summary.board_energy_per_token(net=True).value == pytest.approx(row.net_j / 200)

"""A testbed file and a few lines of Python run a model on agents that are already running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from families import build_model
from patience import scaled_s

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch, spawn, stop_all
from siftmoe.coordinator.connect import connect
from siftmoe.coordinator.errors import AgentUnreachable
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, TransmissionRow
from siftmoe.models.bundle.reader import Bundle

if TYPE_CHECKING:
    from pathlib import Path

TESTBED = """
[model]
bundle = "{bundle}"
[policy]
name = "{policy}"
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
distance_m = 40.0
"""


def test_a_model_runs_on_the_agents_of_a_testbed_file(family_bundle, tmp_path: Path) -> None:
    bundle = family_bundle("mixtral")
    experts = {"left": "*:0-1", "right": "*:2-3"}
    starting = [
        spawn(AgentConfig(bundle=str(bundle), name=name, experts=chosen, threads=1))
        for name, chosen in experts.items()
    ]
    try:
        left, right = (agent.wait().endpoint for agent in starting)
        testbed = tmp_path / "testbed.toml"
        testbed.write_text(TESTBED.format(bundle=bundle, policy="topk", left=left, right=right))
        tokens = torch.arange(3, 13)[None, :]
        model = Bundle.open(bundle).load_backbone()
        with connect(testbed, ledger=tmp_path / "ledger.sqlite") as coordinator:
            coordinator.attach(model)
            with torch.inference_mode():
                logits = model(tokens).logits
            summary = coordinator.ledger.summary()
        with torch.inference_mode():
            whole = build_model("mixtral")(tokens).logits
        assert torch.allclose(logits, whole, atol=1e-4)
        assert summary.tokens == 10
        assert summary.energy_per_token(direction="up").value > 0.0
        with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
            assert list(ledger.labels()) == ["topk"]
    finally:
        stop_all([agent.process for agent in starting])


def test_one_agent_that_is_not_there_is_named_and_the_others_go_on(
    family_bundle, tmp_path: Path, monkeypatch, caplog
) -> None:
    monkeypatch.setattr("siftmoe.coordinator.connect.CONNECT_TIMEOUT_S", scaled_s(1.0))
    bundle = family_bundle("mixtral")
    agent = launch(AgentConfig(bundle=str(bundle), name="left", experts="*:0-1", threads=1))
    testbed = tmp_path / "testbed.toml"
    gone = "tcp://127.0.0.1:1"
    testbed.write_text(
        TESTBED.format(bundle=bundle, policy="topk", left=agent.endpoint, right=gone)
    )
    try:
        model = Bundle.open(bundle).load_backbone()
        with connect(testbed, ledger=tmp_path / "ledger.sqlite") as coordinator:
            coordinator.attach(model)
            with torch.inference_mode():
                assert torch.isfinite(model(torch.arange(3, 13)[None, :]).logits).all()
        with (
            pytest.raises(AgentUnreachable, match=r"'right' .* nothing listens there"),
            connect(testbed, ledger=tmp_path / "other.sqlite", require_all=True),
        ):
            pass
    finally:
        agent.stop()
    said = [record.getMessage() for record in caplog.records]
    assert sum("agent 'right' (tcp://127.0.0.1:1) is connecting: nothing" in t for t in said) == 1
    (orphans,) = [text for text in said if "hosts" in text]
    assert orphans.startswith("no ready agent hosts 0:2, 0:3, 1:2, 1:3")
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        rows = list(ledger.rows(SelectionRow))
    assert rows
    assert all("right: connecting" in row.excluded for row in rows)
    assert sum(row.skipped for row in rows) > 0
    assert {row.agent for row in _sent(tmp_path / "ledger.sqlite")} == {"left"}


def _sent(path: Path) -> list[TransmissionRow]:
    with Ledger.open(path) as ledger:
        return list(ledger.rows(TransmissionRow))


def test_agents_that_are_not_there_are_named(family_bundle, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("siftmoe.coordinator.connect.CONNECT_TIMEOUT_S", 0.3)
    testbed = tmp_path / "testbed.toml"
    testbed.write_text(
        TESTBED.format(
            bundle=family_bundle("mixtral"),
            policy="topk",
            left="tcp://127.0.0.1:1",
            right="tcp://127.0.0.1:2",
        )
    )
    with (
        pytest.raises(AgentUnreachable, match=r"'left'.*'right'"),
        connect(testbed, ledger=tmp_path / "ledger.sqlite"),
    ):
        pass

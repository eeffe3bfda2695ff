"""A testbed file and a few lines of Python run a model on agents that are already running."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from families import build_model

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.coordinator.connect import connect
from siftmoe.coordinator.errors import AgentUnreachable
from siftmoe.coordinator.ledger.store import Ledger

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
        from siftmoe.models.bundle.reader import Bundle

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

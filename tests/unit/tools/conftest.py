"""Fixture: the folder of an interrupted comparison."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.radio.channel.link import ChannelOrigin, Source
from siftmoe.tools.results.policies import LEDGER_FILE, save_scores
from siftmoe.tools.results.troubles import answer_label
from siftmoe.tools.showing.report import CONFIG_FILE

if TYPE_CHECKING:
    from pathlib import Path

SCORES = {"topk": {"answer": " of <items>.", "metrics": {"perplexity": [20.5, 1.5]}}}


def burst(step: int, agent: str, direction: Any, energy_j: float) -> TransmissionRow:
    return TransmissionRow(
        time_s=0.1 * step,
        step=step,
        layer=0,
        agent=agent,
        direction=direction,
        tokens=2,
        payload_bits=512.0,
        tx_power_w=energy_j / 0.01,
        tx_power_std_w=0.0,
        power_source=Source.MODELLED,
        airtime_s=0.01,
        airtime_source=Source.MODELLED,
        energy_j=energy_j,
        energy_std_j=0.1 * energy_j,
        rate_bps=51200.0,
        channel_gain=1e-7 if agent == "a" else 2e-7,
        channel_age_s=0.0,
        channel_origin=ChannelOrigin.SIMULATED,
    )


def book(ledger: Ledger, label: str, *, steps: int, energy_j: float) -> None:
    """Steps of 2 tokens with one layer: 3 slots kept, 1 skipped."""
    ledger.start_run(label)
    for step in range(steps):
        ledger.add(
            SelectionRow(
                step=step,
                layer=0,
                kept=3,
                replaced=0,
                skipped=1,
                predicted_energy_j=energy_j,
                lower_bound_j=float("nan"),
                status="feasible",
                deviation_bound_mean=0.0,
                deviation_bound_max=0.0,
                measured_deviation=None,
                solve_s=0.001,
            )
        )
        for agent, direction, factor in (("a", "up", 1), ("b", "up", 2), ("a", "down", 4)):
            ledger.add(burst(step, agent, direction, factor * energy_j))
        ledger.commit(
            StepRow(
                step=step,
                kind="prefill",
                time_s=0.1 * step,
                tokens=2,
                latency_s=0.1,
                airtime_s=0.06,
                solve_s=0.001,
                queue_s=0.0,
                compute_s=0.01,
                backbone_s=0.01,
                wall_s=0.5,
            )
        )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """An interrupted run: one policy is done, the second one has steps but no score."""
    folder = tmp_path / "run"
    folder.mkdir()
    config = {"model": "tiny & <small>", "prompt": "Return the number", "note": "modelled"}
    (folder / CONFIG_FILE).write_text(json.dumps(config))
    with Ledger.create(folder / LEDGER_FILE, label="start") as ledger:
        book(ledger, answer_label("topk"), steps=1, energy_j=1.0)
        book(ledger, "topk", steps=3, energy_j=1e-6)
        book(ledger, answer_label("topk-1"), steps=1, energy_j=1.0)
        book(ledger, "topk-1", steps=1, energy_j=5e-7)
        ledger.start_run("siftmoe")
    save_scores(folder, SCORES)
    return folder

"""Prometheus metrics of a ledger against the ledger's own sums."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any

import pytest

from siftmoe.agent.process import metrics as agent_metrics
from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.metrics import FAMILIES, LedgerMetrics, fleet_samples
from siftmoe.coordinator.ledger.store import (
    Ledger,
    SelectionRow,
    SoundingRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.radio.channel.link import ChannelOrigin, Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def burst(step: int, agent: str, **changes: Any) -> TransmissionRow:
    fields: dict[str, Any] = {
        **{"time_s": 0.0, "step": step, "layer": 0, "agent": agent, "direction": "up"},
        **{"tokens": 3, "payload_bits": 800.0, "tx_power_w": 0.1, "tx_power_std_w": 0.0},
        **{"power_source": Source.MEASURED, "airtime_s": 0.01, "airtime_source": Source.MEASURED},
        **{"energy_j": 1e-3, "energy_std_j": 0.0, "rate_bps": 1e5, "channel_gain": 1e-7},
        **{"channel_age_s": 0.0, "channel_origin": ChannelOrigin.SIMULATED, "missed": 1},
    }
    return TransmissionRow(**{**fields, **changes})


def book(ledger: Ledger, step: int, *, aborted: bool = False, kind: Any = "decode") -> None:
    ledger.add(
        SelectionRow(
            **{"step": step, "layer": 0, "kept": 5, "replaced": 2, "skipped": 3},
            **{"predicted_energy_j": 1.0, "lower_bound_j": 0.5, "status": "optimal"},
            **{"deviation_bound_mean": 0.0, "deviation_bound_max": 0.0},
            **{"measured_deviation": None, "solve_s": 0.0, "lost": 1},
        )
    )
    ledger.add(burst(step, "a", channel_gain=1e-7 * (step + 1)))
    ledger.add(burst(step, "b", power_source=Source.DERIVED, direction="down"))
    ledger.add(burst(step, "b", airtime_source=Source.MODELLED, direction="down"))
    ledger.commit(
        StepRow(
            **{"step": step, "kind": kind, "time_s": 0.0, "tokens": 4, "latency_s": 0.5},
            **{"airtime_s": 0.1, "solve_s": 0.02, "queue_s": 0.03, "compute_s": 0.04},
            **{"backbone_s": 0.05, "wall_s": 0.7, "aborted": aborted},
        )
    )


def pilot(agent: str, *, detected: bool) -> SoundingRow:
    found: dict[str, Any] = {"channel_gain": 1e-8, "gain_std": 1e-9, "snr": 10.0, "cfo_hz": 1.0}
    return SoundingRow(
        **{"time_s": 0.0, "agent": agent, "direction": "up", "tx_power_w": 0.1},
        **{"tx_power_std_w": 0.0, "power_source": Source.DERIVED, "airtime_s": 0.01},
        **{"airtime_source": Source.MEASURED, "energy_j": 1e-4, "energy_std_j": 0.0},
        **{"carrier_hz": 2.4e9, "detected": detected, **(found if detected else {})},
    )


def read(metrics: LedgerMetrics) -> dict[str, dict[tuple[str, ...], float]]:
    return {
        found.family.name.removeprefix("siftmoe_coordinator_"): dict(found.values)
        for found in metrics.samples()
    }


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger.create(tmp_path / "ledger.sqlite", label="start") as ledger:
        yield ledger


def test_what_is_booked_is_shown_once(ledger: Ledger) -> None:
    metrics = LedgerMetrics(ledger.path)
    assert not any(read(metrics).values())
    ledger.start_run("topk")
    book(ledger, 0, kind="prefill")
    book(ledger, 1)
    read(metrics)
    book(ledger, 2)
    ledger.start_run("siftmoe")
    book(ledger, 0)
    book(ledger, 1, aborted=True)
    ledger.record(pilot("a", detected=True), pilot("a", detected=False))
    read(metrics)
    found = read(metrics)
    assert found["steps_total"] == {
        ("topk", "prefill", "completed"): 1,
        ("topk", "decode", "completed"): 2,
        ("siftmoe", "decode", "completed"): 1,
        ("siftmoe", "decode", "aborted"): 1,
    }
    for label, run in list(ledger.labels().items())[1:]:
        summary = ledger.summary(run)
        tokens = sum(count for (name, _), count in found["tokens_total"].items() if name == label)
        latency = [s for (name, _), s in found["latency_seconds_total"].items() if name == label]
        assert tokens == summary.tokens
        assert sum(latency) == pytest.approx(0.5 * (3 if label == "topk" else 1))
    assert found["latency_part_seconds_total"]["topk", "decode", "solve"] == pytest.approx(0.04)
    assert found["wall_seconds_total"]["topk", "prefill"] == pytest.approx(0.7)
    assert found["slots_total"]["topk", "kept"] == 15
    assert found["slots_total"]["topk", "skipped"] == 9
    assert found["unserved_slots_total"]["topk", "late"] == 3
    assert found["unserved_slots_total"]["topk", "fault"] == 0
    assert found["soundings_total"] == {("a", "up", "detected"): 1, ("a", "up", "missed"): 1}
    assert found["sounding_energy_joules_total"] == {("a", "up", "derived"): pytest.approx(2e-4)}


def test_energy_is_told_apart_by_its_source(ledger: Ledger) -> None:
    ledger.start_run("topk")
    book(ledger, 0)
    book(ledger, 1)
    found = read(LedgerMetrics(ledger.path))
    assert found["transmit_energy_joules_total"] == {
        ("topk", "a", "up", "measured"): pytest.approx(2e-3),
        ("topk", "b", "down", "derived"): pytest.approx(2e-3),
        ("topk", "b", "down", "modelled"): pytest.approx(2e-3),
    }
    whole = sum(found["transmit_energy_joules_total"].values())
    assert whole == pytest.approx(ledger.summary().energy().value)
    assert found["transmissions_total"]["topk", "b", "down"] == 4
    assert found["payload_bytes_total"]["topk", "a", "up"] == 200.0
    assert found["airtime_seconds_total"]["topk", "a", "up"] == pytest.approx(0.02)
    assert found["missed_tokens_total"]["topk", "b", "down"] == 4
    assert found["channel_gain_ratio"]["a", "up"] == pytest.approx(2e-7)


def test_it_can_be_asked_while_it_is_written(ledger: Ledger) -> None:
    """Whatever is seen from another thread is whole steps, and never less than before."""
    metrics, seen, failures = LedgerMetrics(ledger.path), [0.0], []
    ended = threading.Event()

    def ask() -> None:
        while not ended.is_set():
            found = read(metrics)
            steps = found["steps_total"].get(("topk", "decode", "completed"), 0.0)
            if found["slots_total"].get(("topk", "kept"), 0.0) != 5 * steps or steps < seen[-1]:
                failures.append(found)
            seen.append(steps)

    thread = threading.Thread(target=ask)
    thread.start()
    ledger.start_run("topk")
    for step in range(200):
        book(ledger, step)
    ended.set()
    thread.join(30.0)
    assert not failures
    assert read(metrics)["tokens_total"] == {("topk", "decode"): 800}


def test_a_ledger_that_is_gone(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="cannot be opened"):
        list(LedgerMetrics(tmp_path / "none").samples())


def test_states_of_agents() -> None:
    samples = fleet_samples({"a": AgentState.READY, "b": AgentState.WEDGED})
    assert samples.values["a", "ready"] == samples.values["b", "wedged"] == 1.0
    assert sum(samples.values.values()) == 2.0
    assert len(samples.values) == 2 * len(AgentState)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_names_follow_the_conventions(family: Any) -> None:
    assert re.fullmatch(r"siftmoe_coordinator_[a-z_]+[a-z]", family.name)
    assert (family.kind == "counter") == family.name.endswith("_total")
    assert family.text.endswith(".")
    assert not {"step", "layer", "token", "expert", "le", "job"} & {*family.labels}
    assert family.name not in {other.name for other in agent_metrics.FAMILIES}


def test_control_and_circuits_are_beside_what_is_radiated(ledger: Ledger) -> None:
    ledger.start_run("topk")
    for step in range(2):
        ledger.add(
            burst(step, "a", control_bits=80.0, control_j=1e-4, circuit_tx_j=3.0, circuit_rx_j=5.0)
        )
        row = {"step": step, "kind": "decode", "time_s": 0.0, "tokens": 1, "latency_s": 0.1}
        parts = dict.fromkeys(("airtime_s", "solve_s", "queue_s", "compute_s", "backbone_s"), 0.0)
        ledger.commit(StepRow(**row, **parts, wall_s=0.1))
    found = read(LedgerMetrics(ledger.path))
    assert found["control_energy_joules_total"] == {("topk", "a", "up"): pytest.approx(2e-4)}
    assert found["circuit_energy_joules_total"] == {
        ("topk", "a", "up", "sender"): 6.0,
        ("topk", "a", "up", "receiver"): 10.0,
    }

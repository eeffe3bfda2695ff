"""``siftmoe loopback`` on other air interfaces: shared deadlines, chosen widths, fast fading."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from loopback_runs import AIR, SIFTMOE, booked, run_here

from siftmoe.coordinator.ledger.store import Ledger, StepRow
from siftmoe.tools.results.troubles import answer_label

if TYPE_CHECKING:
    from pathlib import Path

    from loopback_runs import Run

#: The first test also waits for the bundle to be prepared and profiled.
pytestmark = pytest.mark.timeout(300)


def test_a_shared_deadline_is_booked_as_it_was_divided(
    finished: list[Run], environment: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    out = tmp_path / "shared"
    # without control, which the division of the deadline does not know
    air = ["--deadline-shared", "--downlink-price", "2", "--no-control"]
    status, text, err = run_here(*AIR, *air, "--seed", "3", "--out", str(out))
    assert status == 0, err
    assert "for uplink, compute and downlink" in json.loads(text)["config"]["operating_point"]
    for policy in ("topk", SIFTMOE, answer_label("topk")):
        selections, bursts = booked(out, policy)
        price = {"up": 1.0, "down": 2.0}
        spent: dict[tuple[int, int], float] = {}
        airtime: dict[tuple[int, int, str], float] = {}
        for row in bursts:
            key = (row.step, row.layer)
            spent[key] = spent.get(key, 0.0) + price[row.direction] * row.energy_j
            burst = (*key, row.agent)
            airtime[burst] = airtime.get(burst, 0.0) + row.airtime_s
        for row in selections:
            energy = spent.get((row.step, row.layer), 0.0)
            assert row.predicted_energy_j == pytest.approx(energy, rel=1e-9)
        with Ledger.open(out / "ledger.sqlite") as ledger:
            steps = {row.step: row for row in ledger.rows(StepRow, run=ledger.labels()[policy])}
        deadline_s = json.loads(text)["config"]["radio"]["deadline_s"]
        for (step, _, _), seconds in airtime.items():
            assert 0.9 * steps[step].tokens * deadline_s < seconds < steps[step].tokens * deadline_s
    # both directions of the first run had a window each
    assert sum(row.energy_j for row in booked(out, "topk")[1]) > sum(
        row.energy_j for row in booked(finished[0][0], "topk")[1]
    )


def test_widths_are_chosen_sent_and_reported(
    finished: list[Run], environment: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    del finished  # it has prepared the bundle
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    out = tmp_path / "bits"
    policies = ["topk", "topk:bits=4", SIFTMOE, "channel-width:price=1e-07"]
    given = ["--bits", "auto", "--policy", ",".join(policies), "--seed", "3", "--out", str(out)]
    status, text, err = run_here(*AIR, *given, "--no-control")  # foreseen is that of the vectors
    assert status == 0, err
    spent = {}
    for policy in policies:
        selections, bursts = booked(out, policy)
        up = [row for row in bursts if row.direction == "up"]
        widths = {int(part.split(":")[0]) for row in up for part in row.widths.split()}
        if policy.startswith("topk"):
            assert widths == {16 if policy == "topk" else 4}
        else:
            assert len(widths) > 1
            assert max(widths) < 16
        back = [row for row in bursts if row.direction == "down"]
        answers = {int(part.split(":")[0]) for row in back for part in row.widths.split()}
        if policy.startswith("topk"):
            assert answers == {16 if policy == "topk" else 8}
        else:
            assert max(answers) < 16
        planned = sum(row.predicted_energy_j for row in selections)  # both directions
        spent[policy] = sum(row.energy_j for row in bursts)
        assert planned == pytest.approx(spent[policy], rel=1e-9)
    assert spent[SIFTMOE] < 0.35 * spent["topk"]
    results = {result["policy"]: result for result in json.loads(text)["results"]}
    for policy in policies:
        assert results[policy]["uplink_j_per_token"] > 0.0
    page = (out / "report.html").read_text()
    assert "Bits of an entry of uplink vectors, over the channel gain" in page
    assert (out / "figures" / "widths.svg").exists()


def test_what_misses_a_window_is_booked_and_missing(
    finished: list[Run], environment: dict[str, str], tmp_path: Path, monkeypatch: Any
) -> None:
    """So little is lost for an undelivered token that deep fades are not sent through."""
    monkeypatch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
    out = tmp_path / "fast"
    air = ["--fading-slots", "2", "--outage-price", "1.5", "--audit"]
    status, text, err = run_here(*AIR, *air, "--seed", "3", "--out", str(out))
    assert status == 0, err
    assert "in 2 blocks" in json.loads(text)["config"]["helpers"]
    selections, bursts = booked(out, "topk")
    lost = {(row.step, row.layer): row.lost for row in selections}
    assert sum(lost.values()) > 0
    assert all(row.skipped == row.lost for row in selections)  # Top-K skips nothing by itself
    for row in selections:
        assert (row.measured_deviation > 1e-6) == (row.lost > 0)
    missed = dict.fromkeys(lost, 0)
    sent = dict.fromkeys(lost, 0)
    for row in bursts:
        missed[row.step, row.layer] += row.missed
        sent[row.step, row.layer] += (
            row.tokens if row.direction == "up" else row.missed - row.tokens
        )
    assert {key for key, count in missed.items() if count} == {k for k, n in lost.items() if n}
    assert sent == missed  # what was not missed came back

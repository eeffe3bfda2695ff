"""How ``siftmoe loopback`` ends: interrupted, killed, with a dead agent, and resumed."""

from __future__ import annotations

import json
import re
import signal
from typing import TYPE_CHECKING

import pytest
from loopback_runs import (
    AGENTS,
    ENDLESS,
    SIFTMOE,
    assert_gone,
    assert_whole_steps,
    evaluating,
    finish,
)

from siftmoe.coordinator.ledger.store import (
    FaultRow,
    Ledger,
    SelectionRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.tools.comparing.resumption import held

if TYPE_CHECKING:
    from pathlib import Path

    from loopback_runs import Start

#: The first test also waits for the bundle to be prepared and profiled.
pytestmark = pytest.mark.timeout(300)


def test_an_interrupt_ends_it_in_order(start: Start, tmp_path: Path) -> None:
    process = start(*ENDLESS, "--out", "run")
    agents = evaluating(process, tmp_path / "run")
    process.send_signal(signal.SIGINT)
    status, out, err = finish(process)
    assert (status, out) == (130, "")
    assert "interrupted; what was booked is in run/ledger.sqlite" in err
    assert "siftmoe loopback --resume run" in err.splitlines()
    assert "Traceback" not in err
    assert_gone(agents)
    assert_whole_steps(tmp_path / "run" / "ledger.sqlite")
    assert not (tmp_path / "run" / "ledger.sqlite-wal").exists()


def test_a_kill_leaves_no_agent(start: Start, tmp_path: Path) -> None:
    process = start(*ENDLESS, "--out", "run")
    agents = evaluating(process, tmp_path / "run")
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    assert_gone(agents)
    assert_whole_steps(tmp_path / "run" / "ledger.sqlite")


def test_an_agent_that_dies_costs_a_remark_and_not_the_run(start: Start, tmp_path: Path) -> None:
    task = ["--task", "choice", "--items", "12", "--batch", "1", "--tokens", "1"]
    policies = ["--policy", f"topk,{SIFTMOE}"]
    out = tmp_path / "run"
    process = start("--agents", str(AGENTS), *task, *policies, "--out", "run")
    agents = evaluating(process, out)
    victim = next(a for a in agents if "agent-1" in " ".join(a.cmdline()))
    victim.kill()
    status, text, err = finish(process)
    assert status == 0, err
    assert "Traceback" not in err
    said = " ".join(text.split())
    assert re.search(r"topk: agent-1 (failed in 1 layer .*)?was left out of \d+ selections", said)
    assert re.search(
        rf"{re.escape(SIFTMOE)}: agent-1 was left out of \d+ selections \(dead: ", said
    )
    assert re.search(r"topk: \d+ selections could not keep the budget", said)
    assert list(json.loads((out / "scores.json").read_text())) == ["topk", SIFTMOE]
    assert_gone(agents)
    assert_whole_steps(out / "ledger.sqlite")
    with Ledger.open(out / "ledger.sqlite") as ledger:
        labels = ledger.labels()
        rows = list(ledger.rows(SelectionRow, run=labels["topk"]))
        before = [row for row in rows if not row.excluded]
        after = rows[len(before) :]
        assert before == rows[: len(before)]
        # No expert of it has another host: Top-K skips them, and says so in every layer.
        assert not any(row.skipped for row in before)
        assert any(row.skipped for row in after)
        assert all(row.excluded.startswith("agent-1: dead: ") for row in after)
        # It may have died with work in hand, or not.
        faults = list(ledger.rows(FaultRow, run=labels["topk"]))
        assert [row.faulted for row in rows if row.faulted] == [row.slots for row in faults]
        last = (after[0].step, after[0].layer)
        for row in ledger.rows(TransmissionRow, run=labels["topk"]):
            assert row.agent != "agent-1" or (row.step, row.layer) <= last
            assert row.missed in (0, row.tokens)
            assert not row.missed or (row.agent, (row.step, row.layer)) == ("agent-1", last)
        assert not list(ledger.rows(FaultRow, run=labels[SIFTMOE]))


def test_a_run_that_was_killed_is_gone_on_with(start: Start, tmp_path: Path) -> None:
    out = tmp_path / "run"
    job = ["--agents", str(AGENTS), "--items", "6", "--batch", "1", "--tokens", "1", "--json"]
    job += ["--task", "choice", "--policy", f"topk-1,topk,{SIFTMOE}"]
    process = start(*job, "--out", "run")
    agents = evaluating(process, out)  # topk-1 is done
    with pytest.raises(ValueError, match="is going on in another process"), held(out):
        pass
    process.kill()
    finish(process)
    assert_gone(agents)
    before = json.loads((out / "scores.json").read_text())
    assert list(before) == ["topk-1"]
    with Ledger.open(out / "ledger.sqlite") as ledger:
        kept = list(ledger.rows(StepRow, run=ledger.labels()["topk-1"]))
        broken_off = len(list(ledger.rows(StepRow, run=ledger.labels()["topk"])))

    status, text, err = finish(start("--resume", "run", "--json"))
    assert status == 0, err
    assert "1 of 3 policies are done" in err
    printed = json.loads(text)
    scores = json.loads((out / "scores.json").read_text())
    assert list(scores) == ["topk-1", "topk", SIFTMOE]
    assert scores["topk-1"] == before["topk-1"]
    assert [result["policy"] for result in printed["results"]] == list(scores)
    assert [result["attempts"] for result in printed["results"]] == [0, 1, 0]
    assert printed["results"][1]["attempts_j"] > 0.0
    assert_whole_steps(out / "ledger.sqlite")
    with Ledger.open(out / "ledger.sqlite") as ledger:
        labels = ledger.labels()
        assert list(ledger.rows(StepRow, run=labels["topk-1"])) == kept
        assert len(list(ledger.rows(StepRow, run=labels["topk (attempt 1)"]))) == broken_off
        assert len(list(ledger.rows(StepRow, run=labels["topk"]))) == len(kept)
    # Nothing is left to do: what is there is shown again.
    status, again, err = finish(start("--resume", "run", "--json"))
    assert status == 0, err
    assert json.loads(again)["results"] == printed["results"]

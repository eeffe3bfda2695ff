"""Runs of ``siftmoe loopback`` in tests: arguments, waiting, and what a ledger must hold."""

from __future__ import annotations

import contextlib
import io
import subprocess
import time
from contextlib import redirect_stderr, redirect_stdout
from typing import TYPE_CHECKING, Any

import psutil
from patience import scaled_s

from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.tools.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Start = Callable[..., subprocess.Popen[str]]
    Run = tuple[Path, dict[str, Any]]

PATIENCE_S = 60.0
AGENTS = 3
#: At a given price: what the default finds on validation text would take longer than all the rest.
SIFTMOE = "siftmoe:price=1e-07"
SMALL = ["--agents", str(AGENTS), "--items", "2", "--tokens", "4", "--task", "choice"]
SMALL += ["--policy", f"topk,topk-1,{SIFTMOE}"]
#: More than any test waits for.
ENDLESS = ["--agents", str(AGENTS), "--items", "1000", "--tokens", "1", "--policy", "topk"]
AIR = ["--agents", str(AGENTS), "--items", "2", "--tokens", "6", "--task", "choice", "--json"]
AIR += ["--policy", f"topk,{SIFTMOE}"]


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=scaled_s(PATIENCE_S))
    return process.returncode, out, err


def wait_until(condition: Callable[[], Any]) -> Any:
    began_s = time.monotonic()
    while not (found := condition()):
        assert time.monotonic() - began_s < scaled_s(PATIENCE_S), "waited in vain"
        time.sleep(0.02)
    return found


def evaluating(process: subprocess.Popen[str], out: Path) -> list[psutil.Process]:
    """Wait until the evaluation has booked some steps; returns the agents."""

    def booked() -> bool:
        assert process.poll() is None, process.communicate()[1]
        with contextlib.suppress(LedgerError), Ledger.open(out / "ledger.sqlite") as ledger:
            run = ledger.labels().get("topk")
            return run is not None and ledger.summary(run).steps >= 3
        return False

    wait_until(booked)
    agents = psutil.Process(process.pid).children()
    assert len(agents) == AGENTS
    return agents


def assert_gone(processes: list[psutil.Process]) -> None:
    assert psutil.wait_procs(processes, timeout=scaled_s(PATIENCE_S))[1] == []


def assert_whole_steps(path: Path, *, num_layers: int = 4) -> None:
    """Whatever stands in a ledger belongs to a step that was finished, or to the one broken off."""
    with Ledger.open(path) as ledger:
        assert ledger.labels()
        for run in ledger.labels().values():
            steps = {row.step: row for row in ledger.rows(StepRow, run=run)}
            assert sorted(steps) == list(range(len(steps)))
            assert not any(steps[number].aborted for number in range(len(steps) - 1))
            steps = {number: row for number, row in steps.items() if not row.aborted}
            served = {
                (row.step, row.layer): row.kept + row.replaced
                for row in ledger.rows(SelectionRow, run=run)
                if row.step in steps
            }
            assert list(served) == [(step, m) for step in steps for m in range(num_layers)]
            for direction in ("up", "down"):
                assert {key for key, count in served.items() if count} == {
                    (row.step, row.layer)
                    for row in ledger.rows(TransmissionRow, run=run)
                    if row.direction == direction and row.step in steps
                }


def run_here(*arguments: str) -> tuple[int, str, str]:
    """Run the command in this process, which has imported everything already."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        try:
            status = main(["loopback", *arguments])
        except SystemExit as exit_:  # of argparse
            status = int(str(exit_.code))
    return status, out.getvalue(), err.getvalue()


def booked(folder: Path, policy: str) -> tuple[list[SelectionRow], list[TransmissionRow]]:
    with Ledger.open(folder / "ledger.sqlite") as ledger:
        run = ledger.labels()[policy]
        return list(ledger.rows(SelectionRow, run=run)), list(ledger.rows(TransmissionRow, run=run))

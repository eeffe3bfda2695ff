"""Helpers that are killed, stopped and started again under a run, and a run that is killed itself.

Real agents, real sockets; every output is compared with the undivided layer's.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from families import build_model
from four_agents import DEADLINE_S, PATIENCE_S, Site, four_agents

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.ledger.store import FaultRow, Ledger, SelectionRow, TransmissionRow
from siftmoe.models.tiny.files import checkpoint_dir
from siftmoe.tools.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


pytestmark = pytest.mark.timeout(300)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with four_agents(tmp_path) as site:
        yield site


def test_a_helper_killed_with_work_in_hand_is_replaced_and_returns(site: Site) -> None:
    assert site.step() == {"a0", "a2"}
    site.strike(0, signal.SIGSTOP)  # so that it has the request, and has not answered it
    killer = threading.Timer(0.05, site.strike, (0, signal.SIGKILL))
    killer.start()
    assert site.step() == {"a1", "a2"}
    killer.join()
    (fault,) = site.ledger.rows(FaultRow)
    assert (fault.agent, fault.layer, fault.kind) == ("a0", 0, "AgentUnreachable")
    rows = list(site.ledger.rows(SelectionRow))
    assert [(row.kept, row.faulted) for row in rows] == [(10, 0)] * 4
    assert [row.status for row in rows[2:]] == ["feasible", rows[0].status]
    assert all(row.excluded.startswith("a0: dead: ") for row in rows[2:])
    spent = [row for row in site.ledger.rows(TransmissionRow) if row.missed]
    assert [(row.agent, row.direction) for row in spent] == [("a0", "up")]
    assert spent[0].energy_j > 0.0
    site.restart(0)
    assert site.client.wait_ready(timeout_s=PATIENCE_S)
    assert site.step() == {"a0", "a2"}
    assert list(site.ledger.rows(SelectionRow))[-1].excluded == ""


def test_a_helper_that_hangs_is_replaced_and_returns(site: Site) -> None:
    site.strike(2, signal.SIGSTOP)
    began_s = time.monotonic()
    assert site.step() == {"a0", "a3"}
    assert time.monotonic() - began_s < DEADLINE_S / 4
    assert site.fleet[2].state is AgentState.WEDGED
    assert site.step() == {"a0", "a3"}
    assert [row.agent for row in site.ledger.rows(FaultRow)] == ["a2"]
    site.strike(2, signal.SIGCONT)
    assert site.client.wait_ready(timeout_s=PATIENCE_S)
    assert site.step() == {"a0", "a2"}


@pytest.fixture(scope="module")
def testbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, list[Any]]]:
    """A testbed file and its two agents."""
    folder = tmp_path_factory.mktemp("testbed")
    build_model("mixtral", vocab_size=2048).save_pretrained(folder / "model")
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, folder / "model")
    bundle = folder / "bundle"
    assert (
        main(["prepare", str(folder / "model"), "--out", str(bundle), "--calibration", "none"]) == 0
    )
    starting = [
        spawn(AgentConfig(bundle=str(bundle), name=f"a{n}", experts=experts, threads=1))
        for n, experts in enumerate(("*:0-1", "*:2-3"))
    ]
    try:
        agents = [agent.wait() for agent in starting]
        entries = "".join(
            f'[[agent]]\nname = "a{n}"\naddress = "{a.endpoint}"\nexperts = "{e}"\n'
            for n, (a, e) in enumerate(zip(agents, ("*:0-1", "*:2-3"), strict=True))
        )
        path = folder / "testbed.toml"
        path.write_text(
            f'[model]\nbundle = "{bundle}"\n[policy]\nname = "topk"\n'
            f"[radio]\ndeadline_s = 0.01\n{entries}"
        )
        yield path, agents
    finally:
        stop_all([agent.process for agent in starting])


def wait_until(condition: Callable[[], Any]) -> None:
    end_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def siftmoe(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "siftmoe.tools.cli", "run", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_killed_coordinator_leaves_its_agents_and_its_run_goes_on(
    testbed: tuple[Path, list[Any]], tmp_path: Path
) -> None:
    path, agents = testbed
    out = tmp_path / "out"
    job = ["--task", "perplexity", "--items", "60", "--batch", "1", "--tokens", "2"]
    first = siftmoe(str(path), *job, "--policy", "topk-1,topk", "--out", str(out))

    def in_the_second() -> bool:
        assert first.poll() is None, first.communicate()
        with contextlib.suppress(LedgerError), Ledger.open(out / "ledger.sqlite") as ledger:
            run = ledger.labels().get("topk")
            return run is not None and ledger.summary(run).steps >= 3
        return False

    try:
        wait_until(in_the_second)
    finally:
        first.kill()
        first.communicate()
    assert all(psutil.pid_exists(agent.process.pid) for agent in agents)
    kept = json.loads((out / "scores.json").read_text())
    assert list(kept) == ["topk-1"]

    again = siftmoe("--resume", str(out), "--json")
    text, err = again.communicate(timeout=PATIENCE_S)
    assert again.returncode == 0, err
    results = {result["policy"]: result for result in json.loads(text)["results"]}
    assert list(results) == ["topk-1", "topk"]
    assert results["topk-1"]["metrics"] == kept["topk-1"]["metrics"]
    assert (results["topk-1"]["attempts"], results["topk"]["attempts"]) == (0, 1)
    assert results["topk"]["num_tokens"] == results["topk-1"]["num_tokens"]
    assert "1 earlier attempt interrupted after" in " ".join(
        (out / "report.html").read_text().split()
    )


def test_a_testbed_that_changed_is_not_resumed(
    testbed: tuple[Path, list[Any]], tmp_path: Path, capsys: Any
) -> None:
    path = tmp_path / "testbed.toml"
    text = testbed[0].read_text()
    path.write_text(text)
    out = tmp_path / "out"
    small = ["--task", "perplexity", "--items", "1", "--tokens", "1", "--out", str(out)]
    assert main(["run", str(path), *small, "--policy", "topk"]) == 0
    path.write_text(text.replace("deadline_s = 0.01", "deadline_s = 0.02"))
    capsys.readouterr()
    assert main(["run", "--resume", str(out)]) == 1
    assert "radio is not what" in capsys.readouterr().err
    assert main(["run", "--resume", str(out), "--policy", "topk-1"]) == 1
    assert "so no --policy" in capsys.readouterr().err

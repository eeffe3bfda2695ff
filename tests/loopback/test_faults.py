"""Helpers that are killed, stopped and started again under a run, and a run that is killed itself.

Real agents, real sockets; every output is compared with the undivided layer's.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import pytest
from bundles import reference, shape_of, write_bundle
from families import build_model

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.launch import launch, spawn, stop_all
from siftmoe.coordinator.airtime import AirInterface
from siftmoe.coordinator.client import Client
from siftmoe.coordinator.config import AgentEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.dispatch import Dispatcher
from siftmoe.coordinator.errors import LedgerError
from siftmoe.coordinator.fleet import AgentState, Fleet
from siftmoe.coordinator.layer_tables import unknown_tables
from siftmoe.coordinator.ledger import FaultRow, Ledger, SelectionRow, StepRow, TransmissionRow
from siftmoe.coordinator.links import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection import Budget, BudgetKind
from siftmoe.models.manifest import Manifest
from siftmoe.models.tiny import checkpoint_dir
from siftmoe.tools.cli import main

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from siftmoe.agent.launch import LaunchedAgent

pytestmark = pytest.mark.timeout(300)

SHAPE = shape_of(num_layers=2, num_experts=4)
#: Agents 0 and 1 host the same experts, and so do 2 and 3; 0 and 2 are nearer.
EXPERTS = ["*:0-1", "*:0-1", "*:2-3", "*:2-3"]
GAINS = [4e-8, 1e-8, 3e-8, 2e-8]
ROUTED = np.array([[0, 2], [1, 3], [0, 1], [2, 3], [3, 0]])
GATES = np.tile([0.6, 0.4], (5, 1))
HIDDEN = np.random.default_rng(0).standard_normal((5, SHAPE.hidden_size)).astype(np.float32)
#: Far beyond what anything here may take, and half of it what a hanging layer would.
DEADLINE_S = 120.0
PATIENCE_S = 60.0


class Site:
    """Four agents and a coordinator on them."""

    def __init__(self, bundle: Path, ledger: Ledger, stack: contextlib.ExitStack) -> None:
        self._bundle, self.ledger = bundle, ledger
        self.agents: list[LaunchedAgent] = []
        stack.callback(self._end)
        for n in range(4):
            self.agents.append(launch(self._config(n, "tcp://127.0.0.1:*")))
        manifest = Manifest.load(bundle)
        entries = [AgentEntry(name=f"a{n}", address=a.endpoint) for n, a in enumerate(self.agents)]
        self.fleet = Fleet(entries, shape=SHAPE, model_hash=manifest.model_hash)
        self.client = stack.enter_context(Client(self.fleet))
        self.client.connect(timeout_s=PATIENCE_S)
        budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)
        self.coordinator = Coordinator(
            fleet=self.fleet,
            dispatcher=Dispatcher(self.client, deadline_s=DEADLINE_S),
            links=FixedLinks(gain=GAINS, noise_psd=4e-21, bandwidth_hz=2e6),
            air=AirInterface(
                payload_bits=256,
                token_deadline_s=2e-4,
                tx_power_limit_w=1.0,
                width=32,
                reply_width=32,
            ),
            policy=make_policy("topk"),
            tables=unknown_tables(2, 4, budget=budget, width=32),
            ledger=ledger,
        )

    def _config(self, n: int, bind: str) -> AgentConfig:
        return AgentConfig(
            bundle=str(self._bundle),
            name=f"a{n}",
            bind=bind,
            experts=EXPERTS[n],
            provider="cpu",
            threads=1,
        )

    def restart(self, n: int) -> None:
        self.agents[n].stop()
        self.agents[n] = launch(self._config(n, self.agents[n].endpoint))

    def strike(self, n: int, which: signal.Signals) -> None:
        os.kill(self.agents[n].process.pid, which)

    def _end(self) -> None:
        for agent in self.agents:
            with contextlib.suppress(ProcessLookupError):
                agent.process.send_signal(signal.SIGCONT)
        stop_all([agent.process for agent in self.agents])

    def step(self) -> set[str]:
        """Serve both layers, compare them with the undivided ones; returns who was used."""
        self.coordinator.begin_step(tokens=len(HIDDEN), prefill=True)
        for layer in range(2):
            output = self.coordinator.run_layer(
                layer, HIDDEN, routed_experts=ROUTED, gate_weights=GATES
            )
            np.testing.assert_allclose(output, whole(layer), rtol=1e-3, atol=1e-4)
        self.coordinator.end_step(failed=False)
        last = list(self.ledger.rows(StepRow))[-1].step
        bursts = self.ledger.rows(TransmissionRow)
        return {row.agent for row in bursts if row.step == last and not row.missed}


def whole(layer: int) -> NDArray[np.float64]:
    """Output of the undivided layer."""
    experts = np.stack([reference(SHAPE, layer, e, HIDDEN.astype(float)) for e in range(4)])
    chosen = experts[ROUTED, np.arange(5)[:, None]]  # [T, K, d]
    return np.asarray((GATES[..., None] * chosen).sum(axis=1))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    bundle = write_bundle(tmp_path / "bundle", SHAPE)
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(Ledger.create(tmp_path / "ledger.sqlite"))
        yield Site(bundle, ledger, stack)


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
    assert main(["prepare", str(folder / "model"), "--out", str(bundle)]) == 0
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
    assert "1 earlier attempts were broken off after" in " ".join(
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

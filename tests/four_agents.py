"""Four real agents, every expert on two of them, and a coordinator whose outputs are checked."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bundles import reference, shape_of, weights_of, write_bundle
from liars import Liar

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch, stop_all
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.client.security import ClientSecurity
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.dispatch.reference import BundleExperts
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.ledger.store import Ledger, StepRow, TransmissionRow
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import unknown_tables
from siftmoe.models.bundle.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bad_links import BadLinks
    from numpy.typing import NDArray

    from siftmoe.agent.process.launch import LaunchedAgent
    from siftmoe.coordinator.client.health.heat import Heats

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

    def __init__(
        self,
        bundle: Path,
        ledger: Ledger,
        stack: contextlib.ExitStack,
        *,
        heats: Heats | None = None,
        deadline_s: float = DEADLINE_S,
        links: BadLinks | None = None,
        liar: str | None = None,
        reference: bool = False,
        honest: int = 2,
        agents: list[LaunchedAgent] | None = None,
    ) -> None:
        self.bundle, self.ledger, self.links = bundle, ledger, links
        self.agents: list[LaunchedAgent] = agents or []
        if agents is None:
            stack.callback(self._end)
            for n in range(4):
                self.agents.append(self._start(n, f"tcp://{self._address(n)}:*"))
        manifest = Manifest.load(bundle)
        entries = [AgentEntry(name=f"a{n}", address=a.endpoint) for n, a in enumerate(self.agents)]
        gains = list(GAINS)
        if liar is not None:  # agent 4, the nearest one
            mine = [(layer, expert) for layer in range(2) for expert in (0, 1)]
            self.liar = Liar(manifest, mine, liar, weights=weights_of, honest=honest)
            stack.callback(self.liar.close)
            entries.append(AgentEntry(name="liar", address=self.liar.address))
            gains.append(2.0 * max(GAINS))
        self.fleet = Fleet(entries, shape=SHAPE, model_hash=manifest.model_hash)
        security = ClientSecurity(insecure=links is not None)
        self.client = stack.enter_context(Client(self.fleet, security=security, heats=heats))
        self.client.connect(timeout_s=PATIENCE_S)
        budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)
        self.coordinator = Coordinator(
            fleet=self.fleet,
            dispatcher=Dispatcher(
                self.client,
                deadline_s=deadline_s,
                reference=BundleExperts.of(manifest) if reference else None,
            ),
            links=FixedLinks(gain=gains, noise_psd=4e-21, bandwidth_hz=2e6),
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
            bundle=str(self.bundle),
            name=f"a{n}",
            bind=bind,
            experts=EXPERTS[n],
            provider="cpu",
            threads=1,
            idle_s=0.0,
            sysfs=str(self.sysfs(n)),
            insecure=self.links is not None,
        )

    def _address(self, n: int) -> str:
        """Agent 0 is behind a link if there are any."""
        return self.links.addresses[0] if self.links is not None and n == 0 else "127.0.0.1"

    def _start(self, n: int, bind: str) -> LaunchedAgent:
        if self.links is not None and n == 0:
            return self.links.inside(lambda: launch(self._config(n, bind)))
        return launch(self._config(n, bind))

    def sysfs(self, n: int) -> Path:
        """Where an agent looks for its board's sensors; there are none unless a test puts some."""
        return self.bundle.parent / f"sys-{n}"

    def restart(self, n: int) -> None:
        """Start an agent again at its address."""
        self.agents[n].stop()
        self.agents[n] = self._start(n, self.agents[n].endpoint)

    def strike(self, n: int, which: signal.Signals) -> None:
        """Send an agent's process a signal; one that stops it has stopped all its threads then."""
        pid = self.agents[n].process.pid
        os.kill(pid, which)
        end_s = time.monotonic() + PATIENCE_S
        while which == signal.SIGSTOP and not _stopped(pid):
            # The kernel stops the other threads when the first one to run takes the signal.
            assert time.monotonic() < end_s, f"process {pid} goes on after SIGSTOP"
            time.sleep(1e-3)

    def _end(self) -> None:
        for agent in self.agents:
            with contextlib.suppress(ProcessLookupError):
                agent.process.send_signal(signal.SIGCONT)
        stop_all([agent.process for agent in self.agents])

    def serve(self) -> list[NDArray[np.float32]]:
        """Serve both layers; returns their outputs."""
        self.coordinator.begin_step(tokens=len(HIDDEN), prefill=True)
        outputs = [
            self.coordinator.run_layer(layer, HIDDEN, routed_experts=ROUTED, gate_weights=GATES)
            for layer in range(2)
        ]
        self.coordinator.end_step(failed=False)
        return outputs

    def step(self) -> set[str]:
        """Serve both layers, compare them with the undivided ones; returns who was used."""
        for layer, output in enumerate(self.serve()):
            np.testing.assert_allclose(output, whole(layer), rtol=1e-3, atol=1e-4)
        last = list(self.ledger.rows(StepRow))[-1].step
        bursts = self.ledger.rows(TransmissionRow)
        return {row.agent for row in bursts if row.step == last and not row.missed}


def _stopped(pid: int) -> bool:
    """Whether every thread of a process is stopped."""
    states = [
        file.read_text().rpartition(")")[2].split()[0]
        for file in Path(f"/proc/{pid}/task").glob("*/stat")
    ]
    return set(states) == {"T"}


def whole(layer: int) -> NDArray[np.float64]:
    """Output of the undivided layer."""
    experts = np.stack([reference(SHAPE, layer, e, HIDDEN.astype(float)) for e in range(4)])
    chosen = experts[ROUTED, np.arange(5)[:, None]]  # [T, K, d]
    return np.asarray((GATES[..., None] * chosen).sum(axis=1))


@contextlib.contextmanager
def four_agents(folder: Path, *, running: Site | None = None, **options: Any) -> Iterator[Site]:
    """Start them, with a ledger in this folder; they end with the block.

    With those of a site that is ``running`` only the coordinator is new.
    """
    if running is None:
        bundle = write_bundle(folder / "bundle", SHAPE)
    else:
        bundle, options["agents"] = running.bundle, running.agents
    with contextlib.ExitStack() as stack:
        ledger = stack.enter_context(Ledger.create(folder / "ledger.sqlite"))
        yield Site(bundle, ledger, stack, **options)

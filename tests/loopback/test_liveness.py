"""Agents that die, stop, return and dawdle, as a coordinator sees them: real processes, sockets.

How fast each is noticed is measured in benchmarks/coordinator/liveness.py; here a wait has only to
be far shorter than the deadline that a hanging client would sit out.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bundles import reference, shape_of, write_bundle
from patience import scaled_s

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import launch
from siftmoe.agent.wire.protocol import Apply, Result
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.errors import AgentUnreachable, DeadlineMissed
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.coordinator.selection.problem import SelectionPlan, Status
from siftmoe.models.bundle.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from siftmoe.agent.process.launch import LaunchedAgent

#: Large enough that `MANY` rows take one core about a second, and few are quick.
SHAPE = shape_of(num_layers=1, num_experts=2, hidden_size=512, intermediate_size=2048)
MANY = 8192
SOON_S = scaled_s(20.0)
DEADLINE_S = 3 * SOON_S


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("bundle") / "slow", SHAPE)


def start(bundle: Path, *, bind: str = "tcp://127.0.0.1:*", experts: str = "*:*") -> LaunchedAgent:
    config = AgentConfig(bundle=str(bundle), bind=bind, experts=experts, provider="cpu", threads=1)
    return launch(config)


@contextlib.contextmanager
def running(bundle: Path, *binds: str) -> Iterator[list[LaunchedAgent]]:
    agents: list[LaunchedAgent] = []
    try:
        for bind in binds:
            agents.append(start(bundle, bind=bind))  # noqa: PERF401  stopped even if one fails
        yield agents
    finally:
        for agent in agents:
            agent.process.send_signal(signal.SIGCONT)
            agent.stop()


@contextlib.contextmanager
def client_of(bundle: Path, agents: list[LaunchedAgent]) -> Iterator[Client]:
    manifest = Manifest.load(bundle)
    entries = [AgentEntry(name=f"a{n}", address=a.endpoint) for n, a in enumerate(agents)]
    fleet = Fleet(entries, shape=manifest.shape, model_hash=manifest.model_hash)
    with Client(fleet) as client:
        client.connect(timeout_s=SOON_S)
        yield client


TCP = "tcp://127.0.0.1:*"


@pytest.fixture
def binds(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    if request.param == "tcp":
        return [TCP, TCP]
    return [f"ipc://{tmp_path}/{name}" for name in "ab"]


def request_of(client: Client, rows: int) -> Apply:
    hidden = np.random.default_rng(rows).standard_normal((rows, 512)).astype(np.float32)
    pairs = np.stack((np.arange(rows), np.zeros(rows)), axis=1).astype(np.int32)
    return Apply(
        id=client.next_id(), layer=0, hidden=hidden, pairs=pairs, weights=np.ones(rows, np.float32)
    )


def assert_right(reply: Any, request: Apply) -> None:
    assert isinstance(reply, Result)
    wanted = reference(SHAPE, 0, 0, request.hidden.astype(np.float64))
    np.testing.assert_allclose(reply.output, wanted, rtol=1e-3, atol=1e-4)


def wait_until_dead(client: Client, index: int) -> None:
    end_s = time.monotonic() + SOON_S
    while client.fleet[index].state is not AgentState.DEAD:
        assert time.monotonic() < end_s
        client.poll()
        time.sleep(0.01)


def ask(client: Client, index: int) -> None:
    request = request_of(client, 2)
    done = client.exchange({index: request}, deadline_s=DEADLINE_S)
    assert_right(done.require()[index], request)


@pytest.mark.parametrize("binds", ["tcp", "ipc"], indirect=True)
def test_an_agent_killed_in_the_middle_of_a_request_is_named_and_the_others_answer(
    bundle: Path, binds: list[str]
) -> None:
    with running(bundle, *binds) as agents, client_of(bundle, agents) as client:

        def kill() -> None:
            time.sleep(0.1)  # the computation has begun
            agents[1].process.kill()

        quick = request_of(client, 2)
        requests = {0: quick, 1: request_of(client, MANY)}
        began = time.monotonic()
        done = client.exchange(requests, deadline_s=DEADLINE_S, meanwhile=kill)
        assert time.monotonic() - began < SOON_S
        assert_right(done.replies[0], quick)
        # On a busy machine a killed process takes longer to close its connections and its port than
        # the coordinator waits to classify it, and looks wedged until then.
        with pytest.raises(AgentUnreachable, match=r"agent 'a1' .* is (dead|wedged): "):
            done.require()
        wait_until_dead(client, 1)
        assert "the process is gone" in client.fleet[1].reason
        assert client.fleet.ready().tolist() == [True, False]
        assert not client.fleet.hosts(0)[1].any()
        ask(client, 0)


def test_a_stopped_agent_is_wedged_and_comes_back_when_it_goes_on(bundle: Path) -> None:
    with running(bundle, TCP, TCP) as agents, client_of(bundle, agents) as client:

        def stop() -> None:
            time.sleep(0.1)
            os.kill(agents[1].process.pid, signal.SIGSTOP)

        began = time.monotonic()
        done = client.exchange({1: request_of(client, MANY)}, deadline_s=DEADLINE_S, meanwhile=stop)
        assert time.monotonic() - began < SOON_S
        with pytest.raises(AgentUnreachable, match=r"agent 'a1' .* is wedged: no sign of life"):
            done.require()
        assert client.fleet.excluded().startswith("a1: wedged: no sign of life")
        ask(client, 0)
        os.kill(agents[1].process.pid, signal.SIGCONT)
        assert client.wait_ready(timeout_s=SOON_S)
        ask(client, 1)


def test_an_agent_that_restarts_under_its_address_is_ready_again(bundle: Path) -> None:
    with running(bundle, TCP) as agents, client_of(bundle, agents) as client:
        endpoint = agents[0].endpoint
        agents[0].process.kill()
        agents[0].process.wait()
        dead = client.exchange({0: request_of(client, 2)}, deadline_s=DEADLINE_S)
        assert isinstance(dead.failures[0], AgentUnreachable)
        agents.append(start(bundle, bind=endpoint))
        assert client.wait_ready(timeout_s=SOON_S)
        ask(client, 0)


def test_an_agent_that_returns_with_another_model_is_refused(bundle: Path, tmp_path: Path) -> None:
    other = write_bundle(tmp_path / "other", shape_of())
    with running(bundle, TCP) as agents, client_of(bundle, agents) as client:
        endpoint = agents[0].endpoint
        agents[0].stop()
        agents.append(start(other, bind=endpoint))
        assert not client.wait_ready(timeout_s=SOON_S)
        assert client.fleet[0].state is AgentState.REFUSED
        hashes = [Manifest.load(folder).model_hash[:12] for folder in (other, bundle)]
        assert f"serves model {hashes[0]}…, this testbed's is {hashes[1]}…" in (
            client.fleet[0].reason
        )


def test_an_agent_that_was_stopped_in_order_is_known_to_be_gone(bundle: Path) -> None:
    with running(bundle, TCP) as agents, client_of(bundle, agents) as client:
        agents[0].stop()
        began = time.monotonic()
        done = client.exchange({0: request_of(client, 2)}, deadline_s=DEADLINE_S)
        assert time.monotonic() - began < SOON_S
        assert isinstance(done.failures[0], AgentUnreachable)


def test_a_slow_agent_misses_the_deadline_and_serves_the_next_request(bundle: Path) -> None:
    with running(bundle, TCP, TCP) as agents, client_of(bundle, agents) as client:
        quick = request_of(client, 2)
        done = client.exchange({0: quick, 1: request_of(client, MANY)}, deadline_s=0.2)
        assert_right(done.replies[0], quick)
        assert isinstance(done.failures[1], DeadlineMissed)
        with pytest.raises(DeadlineMissed, match=r"agent 'a1' .* no answer within 200 ms"):
            done.require()
        assert client.fleet[1].state is AgentState.READY
        ask(client, 1)
        assert client.discarded == 1


def test_a_plan_runs_on_real_agents_and_equals_the_experts_in_one_place(bundle: Path) -> None:
    rng = np.random.default_rng(5)
    hidden = rng.standard_normal((6, 512)).astype(np.float32)
    expert = np.tile([0, 1], (6, 1))
    plan = SelectionPlan(
        helper=rng.integers(0, 2, size=(6, 2)),
        expert=expert,
        weight=rng.random((6, 2)),
        width=np.full((6, 2), 32),
        status=Status.OPTIMAL,
        energy_j=0.0,
        lower_bound_j=0.0,
        deviation=np.zeros(6),
    )
    with running(bundle, TCP, TCP) as agents, client_of(bundle, agents) as client:
        result = Dispatcher(client, deadline_s=DEADLINE_S).run(plan, hidden, layer=0)
    experts = np.stack([reference(SHAPE, 0, e, hidden.astype(np.float64)) for e in range(2)])
    wanted = np.einsum("tk,ktd->td", plan.weight, experts)
    np.testing.assert_allclose(result.output, wanted, rtol=1e-3, atol=1e-4)
    assert all(0.0 < t.compute_s <= t.round_trip_s for t in result.timings)

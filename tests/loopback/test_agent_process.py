"""Start and end of an agent's process: addresses, bundles, signals, parents that are killed."""

import contextlib
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest
from agent_process import (
    PATIENCE_S,
    SHAPE,
    SLOW,
    agent_on,
    ask,
    assert_serves,
    client,
    config,
    request,
)
from bundles import reference, write_bundle

from siftmoe.agent.process.launch import AgentFailedToStart, launch, spawn
from siftmoe.agent.wire import protocol


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


@pytest.fixture(scope="module")
def slow_folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "slow", SLOW)


def ends(process):
    """Whether a process ends in time."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(process).wait(PATIENCE_S)
    return not psutil.pid_exists(process)


def test_a_local_path_as_address(folder, tmp_path):
    path = tmp_path / "agent"
    with agent_on(folder, bind=f"ipc://{path}") as agent:
        assert agent.endpoint == f"ipc://{path}"
        assert_serves(agent.endpoint)
        assert agent.stop() == 0
    assert not path.exists()


def failure_of(config):
    with pytest.raises(AgentFailedToStart) as caught:
        launch(config)
    assert "Traceback" not in str(caught.value)
    return str(caught.value)


def test_an_address_in_use_is_named(folder):
    with agent_on(folder) as agent:
        text = failure_of(config(folder, bind=agent.endpoint, name="second"))
    assert f"agent 'second' ended with 1: address '{agent.endpoint}' is in use" in text


def test_an_open_address_is_refused(folder):
    assert "pass --insecure" in failure_of(config(folder, bind="tcp://0.0.0.0:*"))


def test_a_file_that_changed_is_named(tmp_path):
    folder = write_bundle(tmp_path / "bundle", SHAPE)
    path = folder / "experts/layer_001_expert_002.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert "expert 2 of layer 1 has sha256" in failure_of(config(folder))
    path.unlink()
    assert "expert 2 of layer 1 is missing" in failure_of(config(folder))
    with agent_on(folder, experts="0:*") as agent:
        assert_serves(agent.endpoint)


def test_what_is_no_bundle_is_named(tmp_path):
    assert "no manifest.json" in failure_of(config(tmp_path))


def test_experts_that_the_model_does_not_have_are_named(folder):
    assert "'0:3' is not of this model: it has 3 experts" in failure_of(
        config(folder, experts="0:3")
    )


def test_a_provider_with_a_wrong_result_is_refused(tmp_path):
    folder = write_bundle(tmp_path / "bundle", SHAPE, golden_error=0.01)
    assert "no provider works: cpu: expert 0 of layer 0: golden output is off by" in failure_of(
        config(folder)
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(folder, number):
    agent = launch(config(folder))
    agent.process.send_signal(number)
    assert agent.process.wait(PATIENCE_S) == 0
    agent.stop()


def test_a_signal_ends_it_during_a_computation(slow_folder):
    with agent_on(slow_folder) as agent, client(agent.endpoint) as dealer:
        rows = 49_152  # seconds of computation, an end takes at most half of one
        message = request(1, [(row, 0) for row in range(rows)], rows=rows, width=512)
        dealer.send_multipart(protocol.encode(message))
        assert ask(dealer, protocol.Hello(id=2)).name == "agent"
        agent.process.send_signal(signal.SIGTERM)
        assert agent.process.wait(PATIENCE_S) == 0
        assert not dealer.poll(0)  # it was not waited for


def test_hello_does_not_wait_for_a_computation(slow_folder):
    with agent_on(slow_folder) as agent, client(agent.endpoint) as dealer:
        rows = 2_048
        message = request(1, [(row, 0) for row in range(rows)], rows=rows, width=512)
        dealer.send_multipart(protocol.encode(message))
        assert ask(dealer, protocol.Hello(id=2)).id == 2
        reply = protocol.decode(dealer.recv_multipart())
    output = reference(SLOW, 0, 0, message.hidden.astype(np.float64))
    np.testing.assert_allclose(reply.output, message.weights[:, None] * output, atol=1e-4)


def test_a_killed_parent_leaves_no_agent(folder):
    """The parent cannot end it, and no signal reaches the agent from a terminal."""
    code = (
        "import sys, time; from siftmoe.agent.config import AgentConfig\n"
        "from siftmoe.agent.process.launch import launch\n"
        "agent = launch(AgentConfig(bundle=sys.argv[1], provider='cpu', threads=1))\n"
        "print(agent.process.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    with parent:
        process = int(parent.stdout.readline())
        assert psutil.pid_exists(process)
        parent.kill()
    assert ends(process)


def test_a_parent_killed_while_the_agent_starts_leaves_no_agent(folder):
    code = (
        "import os, sys; from siftmoe.agent.config import AgentConfig\n"
        "from siftmoe.agent.process.launch import spawn\n"
        "agent = spawn(AgentConfig(bundle=sys.argv[1], provider='cpu', threads=1))\n"
        "print(agent.process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
    with parent:
        process = int(parent.stdout.readline())
    assert ends(process)


def test_several_start_at_once(folder):
    starting = [spawn(config(folder, name=f"agent-{n}", experts=f"*:{n}")) for n in range(3)]
    agents = [one.wait() for one in starting]
    assert [a.started["name"] for a in agents] == ["agent-0", "agent-1", "agent-2"]
    assert len({a.endpoint for a in agents}) == 3
    assert [a.stop() for a in agents] == [0, 0, 0]

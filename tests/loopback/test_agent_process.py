"""An agent as a user gets it: a process of its own, real experts, a real socket."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys

import numpy as np
import psutil
import pytest
import zmq
from bundles import reference, shape_of, write_bundle

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.process.launch import AgentFailedToStart, launch, spawn
from siftmoe.agent.wire import protocol
from siftmoe.models.bundle.manifest import Manifest

SHAPE = shape_of()
#: Large enough that a run of many rows takes a while.
SLOW = shape_of(num_layers=1, num_experts=1, hidden_size=512, intermediate_size=2048)
PATIENCE_S = 30.0
BURST = protocol.Burst(
    carrier_hz=2.4e9, sample_rate_hz=2e6, tx_attenuation_db=10.0, rx_gain_db=30.0
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


@pytest.fixture(scope="module")
def slow_folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "slow", SLOW)


def config(folder, **options):
    return AgentConfig(bundle=str(folder), provider="cpu", threads=1, **options)


@contextlib.contextmanager
def agent_on(folder, **options):
    agent = launch(config(folder, **options))
    try:
        yield agent
    finally:
        agent.stop()


@pytest.fixture(scope="module")
def agent(folder):
    with agent_on(folder, name="board", experts="0:*,1:1") as agent:
        yield agent


@contextlib.contextmanager
def client(endpoint):
    with zmq.Context() as context, context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.rcvtimeo = int(PATIENCE_S * 1e3)
        dealer.connect(endpoint)
        yield dealer


def ask(dealer, message):
    dealer.send_multipart(protocol.encode(message))
    return protocol.decode(dealer.recv_multipart())


def request(number, pairs=((0, 0), (1, 2)), *, layer=0, rows=2, width=16, **options):
    hidden = np.random.default_rng(number).standard_normal((rows, width)).astype(np.float32)
    return protocol.Apply(
        id=number,
        layer=layer,
        hidden=hidden,
        pairs=np.array(pairs, np.int32),
        weights=np.linspace(0.5, 1.5, len(pairs), dtype=np.float32),
        **options,
    )


def wanted(message):
    total = np.zeros(message.hidden.shape)
    for (row, expert), weight in zip(message.pairs.tolist(), message.weights, strict=True):
        vector = message.hidden[row : row + 1].astype(np.float64)
        total[row] += weight * reference(SHAPE, message.layer, expert, vector)[0]
    return total


def assert_serves(endpoint):
    with client(endpoint) as dealer:
        message = request(77)
        np.testing.assert_allclose(ask(dealer, message).output, wanted(message), atol=1e-5)


def ends(process):
    """Whether a process ends within our patience."""
    with contextlib.suppress(psutil.NoSuchProcess):
        psutil.Process(process).wait(PATIENCE_S)
    return not psutil.pid_exists(process)


def test_it_says_what_it_is(agent, folder):
    model_hash = Manifest.load(folder).model_hash
    residents = ((0, 0), (0, 1), (0, 2), (1, 1))
    with client(agent.endpoint) as dealer:
        reply = ask(dealer, protocol.Hello(id=2**64 - 1))
    assert (reply.id, reply.name, reply.model_hash) == (2**64 - 1, "board", model_hash)
    assert reply.residents == residents
    assert reply.provider == "CPUExecutionProvider"
    assert reply.hidden_size == 16
    assert agent.started["residents"] == [list(pair) for pair in residents]
    assert agent.started["memory_bytes"] == reply.memory_bytes


def test_it_computes_what_numpy_computes(agent):
    with client(agent.endpoint) as dealer:
        for pairs in ([(0, 0)], [(0, 0), (1, 2), (0, 1)], [(row, 1) for row in range(300)]):
            message = request(len(pairs), pairs, rows=300)
            reply = ask(dealer, message)
            np.testing.assert_allclose(reply.output, wanted(message), atol=1e-5)
        message = request(9, [(0, 1)], layer=1)
        np.testing.assert_allclose(ask(dealer, message).output, wanted(message), atol=1e-5)


def test_it_counts(agent):
    with client(agent.endpoint) as dealer:
        before = ask(dealer, protocol.Stats(id=1)).counters
        ask(dealer, request(2, rows=5))
        after = ask(dealer, protocol.Stats(id=3)).counters
    assert after["served"] - before.get("served", 0) == 1
    assert after["rows"] - before.get("rows", 0) == 5
    assert after["memory_bytes"] > 1e6


@pytest.mark.parametrize(
    ("message", "code", "text"),
    [
        (request(1, [(0, 0)], layer=1), ErrorCode.EXPERT_NOT_RESIDENT, "expert 0 of layer 1"),
        (request(1, width=17), ErrorCode.SHAPE_MISMATCH, "17, the model served has 16"),
        (request(1, deadline_s=0.0), ErrorCode.DEADLINE_EXCEEDED, "deadline was 0.0 ms"),
        (request(1, [(2, 0)]), ErrorCode.PROTOCOL, "0 <= row < 2"),
        (
            protocol.Sound(id=1, role="listen", burst=BURST),
            ErrorCode.NOT_SUPPORTED,
            "no radio",
        ),
    ],
)
def test_what_cannot_be_served_is_answered(agent, message, code, text):
    with client(agent.endpoint) as dealer:
        reply = ask(dealer, message)
    assert (reply.id, reply.code) == (1, code)
    assert text in reply.message
    assert_serves(agent.endpoint)


def test_a_wrong_shape_on_the_wire_is_answered(agent):
    frames = protocol.encode(request(5))
    with client(agent.endpoint) as dealer:
        dealer.send_multipart([frames[0], frames[1][:-4], *frames[2:]])
        reply = protocol.decode(dealer.recv_multipart())
    assert (reply.id, reply.code) == (5, ErrorCode.PROTOCOL)
    assert "the frame has 124" in reply.message
    assert_serves(agent.endpoint)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n",
        b"\xff" * 4096,
        # ZeroMQ's greeting, then a frame that claims 2**62 bytes
        b"\xff" + bytes(8) + b"\x7f\x03\x00NULL" + bytes(48) + b"\x02" + b"\x40" + bytes(7),
        b"",
    ],
)
def test_foreign_bytes_on_the_port_change_nothing(agent, sent):
    host, port = agent.endpoint.removeprefix("tcp://").split(":")
    for _ in range(3):
        with socket.create_connection((host, int(port))) as foreign:
            foreign.sendall(sent)
    assert_serves(agent.endpoint)


def test_a_frame_beyond_the_limit_is_not_received(agent):
    """The connection is closed on it; the memory for it is never taken."""
    before = psutil.Process(agent.process.pid).memory_info().rss
    with client(agent.endpoint) as dealer:
        dealer.send(bytes(protocol.MAX_FRAME_BYTES + 1))
        assert not dealer.poll(300)
    assert psutil.Process(agent.process.pid).memory_info().rss - before < 64 << 20
    assert_serves(agent.endpoint)


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


def test_an_address_in_use_is_named(agent, folder):
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
    """The parent gets no chance to end it, and no signal reaches the agent from a terminal."""
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


def run_module(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("module", [["siftmoe.agent"], ["siftmoe.tools.cli", "agent"]])
def test_the_command_for_people(folder, module):
    with run_module(*module, "--bundle", str(folder), "--experts", "0:1") as process:
        lines = []
        while not (lines and lines[-1].startswith("listening on ")):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        assert_answers(lines[-1].removeprefix("listening on ").strip())
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE_S) == 0
        assert process.stderr.read() == ""
    assert "1 experts of" in lines[0]
    assert "computes the golden output" in lines[1]


def assert_answers(endpoint):
    with client(endpoint) as dealer:
        assert ask(dealer, protocol.Hello(id=1)).residents == ((0, 1),)


def test_the_command_for_machines(folder):
    with run_module("siftmoe.agent", "--bundle", str(folder), "--json") as process:
        started = json.loads(process.stdout.readline())
        assert started["endpoint"].startswith("tcp://127.0.0.1:")
        assert started["pid"] == process.pid
        process.terminate()
        assert process.stdout.read() == ""


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        ([], 2, "--bundle"),
        (["--bundle", os.devnull], 1, "error: bundle '/dev/null'"),
        (["--bundle", "x", "--threads", "-1"], 1, "error: agent: Expected `int` >= 0"),
        (["--bundle", "x", "--provider", "npu"], 1, "error: provider 'npu' is not known"),
    ],
)
def test_wrong_usage_is_one_line(options, status, text):
    with run_module("siftmoe.agent", *options) as process:
        assert process.wait(PATIENCE_S) == status
        said = process.stderr.read()
    assert text in said
    assert "Traceback" not in said

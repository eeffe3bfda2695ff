"""The agent's command line: what it prints, its exit status, wrong usage in one line."""

import json
import os
import signal
import subprocess
import sys

import pytest
from agent_process import (
    PATIENCE_S,
    SHAPE,
    ask,
    client,
)
from bundles import write_bundle

from siftmoe.agent.wire import protocol


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "plain", SHAPE)


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

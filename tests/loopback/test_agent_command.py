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


MISSING = """
import runpy, sys
sys.modules[sys.argv.pop(1)] = None  # importing it raises ModuleNotFoundError
sys.argv[0] = "siftmoe"
runpy.run_module("siftmoe.agent", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("module", "options", "extra"),
    [
        ("onnxruntime", [], "siftmoe[cpu]"),
        ("numba", ["--packing=compiled"], "siftmoe[fast]"),
        ("prometheus_client", ["--metrics-port=0"], "siftmoe[metrics]"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(folder, module, options, extra):
    command = [sys.executable, "-c", MISSING, module, "--bundle", str(folder), "--idle-s=0"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 1
    assert f"pip install '{extra}'" in done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_without_numba_vectors_are_packed_by_numpy(folder):
    command = [sys.executable, "-c", MISSING, "numba", "--bundle", str(folder), "--idle-s=0"]
    done = subprocess.run([*command, "--check"], capture_output=True, text=True, timeout=PATIENCE_S)
    assert (done.returncode, done.stderr) == (0, "")
    assert "vectors are packed by numpy" in done.stdout


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

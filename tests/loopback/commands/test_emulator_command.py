"""The command `siftmoe radio emulate`."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys

import pytest

AIR = """
seed = 5
[[device]]
name = "user"
serial = "1044user"
address = "127.0.1.77"
[[device]]
name = "helper"
ppm = 3.0
[[link]]
between = ["user", "helper"]
distance_m = 5.0
"""
COMMAND = (sys.executable, "-m", "siftmoe.tools.cli", "radio", "emulate")


def _start(*options: str) -> subprocess.Popen[str]:
    return subprocess.Popen([*COMMAND, *options], stdout=subprocess.PIPE, text=True)


def _stop(process: subprocess.Popen[str]) -> int:
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    return process.returncode


def test_it_serves_a_file_and_ends_on_interrupt(tmp_path):
    path = tmp_path / "air.toml"
    path.write_text(AIR)
    process = _start("--config", str(path), "--port", "0", "--json")
    assert process.stdout is not None
    started = json.loads(process.stdout.readline())
    assert started["names"] == ["user", "helper"]
    assert started["serials"][0] == "1044user"
    host, port = started["uris"][0].split(":")[1:]
    assert host == "127.0.1.77"
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(b"READ ad9361-phy OUTPUT TX_LO powerdown\r\n")
        assert connection.recv(100) == b"2\n0\0\n"
    control = ("127.0.0.1", started["control_port"])
    with socket.create_connection(control, timeout=20) as connection:
        connection.sendall(b'{"do": "gain", "transmitter": "user", "receiver": "helper"}\n')
        gain = json.loads(connection.makefile().readline())["result"]
    assert gain == pytest.approx(7.9e-7, rel=0.01)
    assert _stop(process) == 0


def test_it_prints_where_to_find_them():
    process = _start("--devices", "2", "--port", "0")
    assert process.stdout is not None
    first = process.stdout.readline()
    assert first.startswith("ip:127.0.1.1:")
    assert "pluto-0" in first
    assert _stop(process) == 0


@pytest.mark.parametrize(
    ("options", "status", "complaint"),
    [
        (["--devices", "0"], 1, "from 1 to 64"),
        (["--config", "no-such-file"], 1, "no-such-file"),
        (["--config", "x", "--devices", "3"], 2, "not allowed"),
        (["--config", "x", "--gain", "-3"], 1, "gain_db"),
        (["--port", "70000"], 2, "70000"),
    ],
)
def test_a_mistake_is_one_line(options, status, complaint):
    done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, check=False)
    assert done.returncode == status
    assert complaint in done.stderr
    assert "Traceback" not in done.stderr

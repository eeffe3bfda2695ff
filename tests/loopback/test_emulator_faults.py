"""Faults of emulated Plutos: cut, frozen, unplugged, malformed input, client killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import numpy as np
import pytest

from siftmoe.radio.emulator.config import default_air
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.radio.errors import RadioError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

VERSION = b"0.24.v0.24  \n"
TX = b"cf-ad9361-dds-core-lpc"


@pytest.fixture(scope="module")
def plutos() -> Iterator[EmulatedPlutos]:
    with EmulatedPlutos(2) as running:
        yield running


class Client:
    """A raw connection."""

    def __init__(self, uri: str, timeout_s: float = 20.0) -> None:
        _, host, port = uri.split(":")
        self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)

    def ask(self, command: bytes, size: int = 1 << 16) -> bytes:
        self.socket.sendall(command)
        return self.socket.recv(size)

    def transmit(self) -> None:
        samples = np.full(64, 8000, "<i2").tobytes()
        assert self.ask(b"OPEN %s 32 00000003 CYCLIC\r\n" % TX) == b"0\n"
        assert self.ask(b"WRITEBUF %s %d\r\n" % (TX, len(samples))) == b"0\n"
        assert self.ask(samples) == b"%d\n" % len(samples)

    def close(self) -> None:
        self.socket.close()


def _eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30.0
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_cut_connection_ends_and_stops_the_transmission(plutos):
    client, other = Client(plutos.uris[0]), Client(plutos.uris[1])
    client.transmit()
    assert plutos.transmitting() == ["pluto-0"]
    plutos.drop("pluto-0")
    assert client.socket.recv(1) == b""
    _eventually(lambda: plutos.transmitting() == [])
    assert other.ask(b"VERSION\r\n") == VERSION
    fresh = Client(plutos.uris[0])
    assert fresh.ask(b"VERSION\r\n") == VERSION
    for connection in (client, other, fresh):
        connection.close()


def test_a_frozen_device_goes_on_transmitting_and_answers_late(plutos):
    client = Client(plutos.uris[0], timeout_s=0.2)
    client.transmit()
    plutos.freeze("pluto-0")
    assert plutos.state()["pluto-0"]["frozen"]
    with pytest.raises(TimeoutError):
        client.ask(b"VERSION\r\n")
    assert plutos.transmitting() == ["pluto-0"]
    plutos.thaw("pluto-0")
    client.socket.settimeout(20.0)
    assert client.socket.recv(100) == VERSION
    client.close()
    _eventually(lambda: plutos.transmitting() == [])


def test_an_unplugged_device_is_gone_and_comes_back_as_new(plutos):
    client = Client(plutos.uris[1])
    client.transmit()
    client.ask(b"WRITE ad9361-phy OUTPUT TX_LO frequency 9\r\n900000000")
    plutos.unplug("pluto-1")
    assert client.socket.recv(1) == b""
    assert plutos.transmitting() == []
    with pytest.raises(ConnectionRefusedError):
        Client(plutos.uris[1])
    plutos.plug("pluto-1")
    fresh = Client(plutos.uris[1])
    reply = fresh.ask(b"READ ad9361-phy OUTPUT TX_LO frequency\r\n")
    assert reply == b"11\n2450000000\0\n"
    client.close()
    fresh.close()


def test_a_client_that_vanishes_while_it_waits_is_noticed(plutos):
    client = Client(plutos.uris[0])
    # two seconds of samples
    client.socket.sendall(
        b"OPEN cf-ad9361-lpc 4000000 00000003\r\nREADBUF cf-ad9361-lpc 16000000\r\n"
    )
    client.close()
    again = Client(plutos.uris[0])
    assert again.ask(b"VERSION\r\n") == VERSION
    again.close()


def test_rubbish_and_many_connections_hurt_nobody(plutos):
    rng = np.random.default_rng(1)
    well = Client(plutos.uris[0])
    clients = []
    for _ in range(40):
        client = Client(plutos.uris[0])
        with suppress(OSError):  # one too many, turned away
            client.socket.sendall(rng.bytes(3000) + b"\r\nWRITE ad9361-phy x 999999999\r\n")
        clients.append(client)
    assert well.ask(b"VERSION\r\n") == VERSION
    for client in [*clients, well]:
        client.close()
    assert plutos.transmitting() == []


KILLED = """
import sys, time
import adi
import numpy as np
radio = adi.Pluto(sys.argv[1])
radio.tx_cyclic_buffer = True
radio.tx(np.full(1000, 8000 + 0j))
print("on", flush=True)
time.sleep(600)
"""


def test_nothing_radiates_after_its_client_was_killed(plutos):
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, plutos.uris[0]], stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"on\n"
    assert plutos.transmitting() == ["pluto-0"]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    _eventually(lambda: plutos.transmitting() == [])


def test_the_emulator_ends_with_its_parent():
    code = (
        "import os, sys\n"
        "from siftmoe.radio.emulator.launch import EmulatedPlutos\n"
        "plutos = EmulatedPlutos(1)\n"
        "plutos.start()\n"
        "print(plutos._process.pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    pid = int(done.stdout)

    def gone() -> bool:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rsplit(b")", 1)[1].split()[0] == b"Z"

    _eventually(gone)


def test_what_goes_wrong_at_the_start_is_told(capfd):
    with EmulatedPlutos(1) as first:
        port = int(first.uris[0].rsplit(":", 1)[1])
        with pytest.raises(RadioError, match="did not start"):
            EmulatedPlutos(1, port=port).start()
        with pytest.raises(RadioError, match="no device 'pluto-7'"):
            first.drop("pluto-7")
    assert f"127.0.1.1:{port}: Address already in use" in capfd.readouterr().err
    with pytest.raises(RadioError, match="not started"):
        first.transmitting()


def test_links_are_changed_while_it_runs():
    with EmulatedPlutos(default_air(2, gain_db=-65.0)) as plutos:
        pair = plutos.names
        assert plutos.gain(*pair) == pytest.approx(10**-6.5)
        plutos.set_gain(*pair, -80.0)
        assert plutos.gain(*reversed(pair)) == pytest.approx(1e-8)
        plutos.set_link(between=pair, gain_db=-70.0, fading="block", coherence_time_s=0.001)
        _eventually(lambda: plutos.gain(*pair) != plutos.gain(*pair))

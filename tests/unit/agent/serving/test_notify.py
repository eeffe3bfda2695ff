"""Status messages to a supervisor, over a real datagram socket."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace

import pytest
from bundles import shape_of, write_bundle
from limits import no_free_descriptor

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.command import start
from siftmoe.agent.serving.notify import Supervisor

PATIENCE_S = 20.0


@pytest.fixture(params=["path", "abstract"])
def ear(request, tmp_path):
    address = f"{tmp_path}/notify" if request.param == "path" else f"\0siftmoe-{tmp_path}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address)
        listener.settimeout(PATIENCE_S)
        yield SimpleNamespace(hear=lambda: listener.recv(4096), address=address.replace("\0", "@"))


def test_a_supervisor_is_told_of_start_and_end(ear):
    supervisor = Supervisor({"NOTIFY_SOCKET": ear.address})
    assert supervisor.interval_s is None
    supervisor.ready("serves 3 experts")
    assert ear.hear() == b"READY=1\nSTATUS=serves 3 experts"
    with no_free_descriptor():
        supervisor.stopping()
    assert ear.hear() == b"STOPPING=1"
    supervisor.close()


def test_without_one_nothing_is_sent():
    supervisor = Supervisor({"WATCHDOG_USEC": "1000000"})
    assert supervisor.interval_s is None
    supervisor.ready("x")


def test_signs_of_life_end_when_nobody_listens_any_more(ear, tmp_path):
    bundle = write_bundle(tmp_path / "bundle", shape_of())
    server, *_ = start(AgentConfig(bundle=str(bundle), threads=1, idle_s=0.0))
    supervisor = Supervisor({"NOTIFY_SOCKET": ear.address, "WATCHDOG_USEC": "60000"})
    assert supervisor.interval_s == pytest.approx(0.02)
    thread = threading.Thread(target=server.run, args=(supervisor,))
    thread.start()
    try:
        for _ in range(3):
            assert ear.hear() == b"WATCHDOG=1"
        with server._router._lock:  # the loop is stuck
            assert told_again(ear, supervisor, most=2) is False
        assert ear.hear() == b"WATCHDOG=1"
    finally:
        server.stop()
        thread.join(PATIENCE_S)
        supervisor.close()


def told_again(ear, supervisor, *, most):
    """Whether more watchdog messages are sent than those that were in flight."""
    import time

    for _ in range(most):
        time.sleep(3 * supervisor.interval_s)
    supervisor._tell("MARK")
    heard = []
    while not heard or heard[-1] != b"MARK":
        heard.append(ear.hear())
    return len(heard) - 1 > most

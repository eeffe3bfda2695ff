"""The supervisor of boards without systemd: real processes that crash, hang, fall silent."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from siftmoe.tools.flashing.onboard.releases import Board, BoardError
from siftmoe.tools.flashing.onboard.supervisor import hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

PATIENCE_S = 60.0

#: An agent as far as a supervisor sees it; what it does is in its release.
AGENT = """
import os, pathlib, socket, sys, time
release = pathlib.Path(sys.argv[1], "current")
does = (release / "does").read_text()
if does == "crash":
    sys.exit("boom")
if does == "hang":
    time.sleep(600)
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as teller:
    teller.connect(os.environ["NOTIFY_SOCKET"])
    teller.send(b"READY=1")
    if does == "fall silent":
        time.sleep(600)
    while True:
        teller.send(b"WATCHDOG=1")
        time.sleep(0.05)
"""

SUPERVISOR = """
import sys
from pathlib import Path
from siftmoe.tools.flashing.onboard.releases import Board
from siftmoe.tools.flashing.onboard.supervisor import Supervisor
root, agent = sys.argv[1:]
board = Board(Path(root))
command = [sys.executable, "-S", "-c", agent, root]
Supervisor(board, command=command, start_s=2.0, watchdog_s=2.0, restart_s=0.05).run()
"""


class Bench:
    def __init__(self, root: Path) -> None:
        self.board = Board(root)
        self.board.prepare(signers="nobody", service={"kind": "supervisor"})
        self.process: subprocess.Popen[bytes] | None = None

    def release(self, name: str, does: str, *, proven: bool = False) -> None:
        folder = self.board.releases / name
        folder.mkdir()
        (folder / "does").write_text(does)
        (folder / "tested.json").write_text("{}")
        if proven:
            (folder / "proven").touch()

    def start(self, current: str, previous: str | None = None) -> None:
        self.board.point("current", current)
        if previous:
            self.board.point("previous", previous)
        command = [sys.executable, "-c", SUPERVISOR, str(self.board.root), AGENT]
        self.process = subprocess.Popen(command)

    def state(self) -> dict[str, Any]:
        path = self.board.run / "state.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def wait(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        end_s = time.monotonic() + PATIENCE_S
        while not condition(state := self.state()):
            assert time.monotonic() < end_s, state
            time.sleep(0.01)
        return state

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(PATIENCE_S) == 0


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path / "root")
    yield bench
    bench.stop()


@pytest.mark.parametrize("fault", ["crash", "hang", "fall silent"])
def test_a_new_release_that_fails_is_left_for_the_one_before(bench: Bench, fault: str) -> None:
    bench.release("old", "serve", proven=True)
    bench.release("new", fault)
    bench.start("new", previous="old")
    bench.wait(lambda state: (state.get("release"), state.get("state")) == ("old", "ready"))
    assert bench.board.target("current") == "old"
    assert bench.board.target("previous") is None  # it never answered


def test_a_release_that_answered_once_stays_however_often_it_fails(bench: Bench) -> None:
    bench.release("old", "serve", proven=True)
    bench.release("new", "crash", proven=True)
    bench.start("new", previous="old")
    state = bench.wait(lambda state: state.get("failures", 0) >= 5)
    assert state["release"] == bench.board.target("current") == "new"
    assert "ended with 1: boom" in state["reason"]


def test_whoever_flashes_now_is_not_interfered_with(bench: Bench) -> None:
    bench.release("old", "serve", proven=True)
    bench.release("new", "crash")
    with bench.board.locked():
        bench.start("new", previous="old")
        bench.wait(lambda state: state.get("failures", 0) >= 5)
        assert bench.board.target("current") == "new"
        with pytest.raises(BoardError, match="somebody else is flashing"), bench.board.locked():
            pass
    bench.wait(lambda state: (state.get("release"), state.get("state")) == ("old", "ready"))


def test_a_hangup_starts_what_is_current_then(bench: Bench) -> None:
    bench.release("a", "serve", proven=True)
    bench.release("b", "serve", proven=True)
    bench.start("a")
    bench.wait(lambda state: state.get("state") == "ready")
    bench.board.point("current", "b")
    (bench.board.run / "asked").write_text("token")
    assert bench.process is not None
    bench.process.send_signal(signal.SIGHUP)
    state = bench.wait(lambda state: state["asked"] == "token" and state["state"] == "ready")
    assert state["release"] == "b"
    bench.process.terminate()
    assert bench.process.wait(PATIENCE_S) == 0
    assert bench.state()["state"] == "stopped"


def test_there_is_one_supervisor(tmp_path: Path) -> None:
    held = hold(tmp_path / "lock")
    assert held is not None
    assert hold(tmp_path / "lock") is None

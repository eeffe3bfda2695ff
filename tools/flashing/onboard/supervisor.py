"""Supervisor: keeps an agent running without systemd, with restart, watchdog and rollback.

It uses sd_notify(3) with the agent as systemd does, so that the agent needs no special case. It
does not start at boot: a board that must serve after a reboot needs systemd.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from siftmoe.tools.flashing.onboard.releases import Board

#: Consecutive failures after which a release that never answered is rolled back.
FAILURES: Final = 3
RESTART_S: Final = 1.0
STOP_S: Final = 5.0
_LOG_BYTES: Final = 10_000_000


class Supervisor:
    """One agent with its restarts, watchdog and rollback.

    Parameters
    ----------
    board : Board
    command : list of str
        Command that starts the agent of the current release.
    start_s, watchdog_s : float, s
        Time limits of the start and between two watchdog messages.
    restart_s : float, s
        Pause before a failed agent is started again.
    """

    def __init__(
        self,
        board: Board,
        *,
        command: list[str],
        start_s: float,
        watchdog_s: float,
        restart_s: float = RESTART_S,
    ) -> None:
        self._board, self._command = board, command
        self._restart_s = restart_s
        self._start_s, self._watchdog_s = start_s, watchdog_s
        self._asked = self._ending = False
        self._failures = 0
        self._token = ""  # token of the request for this start
        self._address = board.run / "notify"
        self._wake_out, self._wake_in = os.pipe()
        for end in (self._wake_out, self._wake_in):
            os.set_blocking(end, False)

    def run(self) -> None:
        """Run until SIGTERM; SIGHUP restarts the agent with the current release."""
        signal.set_wakeup_fd(self._wake_in, warn_on_full_buffer=False)
        signal.signal(signal.SIGHUP, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        self._address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.bind(str(self._address))
            ear.setblocking(False)
            while not self._ending:
                self._asked = False
                problem = self._serve(ear)
                if not self._asked and not self._ending:
                    self._failed(problem)
                    self._pause(self._restart_s)
        self._tell("stopped", "")

    def _on_signal(self, number: int, _frame: object) -> None:
        self._asked = True
        self._failures = 0
        self._ending = self._ending or number == signal.SIGTERM

    def _serve(self, ear: socket.socket) -> str:
        """Run the agent until it ends, misses its watchdog or a restart is requested."""
        self._token = read(self._board.run / "asked")
        self._tell("starting", "")
        process = self._start()
        try:
            return self._watch(process, ear)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()
            process.wait()

    def _watch(self, process: subprocess.Popen[bytes], ear: socket.socket) -> str:
        until_s, ready = time.monotonic() + self._start_s, False
        while not self._asked:
            left_s = until_s - time.monotonic()
            if left_s <= 0.0:
                silent = f"gave no sign of life for {self._watchdog_s:g} s"
                return silent if ready else f"did not serve within {self._start_s:g} s"
            select.select([ear.fileno(), self._wake_out], [], [], min(left_s, 0.1))
            if process.poll() is not None:
                return f"ended with {process.returncode}: {self.last_words()}"
            self._drain()
            for line in self._heard(ear):
                if line == "READY=1" and not ready:
                    ready = True
                    self._tell("ready", "")
                if line in ("READY=1", "WATCHDOG=1"):
                    until_s = time.monotonic() + (self._watchdog_s if ready else self._start_s)
        return ""

    def _heard(self, ear: socket.socket) -> list[str]:
        try:
            return ear.recv(4096).decode("utf-8", "replace").splitlines()
        except BlockingIOError:
            return []

    def _start(self) -> subprocess.Popen[bytes]:
        log = self._board.run / "agent.log"
        if log.exists() and log.stat().st_size > _LOG_BYTES:
            os.replace(log, log.with_suffix(".log.1"))
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(self._address),
            "WATCHDOG_USEC": str(int(self._watchdog_s * 1e6)),
        }
        with log.open("ab") as out:
            return subprocess.Popen(
                self._command, env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def last_words(self) -> str:
        """Return the last line of the agent's log."""
        with contextlib.suppress(OSError, IndexError):
            text = (self._board.run / "agent.log").read_bytes()[-2_000:]
            return text.decode("utf-8", "replace").strip().splitlines()[-1]
        return ""

    def _failed(self, problem: str) -> None:
        self._failures += 1
        self._tell("failing", problem)
        if self._failures < FAILURES or self._board.may_stay():
            return
        # A workstation that is flashing now rolls back by itself.
        with contextlib.suppress(Exception), self._board.locked():
            release = self._board.change_back()
            self._failures = 0
            self._tell("failing", f"{problem}; went back to {release}")

    def _pause(self, seconds: float) -> None:
        if not self._asked:
            select.select([self._wake_out], [], [], seconds)
        self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._wake_out, 512):
                pass

    def _tell(self, state: str, reason: str) -> None:
        """Write the state, with the token of the last request."""
        write_state(
            self._board.run,
            state=state,
            reason=reason,
            release=self._board.target("current"),
            failures=self._failures,
            asked=self._token,
        )


def write_state(run: Path, **state: Any) -> None:
    """Replace the state file atomically."""
    part = run / "state.json.part"
    part.write_text(json.dumps(state))
    os.replace(part, run / "state.json")


def read(path: Path) -> str:
    """Return the text of a file, empty if there is none."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text()
    return ""


def hold(path: Path) -> int | None:
    """Lock a file for the life of this process; None if another process holds the lock."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())
    return descriptor

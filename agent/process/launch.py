"""Start of an agent as a child process on this machine, and the wait until it serves."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from siftmoe.agent.errors import AgentError
from siftmoe.agent.process.patience import Patience

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.agent.config import AgentConfig

#: Time for an agent to end before it is killed; an idle one ends in a quarter of a second, and an
#: interrupted run waits this long at most, unless the machine is busy.
_STOP_S: Final = 1.0
#: Time between the end of an agent's output and the end of its process.
_LAST_S: Final = 1.0
_KEPT_CHARACTERS: Final = 2_000


class AgentFailedToStart(AgentError):
    """A started agent ended or did not serve in time; the message has its stderr."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchedAgent:
    """A running agent: its process and the JSON object that it printed when it was ready."""

    process: subprocess.Popen[bytes]
    endpoint: str
    started: dict[str, Any]

    def stop(self) -> int:
        """Terminate it, kill it if it does not end in time, and return its exit status."""
        return stop_all([self.process])[0]


def launch(config: AgentConfig, *, timeout_s: float = 60.0) -> LaunchedAgent:
    """Start an agent that ends when this process ends, and wait until it serves.

    To start several at once, call :func:`spawn` for each and then :meth:`Spawned.wait`.

    Raises
    ------
    AgentFailedToStart
        If it ends or does not serve in time.
    """
    return spawn(config).wait(timeout_s=timeout_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawned:
    """An agent that is starting."""

    name: str
    process: subprocess.Popen[bytes]
    said: IO[bytes]

    def wait(self, *, timeout_s: float = 60.0) -> LaunchedAgent:
        """Wait until it serves; raises as :func:`launch` does."""
        line = self._first_line(timeout_s)
        try:
            started = json.loads(line)
        except ValueError:
            started = None
        if started is None:
            raise self._failed(timeout_s)
        self.said.close()
        return LaunchedAgent(process=self.process, endpoint=started["endpoint"], started=started)

    def _first_line(self, timeout_s: float) -> bytes:
        stdout, line = self.process.stdout, b""
        if stdout is None:
            raise AgentFailedToStart(f"agent {self.name!r}: its output is not read")
        limit = Patience(self.process.pid, timeout_s)
        while not line.endswith(b"\n"):
            if not select.select([stdout], [], [], limit.left_s())[0]:
                if limit.left_s():  # it has waited for a processor meanwhile
                    continue
                break
            piece = os.read(stdout.fileno(), 1 << 16)
            if not piece:
                break
            line += piece
        return line

    def _failed(self, timeout_s: float) -> AgentFailedToStart:
        _wait(
            self.process, Patience(self.process.pid, _LAST_S)
        )  # its output ends a moment before the process does
        status = self.process.poll()
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.said.seek(0)
        text = self.said.read().decode("utf-8", "replace").strip()[-_KEPT_CHARACTERS:]
        self.said.close()
        how = f"did not serve within {timeout_s:g} s" if status is None else f"ended with {status}"
        return AgentFailedToStart(f"agent {self.name!r} {how}: {text.removeprefix('error: ')}")


def stop_all(processes: Sequence[subprocess.Popen[bytes]]) -> list[int]:
    """Terminate processes together, kill those that do not end in time, return exit statuses."""
    for process in processes:
        process.terminate()
    limits = [Patience(process.pid, _STOP_S) for process in processes]
    statuses = []
    for process, limit in zip(processes, limits, strict=True):
        _wait(process, limit)
        if process.returncode is None:
            process.kill()
        statuses.append(process.wait())
        if process.stdout is not None:
            process.stdout.close()
    return statuses


def _wait(process: subprocess.Popen[bytes], limit: Patience) -> None:
    """Wait for the end of a process, within the limit."""
    while process.poll() is None and limit.left_s():
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(limit.left_s())


def spawn(config: AgentConfig) -> Spawned:
    """Start an agent that ends when this process ends, and return at once."""
    # A session of its own: an interrupt from the terminal goes to the parent process only, which
    # then ends the agents in order.
    said = tempfile.TemporaryFile()  # noqa: SIM115  closed by Spawned.wait
    command = [sys.executable, "-m", "siftmoe.agent", "--json", f"--parent-pid={os.getpid()}"]
    process = subprocess.Popen(
        [*command, *config.arguments()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=said,
        start_new_session=True,
    )
    return Spawned(name=config.name, process=process, said=said)

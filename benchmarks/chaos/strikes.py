"""Strikes at the agents of `benchmarks.chaos`: kinds, random times, and repair."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import msgspec
import numpy as np

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import AgentFailedToStart, launch, spawn
from siftmoe.agent.security.keys import KeyPair
from tests.bad_links import GOOD, Link

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from siftmoe.agent.process.launch import LaunchedAgent, Spawned
    from tests.bad_links import BadLinks

Value = TypeVar("Value")

#: Mean time between strikes, and how many agents may be away at a time.
PAUSE_S: Final = 0.8
AWAY: Final = 3
#: What is done to a process, and to a link.
PROCESS: Final = ("kill", "restart", "stop", "stall", "garbage")
LINKS: Final = {
    "loss 30 %": Link(loss=0.3),
    "delay": Link(delay_s=0.02, jitter_s=0.01),
    "cut": Link(loss=1.0),
}
KINDS: Final = (*PROCESS, *LINKS)
GARBAGE: Final = (
    os.urandom(4096),
    b"GET / HTTP/1.1\r\nHost: agent\r\n\r\n",
    bytes.fromhex("16030100c8010000c40303") + os.urandom(193),
    b"\xff\x00\x00\x00\x00\x00\x00\x00\x01\x7f\x03\x01NULL" + os.urandom(48),
)


class Board:
    """One agent's process and its link, with the strikes at them.

    Parameters
    ----------
    config : AgentConfig
    links : BadLinks or None
        If given, the agent is behind one of them.
    host : int
        Which.
    """

    def __init__(
        self, config: AgentConfig, *, links: BadLinks | None = None, host: int = 0
    ) -> None:
        self.config = config
        self.away = False
        self._links, self._host = links, host
        self._starting: Spawned | None = None
        self._agent: LaunchedAgent | None = None

    @property
    def linked(self) -> bool:
        """Whether the agent is behind a link that can be disturbed."""
        return self._links is not None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of strikes that are possible."""
        return KINDS if self.linked else PROCESS

    @property
    def agent(self) -> LaunchedAgent:
        """The agent's process."""
        if self._agent is None:
            raise RuntimeError(f"{self.config.name} was not started")
        return self._agent

    @property
    def started(self) -> bool:
        """Whether the agent has ever served."""
        return self._agent is not None

    def begin(self) -> None:
        """Start the agent; `ready` waits for it."""
        self._starting = self._there(lambda: spawn(self.config))

    def ready(self) -> None:
        """Wait until the agent serves; it then keeps its port."""
        if self._starting is None:
            raise RuntimeError(f"{self.config.name} was not started")
        self._agent = self._starting.wait()
        self.config = msgspec.structs.replace(self.config, bind=self._agent.endpoint)

    def again(self) -> None:
        """Start the agent on its old port."""
        self.agent.stop()
        for _ in range(5):
            with contextlib.suppress(AgentFailedToStart):
                self._agent = self._there(lambda: launch(self.config))
                return
        raise RuntimeError(f"{self.config.name} does not start again")

    def _there(self, start: Callable[[], Value]) -> Value:
        return start() if self._links is None else self._links.inside(start)

    def signal(self, which: signal.Signals) -> None:
        """Send the process a signal."""
        os.kill(self.agent.process.pid, which)

    def link(self, link: Link) -> None:
        """Change the link."""
        if self._links is not None:
            self._links.set(self._host, link)

    def garbage(self, data: bytes) -> None:
        """Send bytes to the port that are no message."""
        host, _, port = self.agent.endpoint.removeprefix("tcp://").rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1.0) as to:
            to.settimeout(0.2)
            to.sendall(data)
            to.recv(256)


@dataclass(frozen=True, slots=True)
class Strike:
    """One strike: when it began and when its cause ended."""

    began_s: float
    kind: str
    board: int
    over_s: float


class Chaos(threading.Thread):
    """Strikes boards at random times until it is stopped, and then repairs them all."""

    def __init__(self, boards: list[Board], seed: int) -> None:
        super().__init__(daemon=True)
        self._boards, self._rng = boards, np.random.default_rng(seed)
        self._over, self._calm = threading.Event(), threading.Lock()
        self._mending: list[threading.Thread] = []
        self.strikes: list[Strike] = []
        #: Agents that ended by themselves.
        self.aborted = 0

    def run(self) -> None:
        """Strike."""
        while not self._over.wait(self._rng.exponential(PAUSE_S)):
            well = [n for n, board in enumerate(self._boards) if not board.away]
            if len(well) > len(self._boards) - AWAY:
                n = int(self._rng.choice(well))
                with self._calm:
                    self._strike(str(self._rng.choice(self._boards[n].kinds)), n)

    @contextlib.contextmanager
    def calm(self) -> Iterator[None]:
        """Wait until all boards are repaired, and strike none while the block runs."""
        with self._calm:
            while any(board.away for board in self._boards):
                time.sleep(0.05)
            yield

    def end(self) -> None:
        """Stop striking, and wait until all agents are ready."""
        self._over.set()
        self.join()
        for thread in self._mending:
            thread.join()
        self.aborted += sum(b.agent.process.poll() is not None for b in self._boards)

    def _strike(self, kind: str, n: int) -> None:
        board, pause_s = self._boards[n], self._rng.uniform(0.5, 3.0)
        garbage = GARBAGE[self._rng.integers(len(GARBAGE))]
        board.away = True
        self.aborted += board.agent.process.poll() is not None
        began_s = time.monotonic()
        if kind == "kill":
            board.signal(signal.SIGKILL)
        elif kind == "restart":
            board.signal(signal.SIGTERM)
        elif kind in ("stop", "stall"):
            board.signal(signal.SIGSTOP)
            pause_s *= 0.07 if kind == "stall" else 1.0
        elif kind in LINKS:
            board.link(LINKS[kind])
        else:
            board.garbage(garbage)
            pause_s = 0.0
        thread = threading.Thread(target=self._mend, args=(began_s, kind, n, pause_s), daemon=True)
        thread.start()
        self._mending.append(thread)

    def _mend(self, began_s: float, kind: str, n: int, pause_s: float) -> None:
        board = self._boards[n]
        time.sleep(pause_s)
        if kind in ("kill", "restart"):
            board.again()
        elif kind in ("stop", "stall"):
            board.signal(signal.SIGCONT)
        elif kind in LINKS:
            board.link(GOOD)
        self.strikes.append(Strike(began_s, kind, n, time.monotonic()))
        board.away = False


def boards_of(
    bundle: Path, count: int, *, links: BadLinks | None, keys: Path
) -> tuple[list[Board], dict[str, KeyPair]]:
    """Make boards; number n hosts experts n and n + 1, and every second is behind a bad link.

    Agents behind links have keys, since a coordinator takes them for other machines.
    """
    mine = KeyPair.generate()
    pairs = {"coordinator": mine}
    (keys / "allowed").write_text(f"{mine.public} coordinator\n")
    boards = []
    for n in range(count):
        options = {"bundle": str(bundle), "name": f"a{n}", "provider": "cpu", "threads": 1}
        options |= {"experts": f"*:{n},*:{(n + 1) % count}", "idle_s": 0.0}
        if links is None or n % 2 == 0:
            boards.append(Board(AgentConfig.from_options(options)))
            continue
        pairs[f"a{n}"] = KeyPair.generate()
        pairs[f"a{n}"].save(keys / f"a{n}.key")
        options |= {"key": str(keys / f"a{n}.key"), "allow": str(keys / "allowed")}
        options |= {"bind": f"tcp://{links.addresses[n // 2]}:*"}
        boards.append(Board(AgentConfig.from_options(options), links=links, host=n // 2))
    return boards, pairs

"""Rollout of releases: one board first, then the others in batches; a failure stops it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from siftmoe.agent.errors import AgentError
from siftmoe.coordinator.errors import CoordinatorError
from siftmoe.models.errors import ModelError
from siftmoe.tools.flashing.building.wheels import Target
from siftmoe.tools.flashing.errors import BoardRefused, FlashError
from siftmoe.tools.flashing.health import ask, problem_with
from siftmoe.tools.flashing.link import missing, open_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.flashing.building.release import Release
    from siftmoe.tools.flashing.link import BoardLink
    from siftmoe.tools.flashing.site import Site

#: Time limit for an agent that is ready on its board to answer over the network.
HELLO_S: Final = 15.0
#: Clock differences above this mix up the order of logs; they are reported, not refused.
CLOCK_S: Final = 30.0
#: Disk space of installed wheels (unpacked and compiled) over that of the wheel files.
_UNPACKED: Final = 5

_FAILURES: Final = (FlashError, AgentError, CoordinatorError, ModelError, OSError, ValueError)


class Report(Protocol):
    """Receives the progress of boards."""

    def phase(self, board: str, text: str) -> None:
        """Receive the phase that a board is in."""

    def expect(self, board: str, num_bytes: int) -> None:
        """Receive the number of bytes that will be sent to a board."""

    def advance(self, board: str, num_bytes: int) -> None:
        """Receive a number of bytes that were sent to a board."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Result of a board.

    Parameters
    ----------
    board : str
    result : str
        "flashed", "unchanged", "planned", "failed" or "skipped".
    release, previous : str
        The release that serves now, or would serve, and the one before.
    files, num_bytes : int
        Sent, or to be sent.
    detail : str
        The proven provider, or the reason of a failure.
    wall_s : float, s
    """

    board: str
    result: str
    release: str = ""
    previous: str = ""
    files: int = 0
    num_bytes: int = 0
    detail: str = ""
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rollout:
    """Flashes boards of a site.

    Parameters
    ----------
    site : Site
    report : Report
    batch : int
        Boards at once, after the first.
    dry_run : bool
        Only report what would change; nothing is written on a board.
    adopt : bool
        Take over boards that accepted another workstation's releases before.
    forget : bool
        Remove the previous release once the new one answers.
    """

    site: Site
    report: Report
    batch: int = 4
    dry_run: bool = False
    adopt: bool = False
    forget: bool = False

    async def run(self, boards: Sequence[int]) -> list[Outcome]:
        """Flash the first board, then the others in batches; a failure skips the later batches."""
        outcomes: list[Outcome] = []
        rest = list(boards)
        size = len(rest) if self.dry_run else 1  # the first board goes alone (canary)
        while rest:
            batch, rest = rest[:size], rest[size:]
            outcomes += await asyncio.gather(*[self._guarded(index) for index in batch])
            size = self.batch
            if any(outcome.result == "failed" for outcome in outcomes):
                break
        skipped = [self.site.agent(index).name for index in rest]
        return [*outcomes, *[Outcome(board=name, result="skipped") for name in skipped]]

    async def _guarded(self, index: int) -> Outcome:
        name, start_s = self.site.agent(index).name, time.monotonic()
        try:
            outcome = await self._flash(index)
        except _FAILURES as error:
            outcome = Outcome(board=name, result="failed", detail=str(error))
        self.report.phase(name, outcome.result)
        wall_s = time.monotonic() - start_s
        return Outcome(**{**_fields(outcome), "wall_s": wall_s})

    async def _flash(self, index: int) -> Outcome:
        agent = self.site.agent(index)
        self.report.phase(agent.name, "log in")
        async with open_link(
            self.site.ssh(index),
            name=agent.name,
            root=self.site.testbed.flash.root,
            program=self.site.program,
            ssh_config=self.site.ssh_config,
        ) as link:
            facts, inventory = await link.call("preflight"), await link.call("inventory")
            facts["ahead_s"] = facts["time_s"] - time.time()
            target = Target(facts["python"], facts["machine"], facts["libc"])
            self.report.phase(agent.name, "build")
            release = await asyncio.to_thread(self.site.release, index, target)
            self._check(agent.name, facts, inventory, release)
            pieces = missing(release, inventory)
            outcome = Outcome(
                board=agent.name,
                result="planned",
                release=release.name,
                previous=inventory["current"] or "",
                files=len(pieces),
                num_bytes=sum(piece.num_bytes for piece in pieces.values()),
                detail="unchanged" if inventory["current"] == release.name else "would change",
            )
            if self.dry_run:
                return outcome
            if not facts["writable"]:
                await link.make_root()
            return await self._change(link, index, release, facts, inventory, outcome)

    def _check(
        self, name: str, facts: dict[str, Any], inventory: dict[str, Any], release: Release
    ) -> None:
        """Refuse a board that cannot take the release before anything is sent."""
        if facts["missing"]:
            raise BoardRefused(f"board {name!r}: {', '.join(facts['missing'])} is missing there")
        signers = inventory["signers"]
        if signers not in (None, self.site.signer().line) and not self.adopt:
            raise BoardRefused(
                f"board {name!r} takes releases of another workstation; --adopt changes that"
            )
        pieces = missing(release, inventory)
        wheels = sum(p.num_bytes for n, p in release.pieces.items() if n.startswith("wheels/"))
        needed = sum(piece.num_bytes for piece in pieces.values()) + _UNPACKED * wheels
        if pieces and needed > facts["free_bytes"]:
            raise BoardRefused(
                f"board {name!r}: {facts['free_bytes'] / 1e6:.0f} MB are free, the release needs "
                f"{needed / 1e6:.0f} MB; make room"
            )

    async def _change(
        self,
        link: BoardLink,
        index: int,
        release: Release,
        facts: dict[str, Any],
        inventory: dict[str, Any],
        outcome: Outcome,
    ) -> Outcome:
        name, flash = link.name, self.site.testbed.flash
        kind = flash.service
        if kind == "auto":
            kind = "systemd" if facts["systemd"] else "supervisor"
        service = {"kind": kind, "start_s": flash.start_s, "watchdog_s": flash.watchdog_s}
        prepared = {
            "signers": self.site.signer().line,
            "service": service,
            "adopt": self.adopt,
        }
        await link.call("prepare", json.dumps(prepared))
        self.report.phase(name, "push")
        self.report.expect(name, outcome.num_bytes)
        sent = await link.push(
            release, inventory, advance=lambda count: self.report.advance(name, count)
        )
        self.report.phase(name, "install, self-test")
        tested = await link.call("install", release.name)
        detail = f"{tested['experts']} experts on {tested['provider']}"
        if "packing" in tested:  # absent if an older siftmoe installed the release
            detail += f", {tested['packing']} packing"
        if "radio" in tested:
            detail += f"; {tested['radio']}"
        if abs(facts["ahead_s"]) > CLOCK_S:
            detail += f"; its clock is {facts['ahead_s']:+.0f} s off"
        if inventory["current"] == release.name and not await self._problem(index, release):
            result = "unchanged"
        else:
            await self._switch(link, index, release, before=inventory["current"])
            result = "flashed"
        await link.call("prove", release.name)
        if self.forget:
            await link.call("forget")
        fields = {"result": result, "num_bytes": sent, "detail": detail}
        return Outcome(**{**_fields(outcome), **fields})

    async def _switch(
        self, link: BoardLink, index: int, release: Release, *, before: str | None
    ) -> None:
        self.report.phase(link.name, "switch")
        await link.call("switch", release.name)
        self.report.phase(link.name, "hello")
        problem = await self._problem(index, release)
        if not problem:
            return
        if before in (None, release.name):
            raise BoardRefused(f"{problem}; there is no release to go back to")
        back = await link.call("rollback")
        raise BoardRefused(f"{problem}; release {back['current']} serves again")

    async def _problem(self, index: int, release: Release) -> str:
        status = await asyncio.to_thread(ask, self.site, index, timeout_s=HELLO_S)
        return problem_with(status, release.name)


def _fields(outcome: Outcome) -> dict[str, Any]:
    return {name: getattr(outcome, name) for name in Outcome.__slots__}

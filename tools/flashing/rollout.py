"""Rollout of releases: one board first, then the others in batches; a failure stops it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Protocol

from siftmoe.agent.errors import AgentError
from siftmoe.coordinator.errors import CoordinatorError
from siftmoe.models.errors import ModelError
from siftmoe.tools.flashing.building.wheels import Target
from siftmoe.tools.flashing.errors import BoardRefused, BoardUnreachable, FlashError
from siftmoe.tools.flashing.health import ask, problem_with
from siftmoe.tools.flashing.login import open_link
from siftmoe.tools.flashing.preflight import Preflight
from siftmoe.tools.flashing.push import missing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.flashing.building.release import Release
    from siftmoe.tools.flashing.link import BoardLink
    from siftmoe.tools.flashing.site import Site

#: Time limit for an agent that is ready on its board to answer over the network.
HELLO_S: Final = 15.0
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
    begun : bool
        Whether the board was changed, or its release could not be built; a failure then ends the
        rollout.
    """

    board: str
    result: str
    release: str = ""
    previous: str = ""
    files: int = 0
    num_bytes: int = 0
    detail: str = ""
    wall_s: float = 0.0
    begun: bool = False


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
    allow_downgrade : bool
        Install a release that is older than the newest one on the board.
    """

    site: Site
    report: Report
    batch: int = 4
    dry_run: bool = False
    adopt: bool = False
    forget: bool = False
    allow_downgrade: bool = False

    async def run(self, boards: Sequence[int]) -> list[Outcome]:
        """Flash the first board, then the others in batches.

        A release that fails on a board skips the later batches. A board that is off, or refuses
        before it was changed, does not: the next one goes alone then.
        """
        outcomes: list[Outcome] = []
        rest = list(boards)
        while rest:
            proven = any(outcome.result in ("flashed", "unchanged") for outcome in outcomes)
            size = len(rest) if self.dry_run else self.batch if proven else 1  # the canary
            batch, rest = rest[:size], rest[size:]
            outcomes += await asyncio.gather(*[self._guarded(index) for index in batch])
            if any(outcome.result == "failed" and outcome.begun for outcome in outcomes):
                break
        skipped = [self.site.agent(index).name for index in rest]
        return [*outcomes, *[Outcome(board=name, result="skipped") for name in skipped]]

    async def _guarded(self, index: int) -> Outcome:
        name, start_s = self.site.agent(index).name, time.monotonic()
        try:
            outcome = await self._flash(index)
        except _FAILURES as error:
            begun = not isinstance(error, (BoardUnreachable, BoardRefused))
            outcome = Outcome(board=name, result="failed", detail=str(error), begun=begun)
        self.report.phase(name, outcome.result)
        return replace(outcome, wall_s=time.monotonic() - start_s)

    async def _flash(self, index: int) -> Outcome:
        agent = self.site.agent(index)
        self.report.phase(agent.name, "log in")
        async with open_link(
            self.site.ssh(index),
            name=agent.name,
            root=self.site.testbed.flash.root,
            program=self.site.program,
            ssh_config=self.site.ssh_config,
            python=self.site.testbed.flash.python,
        ) as link:
            preflight = await self._preflight(link)
            preflight.check_access()
            facts, inventory = preflight.facts, preflight.inventory
            target = Target(facts["python"], facts["machine"], facts["libc"])
            self.report.phase(agent.name, "build")
            release = await asyncio.to_thread(self.site.release, index, target)
            preflight.check_release(
                release,
                signer=self.site.signer().line,
                adopt=self.adopt,
                allow_downgrade=self.allow_downgrade,
            )
            pieces = missing(release, inventory)
            change = "unchanged" if inventory["current"] == release.name else "would change"
            outcome = Outcome(
                board=agent.name,
                result="planned",
                release=release.name,
                previous=inventory["current"] or "",
                files=len(pieces),
                num_bytes=sum(piece.num_bytes for piece in pieces.values()),
                detail=f"{change}; {preflight.describe()}",
            )
            if self.dry_run:
                return outcome
            if not facts["writable"]:
                await link.make_root()
            try:
                return await self._change(link, index, release, preflight, outcome)
            except _FAILURES as error:
                return replace(outcome, result="failed", detail=str(error), begun=True)

    async def _preflight(self, link: BoardLink) -> Preflight:
        facts, inventory = await link.call("preflight"), await link.call("inventory")
        flash = self.site.testbed.flash
        return Preflight(
            name=link.name,
            root=flash.root,
            facts=facts,
            inventory=inventory,
            service=flash.service,
            ahead_s=facts["time_s"] - time.time(),
        )

    async def _change(
        self,
        link: BoardLink,
        index: int,
        release: Release,
        preflight: Preflight,
        outcome: Outcome,
    ) -> Outcome:
        name, inventory = link.name, preflight.inventory
        await link.call("prepare", json.dumps(self._prepared(preflight)))
        self.report.phase(name, "push")
        self.report.expect(name, outcome.num_bytes)
        sent = await link.push(
            release, inventory, advance=lambda count: self.report.advance(name, count)
        )
        self.report.phase(name, "install, self-test")
        tested = await link.call("install", release.name + " downgrade" * self.allow_downgrade)
        if inventory["current"] == release.name and not await self._problem(index, release):
            result = "unchanged"
        else:
            await self._switch(link, index, release, before=inventory["current"])
            result = "flashed"
        await link.call("prove", release.name)
        self.site.record(index, release)
        if self.forget:
            await link.call("forget")
        detail = _described(tested) + (f"; {preflight.clock}" if preflight.clock else "")
        return replace(outcome, result=result, num_bytes=sent, detail=detail, begun=True)

    def _prepared(self, preflight: Preflight) -> dict[str, Any]:
        flash = self.site.testbed.flash
        return {
            "signers": self.site.signer().line,
            "service": {
                "kind": preflight.kind,
                "start_s": flash.start_s,
                "watchdog_s": flash.watchdog_s,
            },
            "board": preflight.name,
            "adopt": self.adopt,
        }

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


def _described(tested: dict[str, Any]) -> str:
    """Describe the result of a self-test."""
    detail = f"{tested['experts']} experts on {tested['provider']}"
    if "packing" in tested:  # absent if an older siftmoe installed the release
        detail += f", {tested['packing']} packing"
    return detail + (f"; {tested['radio']}" if "radio" in tested else "")

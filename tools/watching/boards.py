"""Asks agents over the network and boards over SSH for their state, once."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from siftmoe.tools.flashing.errors import FlashError
from siftmoe.tools.watching.agents import watching

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.flashing.site import Site
    from siftmoe.tools.watching.agents import Row


def look_once(site: Site, chosen: Sequence[int], *, timeout_s: float) -> list[Row]:
    """Ask agents and, at the same time, the boards that have an SSH address.

    Parameters
    ----------
    site : Site
    chosen : sequence of int
        Agents by their place in the testbed file.
    timeout_s : float, s
        Wait for agents that do not answer.
    """
    return asyncio.run(_everything(site, chosen, timeout_s))


async def _everything(site: Site, chosen: Sequence[int], timeout_s: float) -> list[Row]:
    def look() -> list[Row]:
        with watching(site, chosen, timeout_s=timeout_s) as agents:
            return agents.look()

    boards = asyncio.gather(*[_board(site, index) for index in chosen])
    rows = await asyncio.to_thread(look)
    for row, board in zip(rows, await boards, strict=True):
        row["board"] = board
    return rows


async def _board(site: Site, index: int) -> dict[str, Any] | None:
    if site.agent(index).ssh is None:
        return None
    from siftmoe.tools.flashing.boards import command

    try:
        return await command(site, index, "status")
    except FlashError as error:
        return {"error": str(error)}

"""Sends one command to one board or several, each in its own SSH session."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from siftmoe.tools.flashing.errors import FlashError
from siftmoe.tools.flashing.login import open_link

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.flashing.site import Site


async def command(site: Site, index: int, name: str, argument: str = "") -> dict[str, Any]:
    """Send a command to an agent's board and return its answer; errors as in `BoardLink`."""
    async with open_link(
        site.ssh(index),
        name=site.agent(index).name,
        root=site.testbed.flash.root,
        program=site.program,
        ssh_config=site.ssh_config,
        python=site.testbed.flash.python,
    ) as link:
        return await link.call(name, argument)


def command_all(site: Site, names: Sequence[str], name: str) -> list[tuple[str, dict[str, Any]]]:
    """Send a command to several boards; returns each one's answer, or ``{"error": …}``."""

    async def one(index: int) -> tuple[str, dict[str, Any]]:
        try:
            return site.agent(index).name, await command(site, index, name)
        except FlashError as error:
            return site.agent(index).name, {"error": str(error)}

    async def every() -> list[tuple[str, dict[str, Any]]]:
        return await asyncio.gather(*[one(index) for index in site.boards(names)])

    return asyncio.run(every())

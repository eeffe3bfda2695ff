"""An SSH session to a board: commands of its program, and resumable transfers of files."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any, Final

import asyncssh

from siftmoe.tools.flashing.errors import BoardRefused, BoardUnreachable
from siftmoe.tools.flashing.push import missing, stream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from siftmoe.tools.flashing.building.release import Release

#: Characters of a board's output that an error keeps.
_KEPT: Final = 2_000


class BoardLink:
    """A session to one board.

    Parameters
    ----------
    connection : asyncssh.SSHClientConnection
    name : str
        The agent's name in the testbed.
    root : str
        The board's folder.
    program : str
        Path of the board's program on the board.
    python : str
    """

    def __init__(
        self,
        connection: asyncssh.SSHClientConnection,
        *,
        name: str,
        root: str,
        program: str,
        python: str,
    ) -> None:
        self._connection = connection
        self.name, self._root = name, root
        self._command = [python, program, "--root", root]

    async def call(self, command: str, argument: str = "") -> dict[str, Any]:
        """Send a command to the board's program and return its answer.

        Raises
        ------
        BoardRefused
            If the board refuses, with its reason.
        BoardUnreachable
            If the session breaks.
        """
        return self._answer(command, await self._run(self._line(command, argument)))

    def _line(self, command: str, argument: str) -> str:
        return posix(shlex.join([*self._command, command, *([argument] if argument else [])]))

    def _answer(self, command: str, done: asyncssh.SSHCompletedProcess) -> dict[str, Any]:
        """Return the last JSON object of an output; other lines are the user's shell's."""
        out, err = output_text(done.stdout), output_text(done.stderr)
        for line in reversed(out.splitlines()):
            try:
                said = json.loads(line)
            except ValueError:
                continue
            if isinstance(said, dict):
                if "error" in said:
                    raise BoardRefused(f"board {self.name!r}: {said['error']}")
                return said
        text = f"{err}{out}".strip()[-_KEPT:] or f"no answer, exit status {done.exit_status}"
        raise BoardRefused(f"board {self.name!r}: {command}: {text}")

    async def _run(self, line: str) -> asyncssh.SSHCompletedProcess:
        try:
            return await self._connection.run(line, stdin=asyncssh.DEVNULL, encoding=None)
        except (asyncssh.Error, OSError) as error:
            raise BoardUnreachable(
                f"board {self.name!r}: the session broke: {error}; run the command again, a "
                f"flash continues where it broke"
            ) from error

    async def make_root(self) -> None:
        """Make the board's folder with passwordless sudo, if the user may not."""
        quoted = shlex.quote(self._root)
        line = f"sudo -n install -d -m 0755 -o $(id -un) -g $(id -gn) {quoted}"
        done = await self._run(posix(line))
        if done.exit_status:
            reason = output_text(done.stderr).strip()
            raise BoardRefused(
                f"board {self.name!r}: {self._root} cannot be made: {reason}; log in as root, or "
                f"allow this user sudo without a password"
            )

    async def push(
        self,
        release: Release,
        inventory: Mapping[str, Any],
        *,
        advance: Callable[[int], None],
    ) -> int:
        """Send a release's manifest and the missing files; returns the bytes sent.

        Raises
        ------
        BoardRefused
            If the board cannot store them.
        BoardUnreachable
            If the transfer breaks; the next one continues where it broke.
        """
        if not missing(release, inventory) and release.name in inventory["releases"]:
            return 0
        pieces = stream(release, inventory, advance=advance)
        try:
            done = await self._feed(self._line("receive", release.name), pieces)
        except (asyncssh.Error, OSError) as error:
            raise BoardUnreachable(
                f"board {self.name!r}: the transfer broke: {error}; flash again, it continues there"
            ) from error
        return int(self._answer("receive", done)["num_bytes"])

    async def _feed(self, line: str, parts: AsyncIterator[bytes]) -> asyncssh.SSHCompletedProcess:
        """Run a command whose standard input is made piece by piece."""
        async with self._connection.create_process(line, encoding=None) as process:
            try:
                async for part in parts:
                    process.stdin.write(part)
                    await process.stdin.drain()
                process.stdin.write_eof()
            except BrokenPipeError:
                pass  # the board has ended the command; its answer says why
            return await process.wait()


def posix(script: str) -> str:
    """Return a command line that runs a script in ``sh``, whatever the user's shell is."""
    return f"exec sh -c {shlex.quote(script)}"


def output_text(output: object) -> str:
    """Return what a command printed as text."""
    return output.decode(errors="replace") if isinstance(output, bytes) else str(output or "")

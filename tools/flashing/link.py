"""An SSH session to a board: commands of its program, and resumable transfers of files."""

from __future__ import annotations

import json
import shlex
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import asyncssh

from siftmoe.tools.flashing.errors import BoardRefused, BoardUnreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping

    from siftmoe.tools.flashing.building.release import Piece, Release

CONNECT_S: Final = 15.0
#: Keepalive interval; a dead network is detected within three of them.
_KEEPALIVE_S: Final = 5.0
#: Bytes per write. After an interruption the last window is written again, since its parts may have
#: arrived out of order.
WINDOW: Final = 4 << 20
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
        line = shlex.join([*self._command, command, *([argument] if argument else [])])
        done = await self._run(line)
        try:
            said: dict[str, Any] = json.loads(str(done.stdout).strip().splitlines()[-1])
        except (ValueError, IndexError):
            text = f"{done.stderr!s}{done.stdout!s}".strip()[-_KEPT:]
            raise BoardRefused(f"board {self.name!r}: {command}: {text}") from None
        if "error" in said:
            raise BoardRefused(f"board {self.name!r}: {said['error']}")
        return said

    async def _run(self, line: str) -> asyncssh.SSHCompletedProcess:
        try:
            return await self._connection.run(line, stdin=asyncssh.DEVNULL)
        except (asyncssh.Error, OSError) as error:
            raise BoardUnreachable(f"board {self.name!r}: the session broke: {error}") from error

    async def make_root(self) -> None:
        """Make the board's folder with passwordless sudo, if the user may not."""
        quoted = shlex.quote(self._root)
        line = f"sudo -n install -d -m 0755 -o $(id -un) -g $(id -gn) {quoted}"
        done = await self._run(line)
        if done.exit_status:
            raise BoardRefused(
                f"board {self.name!r}: {self._root} cannot be made: {str(done.stderr).strip()}; "
                f"log in as root, or allow this user sudo without a password"
            )

    async def push(
        self,
        release: Release,
        inventory: Mapping[str, Any],
        *,
        advance: Callable[[int], None],
    ) -> int:
        """Send a release's manifest and the missing files; returns the bytes sent."""
        sent = 0
        if release.name in inventory["releases"]:
            return sent
        try:
            async with self._connection.start_sftp_client() as sftp:
                folder = f"{self._root}/incoming/{release.name}"
                await sftp.makedirs(folder, exist_ok=True)
                for name, content in (
                    ("release.json", release.manifest),
                    ("release.json.sig", release.signature),
                ):
                    async with sftp.open(f"{folder}/{name}", "wb") as stream:
                        await stream.write(content)
                for digest, piece in missing(release, inventory).items():
                    there = inventory["blobs"].get(f"{digest}.part", 0)
                    path = f"{self._root}/blobs/{digest}.part"
                    sent += await _send(sftp, piece, path, there=there, advance=advance)
        except (asyncssh.Error, OSError) as error:
            raise BoardUnreachable(
                f"board {self.name!r}: the transfer broke: {error}; flash again, it goes on where "
                f"it was"
            ) from error
        return sent


def missing(release: Release, inventory: Mapping[str, Any]) -> dict[str, Piece]:
    """Return the files of a release that a board lacks or has incomplete."""
    if release.name in inventory["releases"]:
        return {}
    blobs = inventory["blobs"]
    return {
        digest: piece
        for digest, piece in release.blobs.items()
        if blobs.get(digest) != piece.num_bytes
    }


async def _send(
    sftp: asyncssh.SFTPClient,
    piece: Piece,
    path: str,
    *,
    there: int,
    advance: Callable[[int], None],
) -> int:
    start = max(0, min(there, piece.num_bytes) - WINDOW) // WINDOW * WINDOW
    advance(start)
    attributes = asyncssh.SFTPAttrs(permissions=0o600)
    flags = asyncssh.FXF_WRITE | asyncssh.FXF_CREAT | (0 if start else asyncssh.FXF_TRUNC)
    source = piece.source
    async with sftp.open(path, flags, attributes, encoding=None) as stream:
        for offset in range(start, piece.num_bytes, WINDOW):
            window = source[offset : offset + WINDOW] if isinstance(source, bytes) else None
            if window is None:
                window = _read(source, offset)
            await stream.write(window, offset)
            advance(len(window))
    return piece.num_bytes - start


def _read(path: Path | bytes, offset: int) -> bytes:
    with Path(str(path)).open("rb") as stream:
        stream.seek(offset)
        return stream.read(WINDOW)


@asynccontextmanager
async def open_link(
    address: str, *, name: str, root: str, program: bytes, ssh_config: Path | None = None
) -> AsyncIterator[BoardLink]:
    """Log in to a board and upload its program, which is removed at the end.

    Parameters
    ----------
    address : str
        ``user@host``, ``user@host:port``, or a name of the SSH configuration.
    name, root, program
        See `BoardLink`.
    ssh_config : Path or None
        OpenSSH configuration instead of the user's own.

    Raises
    ------
    BoardUnreachable
        If it cannot be logged in to; its host key must be known, as for ``ssh`` itself.
    """
    user, at, host = address.rpartition("@")
    host, _, port = host.partition(":")
    options: dict[str, Any] = {"username": user} if at else {}
    if port:
        options["port"] = int(port)
    if ssh_config is not None:
        options["config"] = [str(ssh_config)]
    try:
        connection = await asyncssh.connect(
            host,
            connect_timeout=CONNECT_S,
            login_timeout=CONNECT_S,
            keepalive_interval=_KEEPALIVE_S,
            **options,
        )
    except (asyncssh.Error, OSError, TimeoutError) as error:
        raise BoardUnreachable(
            f"board {name!r}: cannot log in as {address!r}: {error or type(error).__name__}; try "
            f"'ssh {address}' by hand"
        ) from error
    async with connection:
        made = await connection.run("mktemp -d && command -v python3", check=False)
        folder, _, python = str(made.stdout).strip().partition("\n")
        if made.exit_status or not python:
            raise BoardRefused(f"board {name!r}: has no python3, or no room for temporary files")
        try:
            async with (
                connection.start_sftp_client() as sftp,
                sftp.open(f"{folder}/board.pyz", "wb") as stream,
            ):
                await stream.write(program)
            yield BoardLink(
                connection, name=name, root=root, program=f"{folder}/board.pyz", python=python
            )
        finally:
            with suppress(asyncssh.Error, OSError):  # a broken session leaves 40 KB in /tmp
                await connection.run(f"rm -rf {shlex.quote(folder)}", check=False)

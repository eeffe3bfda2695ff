"""Logs in to a board, finds its Python and uploads the board's program.

Everything goes through a plain shell command of a POSIX ``sh``, whatever the user's own shell is:
no SFTP, and lines that a start-up file of that shell prints are skipped.
"""

from __future__ import annotations

import shlex
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import asyncssh

from siftmoe.tools.flashing.address import SshAddress
from siftmoe.tools.flashing.errors import BoardRefused, BoardUnreachable
from siftmoe.tools.flashing.link import BoardLink, output_text, posix

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

CONNECT_S: Final = 15.0
#: Keepalive interval; a dead network is detected within three of them.
_KEEPALIVE_S: Final = 5.0
#: The oldest Python that the board's program and the agent run on.
_OLDEST: Final = (3, 10)
#: Tried in this order if the testbed names no interpreter.
PYTHONS: Final = ("python3", "python3.13", "python3.12", "python3.11", "python3.10")
#: Precedes the lines that are ours.
_MARK: Final = "siftmoe-board:"


@asynccontextmanager
async def open_link(
    address: str,
    *,
    name: str,
    root: str,
    program: bytes,
    ssh_config: Path | None = None,
    python: str | None = None,
) -> AsyncIterator[BoardLink]:
    """Log in to a board and upload its program, which is removed at the end.

    Parameters
    ----------
    address : str
        See `SshAddress.parse`; a host may be a name of the SSH configuration.
    name, root
        See `BoardLink`.
    program : bytes
    ssh_config : Path or None
        OpenSSH configuration instead of the user's own.
    python : str or None
        Interpreter on the board; None tries `PYTHONS`.

    Raises
    ------
    BoardUnreachable
        If it cannot be logged in to; its host key must be known, as for ``ssh`` itself.
    BoardRefused
        If it has no Python that is new enough, or no room for the program.
    """
    connection = await _connect(address, name=name, ssh_config=ssh_config)
    try:
        interpreter = await _find_python(connection, name=name, python=python)
        folder = await _upload(connection, name=name, program=program)
        try:
            yield BoardLink(
                connection,
                name=name,
                root=root,
                program=f"{folder}/board.pyz",
                python=interpreter,
            )
        finally:
            with suppress(asyncssh.Error, OSError):  # a broken session leaves 40 KB in /tmp
                await connection.run(posix(f"rm -rf {shlex.quote(folder)}"), check=False)
    finally:
        connection.close()
        with suppress(asyncssh.Error, OSError):
            await connection.wait_closed()


async def _connect(
    address: str, *, name: str, ssh_config: Path | None
) -> asyncssh.SSHClientConnection:
    parsed = SshAddress.parse(address)
    options: dict[str, Any] = {} if parsed.user is None else {"username": parsed.user}
    if parsed.port is not None:
        options["port"] = parsed.port
    if ssh_config is not None:
        options["config"] = [str(ssh_config)]
    try:
        return await asyncssh.connect(
            parsed.host,
            connect_timeout=CONNECT_S,
            login_timeout=CONNECT_S,
            keepalive_interval=_KEEPALIVE_S,
            **options,
        )
    except asyncssh.HostKeyNotVerifiable as error:
        raise BoardUnreachable(
            f"board {name!r}: the host key of {parsed.host!r} is not known or has changed "
            f"({error}); log in once by hand, or add it: ssh-keyscan {parsed.host} >> "
            f"~/.ssh/known_hosts"
        ) from error
    except (asyncssh.Error, OSError, ValueError) as error:
        raise BoardUnreachable(
            f"board {name!r}: cannot log in as {address!r}: {error or type(error).__name__}; try "
            f"'ssh {address}' by hand"
        ) from error


async def _find_python(
    connection: asyncssh.SSHClientConnection, *, name: str, python: str | None
) -> str:
    """Return the first interpreter that is new enough; those after it are not started."""
    tried = PYTHONS if python is None else (python,)
    ask = (
        "import sys; print(sys.executable, sys.version_info[0], sys.version_info[1]); "
        f"sys.exit(sys.version_info < {_OLDEST})"
    )
    script = (
        f'for p in {" ".join(map(shlex.quote, tried))}; do o=$("$p" -c "{ask}" 2>/dev/null); s=$?; '
        f'echo "{_MARK} $o"; [ $s -eq 0 ] && exit 0; done'
    )
    found: dict[str, tuple[int, int]] = {}
    for line in await _lines(connection, script, name=name):
        parts = line.rsplit(maxsplit=2)
        if len(parts) == 3 and parts[1].isdigit() and parts[2].isdigit():
            path, version = parts[0], (int(parts[1]), int(parts[2]))
            if version >= _OLDEST:
                return path
            found[path] = version
    raise BoardRefused(f"board {name!r}: {_no_python(found, python)}")


def _no_python(found: dict[str, tuple[int, int]], named: str | None) -> str:
    what = ", ".join(f"{path} is {a}.{b}" for path, (a, b) in found.items())
    what = what or f"has no {named or 'python3'}"
    return (
        f"{what}; the agent needs Python 3.10 to 3.13: install one there and name it, as python = "
        f'"/usr/bin/python3.10" under [flash]'
    )


async def _upload(connection: asyncssh.SSHClientConnection, *, name: str, program: bytes) -> str:
    """Store the program in a temporary folder of the board and return the folder."""
    script = (
        f'umask 077; d=$(mktemp -d) && cat > "$d/board.pyz" && echo "{_MARK} $d $(wc -c < '
        f'"$d/board.pyz")"'
    )
    for line in await _lines(connection, script, name=name, given=program):
        folder, _, size = line.rpartition(" ")
        if folder.startswith("/") and size == str(len(program)):
            return folder
    raise BoardRefused(f"board {name!r}: has no room for temporary files; make room in /tmp")


async def _lines(
    connection: asyncssh.SSHClientConnection, script: str, *, name: str, given: bytes = b""
) -> list[str]:
    """Run a script and return its own lines, without what the user's shell printed."""
    try:
        done = await connection.run(posix(script), input=given, encoding=None, check=False)
    except (asyncssh.Error, OSError) as error:
        raise BoardUnreachable(f"board {name!r}: the session broke: {error}") from error
    text = output_text(done.stdout)
    return [line.partition(_MARK)[2].strip() for line in text.splitlines() if _MARK in line]

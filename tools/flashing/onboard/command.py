"""Commands of a workstation to a board; each prints one JSON object."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from siftmoe.tools.flashing.onboard.errors import BoardError
from siftmoe.tools.flashing.onboard.installing import install
from siftmoe.tools.flashing.onboard.receiving import receive
from siftmoe.tools.flashing.onboard.releases import Board
from siftmoe.tools.flashing.onboard.services import UNITS, Service, Supervised, service_of

#: Time limit of a question to sudo.
_ASK_S = 10.0


def main() -> int:
    """Run a command; returns 0 if done, 1 if refused with ``{"error": …}``."""
    parser = argparse.ArgumentParser(prog="board", description=__doc__)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("command", choices=[*_COMMANDS, *_CHANGES, "execute", "supervise"])
    parser.add_argument("argument", nargs="?", default="")
    args = parser.parse_args()
    # A command is completed, or undone, even if the workstation disconnects meanwhile.
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    board = Board(args.root)
    try:
        if args.command == "execute":
            _execute(board)
        elif args.command == "supervise":
            service = service_of(board)
            if isinstance(service, Supervised):
                service.serve()
        elif args.command in _CHANGES:
            with board.locked():
                _print(_CHANGES[args.command](board, args.argument))
        else:
            _print(_COMMANDS[args.command](board, args.argument))
    except (BoardError, OSError, ValueError, KeyError, TypeError) as error:
        _print({"error": str(error)})
        return 1
    return 0


def _print(result: dict[str, Any]) -> None:
    try:
        print(json.dumps(result), flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _preflight(board: Board, _: str) -> dict[str, Any]:
    """Return what a workstation must know before it builds a release for this board."""
    existing = next(path for path in (board.root, *board.root.parents) if path.exists())
    tegra = Path("/etc/nv_tegra_release")
    return {
        "machine": platform.machine(),
        "libc": "-".join(platform.libc_ver()),
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "tegra": tegra.read_text().splitlines()[0] if tegra.exists() else None,
        "free_bytes": shutil.disk_usage(existing).free,
        "time_s": time.time(),
        "user_id": os.getuid(),
        "writable": os.access(existing, os.W_OK | os.X_OK),
        "systemd": Path("/run/systemd/system").is_dir(),
        "sudo": _runs("sudo", "-n", "true"),
        "units": _units_writable(),
        "missing": [tool for tool in ("ssh-keygen",) if shutil.which(tool) is None],
    }


def _runs(*command: str) -> bool:
    """Whether a command succeeds, without a terminal to ask for a password."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=_ASK_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0


def _units_writable() -> bool:
    """Whether units can be written, by root or by sudo."""
    if os.getuid() == 0:
        return os.access(UNITS, os.W_OK)
    return _runs("sudo", "-n", "test", "-w", str(UNITS))


def _install(board: Board, argument: str) -> dict[str, Any]:
    """Install a release; "ID downgrade" allows an older one."""
    release, _, option = argument.partition(" ")
    return install(board, release, downgrade=option == "downgrade")


def _prepare(board: Board, argument: str) -> dict[str, Any]:
    return board.prepare(**json.loads(argument))


def _switch(board: Board, release: str) -> dict[str, Any]:
    """Switch to a release; if it does not start, switch back to the previous one."""
    service = service_of(board)
    service.prepare()  # what cannot be written keeps the board as it is
    before = {link: board.target(link) for link in ("current", "previous")}
    board.change_to(release)
    problem = _started(service)
    if not problem:
        return {"current": release, "previous": board.target("previous")}
    said = f"release {release} does not start: {problem}"
    if before["current"] == release:
        raise BoardError(said)
    for link, target in before.items():
        board.restore(link, target)
    if before["current"] is None:
        service.remove()
        raise BoardError(f"{said}; the board had none before and serves none now")
    again = _started(service)
    end = f"does not either: {again}" if again else "serves again"
    raise BoardError(f"{said}; release {before['current']} {end}")


def _started(service: Service) -> str:
    """Start the current release; returns the reason if it does not serve."""
    try:
        return service.restart()
    except (BoardError, OSError, subprocess.SubprocessError) as error:
        return str(error)


def _rollback(board: Board, _: str) -> dict[str, Any]:
    release = board.change_back()
    if problem := service_of(board).restart():
        raise BoardError(f"release {release} does not come up: {problem}")
    return {"current": release, "previous": board.target("previous")}


def _fall_back(board: Board, _: str) -> dict[str, Any]:
    """Switch back automatically: systemd calls this when the agent has failed for good."""
    if board.may_stay():
        return {"kept": board.target("current"), "problem": service_of(board).restart()}
    return _rollback(board, "")


def _status(board: Board, _: str) -> dict[str, Any]:
    current = board.target("current")
    return {
        "current": current,
        "previous": board.target("previous"),
        "proven": board.proven(current),
        "tested": board.tested(current),
        "service": service_of(board).state(),
    }


def _execute(board: Board) -> None:
    """Check the current release's signature and replace this process by its agent."""
    current = board.target("current")
    if current is None:
        raise BoardError("no release is installed")
    folder = board.releases / current
    command = board.agent_command(folder, board.manifest(folder))
    environment = {**os.environ, **board.environment(folder)}
    os.execve(command[0], command, environment)  # noqa: S606  systemd watches this process


def _remove(board: Board, _: str) -> dict[str, Any]:
    service_of(board).remove()
    for path in board.root.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    try:
        board.root.rmdir()
    except PermissionError:  # its folder was made with sudo
        command = ["sudo", "-n", "rmdir", str(board.root)]
        subprocess.run(command, check=False)
    return {"removed": str(board.root)}


_Command = Callable[[Board, str], dict[str, Any]]

_COMMANDS: dict[str, _Command] = {
    "preflight": _preflight,
    "inventory": lambda board, _: board.inventory(),
    "status": _status,
    "log": lambda board, lines: {"log": service_of(board).log(int(lines or 50))},
}
#: Commands that hold the board's lock.
_CHANGES: dict[str, _Command] = {
    "prepare": _prepare,
    "receive": lambda board, release: receive(board, release, sys.stdin.buffer),
    "install": _install,
    "switch": _switch,
    "prove": lambda board, release: board.prove(release),
    "forget": lambda board, _: {"removed": board.forget()},
    "rollback": _rollback,
    "fall-back": _fall_back,
    "remove": _remove,
}

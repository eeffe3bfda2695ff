"""What benchmarks with an emulated or contained board need: root, programs, an emulator, a mirror.

What is missing is said in one line; a program that fails is quoted with its last words.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

#: Program -> Debian package that has it.
PROGRAMS = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "ssh-keygen": "openssh-client",
}
BINFMT = Path("/proc/sys/fs/binfmt_misc")
LAST_LINES = 20


def require(*, emulator: str | None = None) -> None:
    """End the program with a line for everything that is missing.

    Parameters
    ----------
    emulator : str or None
        Handler of binfmt_misc that has to be registered, as "qemu-aarch64".
    """
    found = list(missing(emulator=emulator))
    if found:
        sys.exit("\n".join(f"error: {line}" for line in found))


def missing(*, emulator: str | None, root: bool | None = None, binfmt: Path = BINFMT) -> list[str]:
    """Return a line for everything that is missing; ``root`` says whether this is root."""
    lines = []
    if not (os.geteuid() == 0 if root is None else root):
        lines.append("this takes root: sudo make test-arm64, or sudo python -m benchmarks.flash.…")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    lines += [
        f"{program} is missing; apt-get install {package}"
        for program, package in PROGRAMS.items()
        if shutil.which(program, path=path) is None
    ]
    if emulator is not None:
        lines += _emulator(emulator, binfmt)
    return lines


def _emulator(name: str, binfmt: Path) -> list[str]:
    handler = binfmt / name
    if not (binfmt / "status").exists():
        return [
            "binfmt_misc is not mounted; mount binfmt_misc -t binfmt_misc "
            "/proc/sys/fs/binfmt_misc, then update-binfmts --enable " + name
        ]
    if not handler.exists():
        return [
            f"{name} is not registered with binfmt_misc; apt-get install qemu-user-static "
            f"binfmt-support, then update-binfmts --enable {name}"
        ]
    text = handler.read_text()
    flags = next((line for line in text.splitlines() if line.startswith("flags:")), "")
    if "enabled" not in text or "F" not in flags.removeprefix("flags:"):
        return [
            f"{name} is registered without the flag F or disabled ({flags or text.strip()}); the "
            f"emulator has to be open before a container starts: update-binfmts --enable {name}"
        ]
    return []


def call(*command: str, given: str | None = None) -> str:
    """Run a program and return what it printed.

    Raises
    ------
    RuntimeError
        If it fails, with the last lines of its output.
    """
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(failure(command, done.returncode, done.stdout + done.stderr))
    return done.stdout


def failure(command: tuple[str, ...] | list[str], status: int | None, output: str) -> str:
    """Say how a program ended, with its last words and what helps where that is known."""
    last = "\n".join(output.strip().splitlines()[-LAST_LINES:]) or "it printed nothing"
    hint = ""
    if command[0] == "debootstrap":
        hint = "\nIs a Debian mirror reachable? debootstrap takes the one in DEBIAN_MIRROR."
    return f"{shlex.join(command)} ended with {status}:\n{last}{hint}"


def debootstrap(*options: str, root: Path) -> None:
    """Make a Debian userland, unless there is one."""
    if (root / "etc" / "debian_version").exists():
        return
    mirror = os.environ.get("DEBIAN_MIRROR")
    call("debootstrap", *options, "bookworm", str(root), *([mirror] if mirror else []))

"""A board for tests: a real sshd on loopback, as this user, with a root folder of its own."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator

PATIENCE_S = 20.0

SSHD = """\
Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
PidFile none
SetEnv PATH={path} OMP_NUM_THREADS=1
{more}
"""

#: A login shell whose start-up file prints, and that knows no `$( )`, as csh; there is no SFTP.
ODD_SHELL = """\
#!/bin/sh
echo 'Welcome to the bench'
echo '{"news": 3'
case "$SSH_ORIGINAL_COMMAND" in
  "exec sh -c "*) ;;
  *) echo 'Illegal variable name.'; exit 1 ;;
esac
exec sh -c "$SSH_ORIGINAL_COMMAND"
"""

CLIENT = """\
Host board
    HostName 127.0.0.1
    Port {port}
    User {user}
    IdentityFile {folder}/user_key
    UserKnownHostsFile {folder}/known_hosts
"""

#: A login shell with a folder of programs before all others.
HIDING_SHELL = """\
#!/bin/sh
PATH="{before}:$PATH" exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Sshd:
    """A running sshd; ``config`` is what a client needs to log in to "board".

    An ``odd`` one has `ODD_SHELL`; programs in ``before`` hide those of the system.
    """

    def __init__(self, folder: Path, *, odd: bool = False, before: Path | None = None) -> None:
        self.folder, self.port = folder, free_port()
        folder.mkdir(parents=True)
        for name in ("host_key", "user_key"):
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)]
            subprocess.run(command, check=True)
        host_key = " ".join((folder / "host_key.pub").read_text().split()[:2])
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {host_key}\n")
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        more = "Subsystem sftp internal-sftp"
        if odd or before is not None:
            more = self._shell(ODD_SHELL if odd else HIDING_SHELL.format(before=before))
        (folder / "sshd_config").write_text(
            SSHD.format(port=self.port, folder=folder, path=path, more=more), encoding="utf-8"
        )
        self.config = folder / "ssh_config"
        self.config.write_text(
            CLIENT.format(port=self.port, folder=folder, user=getpass.getuser()), encoding="utf-8"
        )
        self.log = folder / "sshd.log"
        self.process = self._start()

    def _shell(self, text: str) -> str:
        path = self.folder / "shell"
        path.write_text(text)
        path.chmod(0o755)
        return f"ForceCommand {path}"

    def _start(self) -> subprocess.Popen[bytes]:
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        assert program is not None
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where it separates privileges
        command = [program, "-D", "-f", str(self.folder / "sshd_config"), "-E", str(self.log)]
        process = subprocess.Popen(command)
        end_s = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                assert process.poll() is None, self.log.read_text()
                assert time.monotonic() < end_s
                time.sleep(0.02)
            else:
                return process

    def sessions(self) -> list[int]:
        """Processes that serve a session now."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(number) for number in task.read_text().split()]

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE_S)


def running(
    folder: Path, *, odd: bool = False, before: Path | None = None
) -> Generator[Sshd, None, None]:
    sshd = Sshd(folder, odd=odd, before=before)
    try:
        yield sshd
    finally:
        sshd.stop()

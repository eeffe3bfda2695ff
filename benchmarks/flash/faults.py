"""Which release serves after a board with systemd failed while it was flashed.

    sudo python -m benchmarks.flash.faults [--keep FOLDER]

Needs root, debootstrap, systemd-nspawn and a Debian mirror: makes a Debian userland (once in
FOLDER), boots it as a container with systemd as PID 1 and flashes it over its sshd. After each
fault the board must answer a hello as the previous release; exit status 1 if it does not.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.flash.needs import call, debootstrap, failure, require
from siftmoe.tools.cli import main as siftmoe
from tests.boards import CLIENT, free_port
from tests.bundles import shape_of, write_bundle

PACKAGES = "systemd,systemd-sysv,dbus,udev,openssh-server,openssh-client,python3,iproute2"
PATIENCE_S = 60.0

TESTBED = """\
[model]
bundle = "bundle"
[flash]
service = "systemd"
start_s = 8
watchdog_s = 5
[[agent]]
name = "one"
address = "tcp://{host}:{port}"
experts = "{experts}"
ssh = "board"
[[agent]]
name = "two"
address = "tcp://127.0.0.1:1"
"""


def make_userland(root: Path, key: Path, port: int) -> None:
    debootstrap("--variant=minbase", f"--include={PACKAGES}", root=root)
    ssh = root / "root" / ".ssh"
    ssh.mkdir(mode=0o700, parents=True, exist_ok=True)
    (ssh / "authorized_keys").write_text(key.with_suffix(".pub").read_text())
    (root / "etc/ssh/sshd_config.d").mkdir(exist_ok=True)
    (root / "etc/ssh/sshd_config.d/port.conf").write_text(f"Port {port}\n")
    call("chroot", str(root), "ssh-keygen", "-A")
    call("chroot", str(root), "systemctl", "enable", "ssh")


class Board:
    """The running container, and its testbed."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder, self.ssh_port = folder, free_port()
        self.root = root / "opt" / "siftmoe"
        call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / "user_key"))
        make_userland(root, folder / "user_key", self.ssh_port)
        host_key = (root / "etc/ssh/ssh_host_ed25519_key.pub").read_text().split()[:2]
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{self.ssh_port} {' '.join(host_key)}\n")
        self.config = folder / "ssh_config"
        self.config.write_text(CLIENT.format(port=self.ssh_port, folder=folder, user="root"))
        self.host = call("hostname", "-I").split()[0]
        self.port = free_port()
        write_bundle(folder / "bundle", shape_of())
        self.write()
        self.boot(root)

    def boot(self, root: Path) -> None:
        command = ["systemd-nspawn", "--quiet", "--boot", "--register=no", "--keep-unit"]
        command += ["--machine=siftmoe-board", f"--directory={root}"]
        log = self.folder / "container.log"
        with log.open("w") as out:
            self.container = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        end_s = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", self.ssh_port), 1.0).close()
                return
            if time.monotonic() > end_s or self.container.poll() is not None:
                raise RuntimeError(failure(command, self.container.poll(), log.read_text()))
            time.sleep(0.1)

    def stop(self) -> None:
        self.container.send_signal(signal.SIGTERM)
        self.container.wait(PATIENCE_S)

    def write(self, *, experts: str = "*:0", port: int | None = None) -> None:
        text = TESTBED.format(host=self.host, port=port or self.port, experts=experts)
        (self.folder / "testbed.toml").write_text(text)
        self.siftmoe("keys")

    def siftmoe(self, command: str, *arguments: str) -> list[dict[str, Any]]:
        ssh = [] if command == "keys" else ["--ssh-config", str(self.config)]
        said, told = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(told):
            status = siftmoe(
                [command, str(self.folder / "testbed.toml"), *arguments, "--json", *ssh]
            )
        if status and not said.getvalue():
            raise RuntimeError(failure(["siftmoe", command], status, told.getvalue()))
        return [json.loads(line) for line in said.getvalue().splitlines()]

    def flash(self, **testbed: Any) -> dict[str, Any]:
        self.write(**testbed)
        return self.siftmoe("flash", "one")[0]

    def run(self, script: str) -> str:
        return call("ssh", "-F", str(self.config), "board", script)

    def agent(self) -> str:
        return self.run("systemctl show siftmoe-agent -p MainPID --value").strip()

    def packing(self) -> str:
        """Return how the agent that the hardened unit started last packs vectors."""
        journal = self.run("journalctl -u siftmoe-agent -o cat --no-pager | grep '^{' | tail -n 1")
        return str(json.loads(journal)["packing"])

    def serving(self) -> str:
        """Return the release that answers a hello, once one does."""
        end_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < end_s:
            if (row := self.siftmoe("status", "one")[0])["state"] == "ready":
                return str(row["release"])
        return ""


def crash_at_start(board: Board) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        expect(board.flash(port=taken.getsockname()[1]), "failed")
    board.write()


def hang_at_start(board: Board) -> None:
    """Make the new release's Python hang when the service starts it, but not in the self-test."""
    board.write(experts="*:0-1")
    hook = 'import os, time; "NOTIFY_SOCKET" in os.environ and time.sleep(600)\n'
    for site in board.root.glob("envs/*/lib/python3*/site-packages"):
        (site / "hang.pth").write_text(hook)
    try:
        watch = subprocess.Popen([sys.executable, "-c", _UNHOOK, str(board.root)])
        expect(board.flash(experts="*:0-1"), "failed")
    finally:
        watch.kill()
        watch.wait()
        for site in board.root.glob("envs/*/lib/python3*/site-packages/hang.pth"):
            site.unlink()
    board.write()


#: Removes the hook once the board is back at its old release, which then starts normally.
_UNHOOK = """
import os, pathlib, sys, time
root = pathlib.Path(sys.argv[1])
first = os.readlink(root / "current")
while os.readlink(root / "current") == first:
    time.sleep(0.02)
while os.readlink(root / "current") != first:
    time.sleep(0.02)
for path in root.glob("envs/*/lib/python3*/site-packages/hang.pth"):
    path.unlink()
"""


def watchdog_silence(board: Board) -> None:
    stopped = board.agent()
    board.run(f"kill -STOP {stopped}")
    end_s = time.monotonic() + PATIENCE_S
    while board.agent() in (stopped, "0"):
        if time.monotonic() > end_s:
            raise TimeoutError("systemd did not end the silent agent")


def killed(board: Board) -> None:
    board.run(f"kill -KILL {board.agent()}")


def damaged_on_disk(board: Board) -> None:
    """Damage a release that never answered, so that it cannot start: the board rolls back."""
    before = board.root / "current"
    expect(board.flash(experts="*:0-1"), "flashed")
    (before / "proven").unlink()
    (before / "release.json.sig").write_text("damaged")
    board.run("systemctl restart siftmoe-agent || true")
    board.write()


def cut_push(board: Board) -> None:
    """Kill the container in the middle of a push, as by a power cut, and boot it again."""
    for blob in board.root.glob("blobs/*"):
        blob.unlink()  # everything must be sent again
    board.write(experts="*:0,*:2")
    command = [
        sys.executable,
        "-m",
        "siftmoe.tools.cli",
        "flash",
        str(board.folder / "testbed.toml"),
    ]
    flashing = subprocess.Popen(
        [*command, "one", "--ssh-config", str(board.config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end_s = time.monotonic() + PATIENCE_S
    while sum(part.stat().st_size for part in board.root.glob("blobs/*.part")) < 10e6:
        if flashing.poll() is not None or time.monotonic() > end_s:
            raise TimeoutError("nothing was pushed")
        time.sleep(0.005)
    board.container.kill()
    board.container.wait()
    flashing.kill()
    flashing.wait()
    time.sleep(1.0)
    board.boot(board.root.parent.parent)
    board.write()


def full_disk(board: Board) -> None:
    board.run("truncate -s 0 /opt/full && mkdir -p /opt/siftmoe/blobs")
    board.run("mount -t tmpfs -o size=2m,mode=700 tmpfs /opt/siftmoe/blobs")
    try:
        expect(board.flash(experts="*:0-1"), "failed")
    finally:
        board.run("umount /opt/siftmoe/blobs")
    board.write()


FAULTS = (
    crash_at_start,
    hang_at_start,
    watchdog_silence,
    killed,
    damaged_on_disk,
    full_disk,
    cut_push,
)


def expect(outcome: dict[str, Any], result: str) -> None:
    if outcome["result"] != result:
        raise RuntimeError(f"expected {result}, got {outcome}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, help="folder of the userland (made if need be)")
    args = parser.parse_args()
    require()
    wrong = 0
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        board = Board((args.keep or folder) / "userland", folder)
        stack.callback(board.stop)
        board.siftmoe("unflash", "one")
        expect(flashed := board.flash(), "flashed")
        sent = f"{flashed['num_bytes'] / 1e6:.0f} MB, {board.packing()} packing"
        print(f"{'good release':24}{flashed['wall_s']:6.1f} s  {sent}")
        for fault in FAULTS:
            start_s = time.monotonic()
            fault(board)
            serves = board.serving()
            right = serves == flashed["release"]
            wrong += not right
            took = f"{time.monotonic() - start_s:6.1f} s"
            print(f"{fault.__name__:24}{took}  serves {'the release before' if right else serves}")
        if board.packing() != "compiled":
            print(f"the agent packs by {board.packing()}, not by what the self-test compiled")
            wrong += 1
        board.siftmoe("unflash", "one")
    return int(wrong > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"error: {error}")

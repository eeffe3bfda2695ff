"""Services that keep an agent running on a board: systemd, or siftmoe's own supervisor."""

from __future__ import annotations

import grp
import json
import os
import pwd
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from siftmoe.tools.flashing.onboard.errors import BoardError
from siftmoe.tools.flashing.onboard.releases import CACHE, PROGRAM
from siftmoe.tools.flashing.onboard.supervisor import Supervisor, hold, read

if TYPE_CHECKING:
    from siftmoe.tools.flashing.onboard.releases import Board

UNITS: Final = Path("/etc/systemd/system")
AGENT_UNIT: Final = "siftmoe-agent.service"
ROLLBACK_UNIT: Final = "siftmoe-rollback.service"
UDEV_RULE: Final = Path("/etc/udev/rules.d/60-siftmoe-pluto.rules")

#: An agent's start takes long: it tests every expert and measures the idle power of the board.
START_S: Final = 180.0
WATCHDOG_S: Final = 20.0
_POLL_S: Final = 0.02

#: The two USB identities of a Pluto, for the group that may use radios; ModemManager ignores it.
UDEV_TEXT: Final = """\
SUBSYSTEM=="usb", ATTRS{idVendor}=="0456", ATTRS{idProduct}=="b673", MODE="0660", GROUP="plugdev", \
ENV{ID_MM_DEVICE_IGNORE}="1"
SUBSYSTEM=="usb", ATTRS{idVendor}=="0456", ATTRS{idProduct}=="b674", MODE="0660", GROUP="plugdev", \
ENV{ID_MM_DEVICE_IGNORE}="1"
"""

_AGENT_TEXT: Final = """\
[Unit]
Description=siftmoe agent
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=900
StartLimitBurst=3
OnFailure={rollback}

[Service]
Type=notify
User={user}
{groups}ExecStart={python} {root}/current/{program} --root {root} execute
Restart=on-failure
RestartSec=2
TimeoutStartSec={start:g}
TimeoutStopSec=10
WatchdogSec={watchdog:g}
LimitNOFILE=4096
UMask=0077
ReadWritePaths=-{root}/{cache}
CapabilityBoundingSet=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=read-only
ProtectControlGroups=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
PrivateTmp=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK

[Install]
WantedBy=multi-user.target
"""

_ROLLBACK_TEXT: Final = """\
[Unit]
Description=go back to the siftmoe release before, if this one never answered

[Service]
Type=oneshot
ExecStart={python} {root}/current/{program} --root {root} fall-back
"""


class Service(Protocol):
    """A service that keeps an agent running."""

    def prepare(self) -> None:
        """Write what starts the agent; raises BoardError where that cannot be written."""

    def restart(self) -> str:
        """Start the current release; returns empty when it serves, else the reason."""

    def state(self) -> dict[str, Any]:
        """Return the state of the service."""

    def log(self, lines: int) -> str:
        """Return the last lines of the agent's log."""

    def remove(self) -> None:
        """Stop the agent and remove the service."""


def service_of(board: Board) -> Service:
    """Return the service of this board, as stored when it was flashed."""
    settings = json.loads(read(board.root / "service.json") or "{}")
    kind = Systemd if settings.get("kind") == "systemd" else Supervised
    return kind(
        board,
        start_s=settings.get("start_s", START_S),
        watchdog_s=settings.get("watchdog_s", WATCHDOG_S),
    )


def unit_texts(
    root: Path, *, user: str, groups: list[str], python: str, start_s: float, watchdog_s: float
) -> dict[str, str]:
    """Return the texts of units, by name; a missing group is left out, or the unit would fail."""
    given = f"SupplementaryGroups={' '.join(groups)}\n" if groups else ""
    fields = {"root": root, "python": python, "program": PROGRAM, "cache": CACHE}
    return {
        AGENT_UNIT: _AGENT_TEXT.format(
            **fields,
            user=user,
            groups=given,
            rollback=ROLLBACK_UNIT,
            start=start_s,
            watchdog=watchdog_s,
        ),
        ROLLBACK_UNIT: _ROLLBACK_TEXT.format(**fields),
    }


class Systemd:
    """The board's systemd; needs root or passwordless sudo."""

    def __init__(self, board: Board, *, start_s: float, watchdog_s: float) -> None:
        self._board = board
        self._start_s, self._watchdog_s = start_s, watchdog_s
        self._sudo = [] if os.getuid() == 0 else ["sudo", "-n"]

    def _run(self, *command: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._sudo, *command], input=text, capture_output=True, text=True, check=False
        )

    def _write(self, path: Path, text: str) -> None:
        if read(path) != text:
            done = self._run("tee", str(path), text=text)
            if done.returncode:
                raise BoardError(
                    f"{path} cannot be written: {done.stderr.strip()}; make it writable, or set "
                    f'service = "supervisor" under [flash]'
                )

    def prepare(self) -> None:
        """Write the units of the agent and of the fallback."""
        known = {group.gr_name for group in grp.getgrall()}
        texts = unit_texts(
            self._board.root,
            user=pwd.getpwuid(os.getuid()).pw_name,
            groups=[name for name in ("video", "render", "plugdev") if name in known],
            python=sys.executable,
            start_s=self._start_s,
            watchdog_s=self._watchdog_s,
        )
        for name, text in texts.items():
            self._write(UNITS / name, text)
        if UDEV_RULE.parent.is_dir():
            self._write(UDEV_RULE, UDEV_TEXT)
            self._run("udevadm", "control", "--reload")
        self._run("systemctl", "daemon-reload")

    def restart(self) -> str:
        """Start the agent; returns when it serves or has failed."""
        self._run("systemctl", "enable", AGENT_UNIT)
        self._run("systemctl", "reset-failed", AGENT_UNIT)
        done = self._run("systemctl", "restart", AGENT_UNIT)  # until it serves or fails
        return self._last_words() or done.stderr.strip() if done.returncode else ""

    def _last_words(self) -> str:
        """Return the last line that the agent itself logged."""
        journal = ("journalctl", f"_SYSTEMD_UNIT={AGENT_UNIT}", "-n", "1", "-o", "cat")
        return self._run(*journal, "--no-pager").stdout.strip()

    def state(self) -> dict[str, Any]:
        """Return the state of the unit."""
        shown = self._run("systemctl", "show", AGENT_UNIT, "--property=ActiveState,NRestarts")
        found = dict(line.split("=", 1) for line in shown.stdout.splitlines() if "=" in line)
        return {"kind": "systemd", "state": found.get("ActiveState"), **found}

    def log(self, lines: int) -> str:
        """Return the last lines of the journal."""
        return self._run("journalctl", "-u", AGENT_UNIT, "-n", str(lines), "--no-pager").stdout

    def remove(self) -> None:
        """Stop the agent and remove its units."""
        self._run("systemctl", "disable", "--now", AGENT_UNIT)
        self._run("systemctl", "reset-failed", AGENT_UNIT)
        self._run(
            "rm", "-f", *[str(UNITS / n) for n in (AGENT_UNIT, ROLLBACK_UNIT)], str(UDEV_RULE)
        )
        self._run("systemctl", "daemon-reload")


class Supervised:
    """The supervisor process, for boards without systemd."""

    def __init__(self, board: Board, *, start_s: float, watchdog_s: float) -> None:
        self._board = board
        self._start_s, self._watchdog_s = start_s, watchdog_s
        self._lock = board.run / "supervisor.lock"

    def prepare(self) -> None:
        """Do nothing: the supervisor is started with the agent."""

    def restart(self) -> str:
        """Let the supervisor start the current release; starts the supervisor if needed."""
        asked = secrets.token_hex(8)
        (self._board.run / "asked").write_text(asked)
        process = self._process()
        if process is None:
            self._launch()
        else:
            os.kill(process, signal.SIGHUP)
        end_s = time.monotonic() + self._start_s + 10.0
        while time.monotonic() < end_s:
            state = self.state()
            if state.get("asked") == asked and state["state"] == "ready":
                return ""
            if state.get("asked") == asked and state["state"] == "failing":
                return str(state["reason"])
            time.sleep(_POLL_S)
        return "the supervisor does not answer"

    def serve(self) -> None:
        """Run as the supervisor, unless one runs already."""
        if hold(self._lock) is None:
            return
        Supervisor(
            self._board,
            command=_program(self._board, "execute"),
            start_s=self._start_s,
            watchdog_s=self._watchdog_s,
        ).run()

    def _launch(self) -> None:
        with (self._board.run / "supervisor.log").open("ab") as out:
            subprocess.Popen(
                _program(self._board, "supervise"),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # the supervisor continues after the SSH session ends
            )

    def _process(self) -> int | None:
        """Return the process ID of the supervisor; None if none runs."""
        number = read(self._lock)
        command = read(Path("/proc") / number / "cmdline") if number.isdigit() else ""
        mine = {"supervise", str(self._board.root)} <= {*command.split("\0")}
        return int(number) if mine else None

    def state(self) -> dict[str, Any]:
        """Return the state file of the supervisor."""
        found = json.loads(read(self._board.run / "state.json") or "{}")
        if self._process() is None:
            found = {**found, "state": "stopped"}
        return {"kind": "supervisor", **found}

    def log(self, lines: int) -> str:
        """Return the last lines of the agent's log."""
        text = read(self._board.run / "agent.log")
        return "\n".join(text.splitlines()[-lines:])

    def remove(self) -> None:
        """End the supervisor and the agent."""
        process = self._process()
        if process is None:
            return
        os.kill(process, signal.SIGTERM)
        while self._process() is not None:
            time.sleep(_POLL_S)


def _program(board: Board, command: str) -> list[str]:
    return [
        sys.executable,
        str(board.root / "current" / PROGRAM),
        "--root",
        str(board.root),
        command,
    ]

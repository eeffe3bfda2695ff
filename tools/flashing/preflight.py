"""Checks a board before anything is built or sent: tools, root access, identity, disk space."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from siftmoe.tools.flashing.errors import BoardRefused
from siftmoe.tools.flashing.push import missing

if TYPE_CHECKING:
    from collections.abc import Mapping

    from siftmoe.tools.flashing.building.release import Release

#: Clock differences above this mix up the order of logs; they are reported, not refused.
CLOCK_S: Final = 30.0
#: Disk space of installed wheels (unpacked and compiled) over that of the wheel files.
_UNPACKED: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Preflight:
    """What a board said about itself, and what is to be done there.

    Parameters
    ----------
    name : str
        The agent's.
    root : str
    facts, inventory : mapping
        Answers of the board's program.
    service : str
        As in the testbed: "auto", "systemd" or "supervisor".
    ahead_s : float, s
        Of the board's clock.
    """

    name: str
    root: str
    facts: Mapping[str, Any]
    inventory: Mapping[str, Any]
    service: str
    ahead_s: float

    @property
    def kind(self) -> str:
        """The service that will keep the agent running."""
        if self.service != "auto":
            return self.service
        return "systemd" if self.facts["systemd"] else "supervisor"

    @property
    def needs_root(self) -> str:
        """What root is needed for; empty if it is not."""
        if self.facts["user_id"] == 0:
            return ""
        if not self.facts["writable"]:
            return f"to make {self.root}"
        return "to write systemd units" if self.kind == "systemd" else ""

    def check_access(self) -> None:
        """Raise BoardRefused for missing tools, root access that is not there, or another signer.

        Raises
        ------
        BoardRefused
            With the way out.
        """
        if self.facts["missing"]:
            self._refuse(f"{', '.join(self.facts['missing'])} is missing there")
        if self.needs_root and not self.facts["sudo"]:
            self._refuse(
                f"root is needed {self.needs_root}, and sudo asks for a password; log in as root, "
                f"allow this user sudo without a password, or set root to a folder of the user and "
                f'service = "supervisor" under [flash]'
            )
        if self.kind == "systemd" and not self.facts["units"]:
            self._refuse(
                "/etc/systemd/system cannot be written (is /etc read-only?); make it writable, or "
                'set service = "supervisor" under [flash]'
            )

    def check_release(
        self, release: Release, *, signer: str, adopt: bool, allow_downgrade: bool
    ) -> None:
        """Raise BoardRefused for a release that the board would not take.

        Parameters
        ----------
        release : Release
        signer : str
            This workstation's line of allowed signers.
        adopt, allow_downgrade : bool
            As in `Rollout`.
        """
        if self.inventory["signers"] not in (None, signer) and not adopt:
            self._refuse("takes releases of another workstation; --adopt changes that")
        if self.inventory["board"] not in (None, self.name) and not adopt:
            self._refuse(
                f"the board serves agent {self.inventory['board']!r}; check its ssh address, or "
                f"rename it with --adopt"
            )
        newest = self.inventory["counter"]
        if release.counter < newest and not (adopt or allow_downgrade):
            self._refuse(
                f"this release (number {release.counter}) is older than the newest one on the "
                f"board (number {newest}); --allow-downgrade installs it"
            )
        needed = self.needed_bytes(release)
        if needed > self.facts["free_bytes"]:
            self._refuse(
                f"{self.facts['free_bytes'] / 1e6:.0f} MB are free, the release needs "
                f"{needed / 1e6:.0f} MB; make room"
            )

    def needed_bytes(self, release: Release) -> int:
        """Disk space that the release needs: what is sent, and its unpacked wheels."""
        pieces = missing(release, self.inventory)
        if not pieces:
            return 0
        wheels = sum(p.num_bytes for n, p in release.pieces.items() if n.startswith("wheels/"))
        return sum(piece.num_bytes for piece in pieces.values()) + _UNPACKED * wheels

    def describe(self) -> str:
        """Say what was found, for a dry run."""
        sudo = f"sudo {self.needs_root}" if self.needs_root else "no sudo needed"
        parts = [
            f"Python {self.facts['python']}",
            self.kind,
            sudo,
            f"{self.facts['free_bytes'] / 1e9:.1f} GB free",
            *([] if not self.clock else [self.clock]),
        ]
        return ", ".join(parts)

    @property
    def clock(self) -> str:
        """What is wrong with the board's clock; empty if nothing is."""
        if abs(self.ahead_s) <= CLOCK_S:
            return ""
        return f"its clock is {self.ahead_s:+.0f} s off"

    def _refuse(self, reason: str) -> None:
        raise BoardRefused(f"board {self.name!r}: {reason}")

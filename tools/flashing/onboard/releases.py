"""Releases on a board: their layout on disk, the switch between them, and the rollback.

The root folder (``/opt/siftmoe``) contains::

    blobs/SHA256            files by content; SHA256.part is an incomplete one
    incoming/ID/            release.json and its signature, until all files have arrived
    releases/ID/            a release: its files, a link to its Python environment, and after its
                            tests tested.json (golden output) and proven (answered over the network)
    envs/HASH/              environments, by the wheels in them; complete is written last
    cache/HASH/             compiled code of an environment's agent; its only writable folder
    current -> releases/ID  the release that serves; replaced by an atomic rename
    previous -> releases/ID the release that served before
    signers                 workstations whose releases this board accepts
    board.json              the agent that this board serves, and its newest release's counter
    service.json            how the agent is kept running, see `services`
    run/                    without systemd: socket, state and log of the supervisor

``current`` changes in one place, after the release has computed the golden output. An interruption
before leaves the board unchanged.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from siftmoe.tools.flashing.onboard.errors import BoardError

if TYPE_CHECKING:
    from collections.abc import Iterator

NAMESPACE: Final = "siftmoe-release"
SIGNER: Final = "siftmoe"
PROGRAM: Final = "board.pyz"
CACHE: Final = "cache"


class Board:
    """The folders of one root, and the operations on them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs, self.incoming = root / "blobs", root / "incoming"
        self.releases, self.envs, self.run = root / "releases", root / "envs", root / "run"
        self.cache = root / CACHE
        self.signers = root / "signers"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the board against a second workstation."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BoardError("somebody else is flashing this board; try again") from None
            yield

    def target(self, link: str) -> str | None:
        """Return the release that ``current`` or ``previous`` points to."""
        try:
            return os.readlink(self.root / link).rpartition("/")[2]
        except FileNotFoundError:
            return None

    def point(self, link: str, release: str) -> None:
        """Replace a link atomically."""
        new = self.root / f".{link}.new"
        new.unlink(missing_ok=True)
        new.symlink_to(f"releases/{release}")
        os.replace(new, self.root / link)
        self.sync(self.root)

    def restore(self, link: str, release: str | None) -> None:
        """Point a link where it pointed before a change that failed."""
        if release is not None:
            self.point(link, release)
        else:
            (self.root / link).unlink(missing_ok=True)
            self.sync(self.root)

    def identity(self) -> dict[str, Any]:
        """Return the agent that this board serves, and the counter of its newest release."""
        path = self.root / "board.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        return {"board": known.get("board"), "counter": known.get("counter", 0)}

    def be(self, board: str | None, counter: int) -> None:
        """Record the agent that this board serves, and the counter of its newest release."""
        part = self.root / "board.json.part"
        part.write_text(json.dumps({"board": board, "counter": counter}))
        os.replace(part, self.root / "board.json")
        self.sync(self.root)

    def sync(self, folder: Path) -> None:
        """Make renames in a folder survive a power cut."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def manifest(self, folder: Path) -> dict[str, Any]:
        """Read a release's manifest, after its signature was checked against the known signers."""
        text = (folder / "release.json").read_bytes()
        command = ["ssh-keygen", "-Y", "verify", "-f", str(self.signers), "-I", SIGNER]
        done = subprocess.run(
            [*command, "-n", NAMESPACE, "-s", str(folder / "release.json.sig")],
            input=text,
            capture_output=True,
            check=False,
        )
        if done.returncode:
            raise BoardError(
                f"release {folder.name}: not signed by whom this board takes releases from "
                f"({done.stderr.decode(errors='replace').strip()}); if the workstation's release "
                f"key was renewed, flash with --adopt"
            )
        if hashlib.sha256(text).hexdigest()[:16] != folder.name:
            raise BoardError(f"release {folder.name}: its manifest is another release's")
        found: dict[str, Any] = json.loads(text)
        return found

    def check_identity(self, manifest: dict[str, Any], *, downgrade: bool) -> None:
        """Raise BoardError for another agent's release, or one older than the newest so far."""
        known = self.identity()
        named, counter = manifest.get("agent"), manifest.get("counter", 0)
        if known["board"] not in (None, named):
            raise BoardError(
                f"the release is for agent {named!r}; this board serves {known['board']!r}"
            )
        if counter < known["counter"] and not downgrade:
            raise BoardError(
                f"the release is older (number {counter}) than the newest one on this board "
                f"(number {known['counter']}); --allow-downgrade installs it"
            )

    def counter(self, release: str) -> int:
        """Return the counter in a release's manifest, without checking its signature."""
        text = (self.releases / release / "release.json").read_text()
        return int(json.loads(text).get("counter", 0))

    # Operations on a release, in their usual order.

    def inventory(self) -> dict[str, Any]:
        """Return what is present: blobs with sizes, incomplete blobs, releases."""
        blobs = {path.name: path.stat().st_size for path in self.blobs.glob("*")}
        releases = sorted(p.parent.name for p in self.releases.glob("*/tested.json"))
        return {
            "blobs": blobs,
            "releases": releases,
            "current": self.target("current"),
            "previous": self.target("previous"),
            **self.identity(),
            "signers": self.signers.read_text().strip() if self.signers.exists() else None,
        }

    def prepare(
        self,
        *,
        signers: str,
        service: dict[str, Any],
        board: str | None = None,
        adopt: bool = False,
    ) -> dict[str, Any]:
        """Make the folders; store the accepted signers, the agent's name and its service.

        Parameters
        ----------
        signers : str
            Line of ssh-keygen's allowed signers.
        service : dict
            How the agent is kept running.
        board : str or None
            Agent whose releases the board takes.
        adopt : bool
            Accept another signer, or another agent's name, than before.
        """
        if self.signers.exists() and self.signers.read_text().strip() != signers and not adopt:
            raise BoardError("this board takes releases of another workstation; use --adopt")
        folders = (self.blobs, self.incoming, self.releases, self.envs, self.run, self.cache)
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)  # private keys pass through
        known = self.identity()
        if known["board"] not in (None, board):
            if not adopt:
                raise BoardError(
                    f"this board serves agent {known['board']!r}, not {board!r}; use --adopt"
                )
            known["counter"] = 0
        self.be(board, known["counter"])
        self.signers.write_text(signers + "\n")
        (self.root / "service.json").write_text(json.dumps(service))
        return {}

    def arguments(self, release: str) -> list[str]:
        """Return the agent's arguments in a release's manifest, without checking its signature."""
        text = (self.releases / release / "release.json").read_text()
        return list(json.loads(text)["arguments"])

    def agent_command(self, folder: Path, manifest: dict[str, Any]) -> list[str]:
        """Return a release's agent command; ``{release}`` in an argument is its folder."""
        given = [argument.replace("{release}", str(folder)) for argument in manifest["arguments"]]
        return [str(folder / "venv" / "bin" / "python"), "-m", "siftmoe.agent", *given]

    def environment(self, folder: Path) -> dict[str, str]:
        """Return a release's environment variables: cache of compiled code, and its name."""
        cache = self.cache / os.readlink(folder / "venv").rpartition("/")[2]
        return {"NUMBA_CACHE_DIR": str(cache), "SIFTMOE_RELEASE": folder.name}

    def tested(self, release: str | None) -> dict[str, Any] | None:
        """Return the result of a release's self-test on this board; None if there is none."""
        path = self.releases / (release or ".none") / "tested.json"
        return dict(json.loads(path.read_text())) if path.exists() else None

    def change_to(self, release: str) -> None:
        """Point ``current`` at a tested release, and ``previous`` at the one before.

        A release that never answered does not become ``previous``, unless there is no other.
        """
        self.manifest(self.releases / release)
        if self.tested(release) is None:
            raise BoardError(f"release {release} has not proven itself on this board; install it")
        before = self.target("current")
        if before == release:
            return
        if before is not None and (self.proven(before) or self.target("previous") is None):
            self.point("previous", before)
        self.point("current", release)

    def change_back(self) -> str:
        """Point ``current`` at the previous release; returns it.

        The two are exchanged, unless the release that is left never answered.
        """
        current, previous = self.target("current"), self.target("previous")
        if previous is None or self.tested(previous) is None:
            raise BoardError("there is no release to go back to")
        self.point("current", previous)
        if current is not None and self.proven(current):
            self.point("previous", current)
        else:
            (self.root / "previous").unlink()
        return previous

    def proven(self, release: str | None) -> bool:
        """Whether a release ever answered over the network."""
        return release is not None and (self.releases / release / "proven").exists()

    def forget(self) -> list[str]:
        """Remove the previous release with its keys."""
        (self.root / "previous").unlink(missing_ok=True)
        return self.prune()

    def may_stay(self) -> bool:
        """Whether the current release has answered over the network, or no other has."""
        proven = self.proven(self.target("current"))
        return proven or not self.proven(self.target("previous"))

    def prove(self, release: str) -> dict[str, Any]:
        """Record that a release answered over the network; the board then keeps it."""
        self.be(self.identity()["board"], self.counter(release))
        (self.releases / release / "proven").touch()
        self.sync(self.releases / release)
        return {"proven": release, "removed": self.prune()}

    def prune(self) -> list[str]:
        """Remove releases other than current and previous, and files that no release uses."""
        kept = {self.target("current"), self.target("previous")}
        removed = [p.name for p in self.releases.iterdir() if p.name not in kept]
        for name in removed:
            shutil.rmtree(self.releases / name)
        used = {Path(os.path.realpath(link)).name for link in self.releases.glob("*/venv")}
        for folder in (*self.envs.iterdir(), *self.cache.glob("*")):
            if folder.name not in used:
                shutil.rmtree(folder)
        for blob in self.blobs.iterdir():
            if blob.suffix != ".part" and blob.stat().st_nlink == 1:
                blob.unlink()
        return removed

"""Installs a release on a board: checks its files, makes its environment, runs its self-test."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any, Final

from siftmoe.tools.flashing.onboard.errors import BoardError
from siftmoe.tools.flashing.onboard.releases import Board
from siftmoe.tools.flashing.onboard.self_test import call, compute, find_radio, radio_of

_CHUNK: Final = 1 << 20


def install(board: Board, release: str, *, downgrade: bool = False) -> dict[str, Any]:
    """Unpack a release unless that is done, and test it before it serves.

    With ``downgrade`` it may be older than the newest one on the board.

    The golden output is computed once. The radio is looked for before every switch, because a
    radio may have been unplugged since.
    """
    folder = board.releases / release
    laid_out = (folder / "tested.json").exists()
    manifest = board.manifest(folder) if laid_out else _lay_out(board, release, downgrade)
    board.check_identity(manifest, downgrade=downgrade)
    command = board.agent_command(folder, manifest)
    tested = (board.tested(release) if laid_out else None) or _test(board, release, command)
    radio, current = radio_of(command), board.target("current")
    if radio is not None and current != release:
        held = current is not None and radio == radio_of(board.arguments(current))
        tested["radio"] = find_radio(command[0], radio, held_by_agent=held)
    return tested


def _lay_out(board: Board, release: str, downgrade: bool) -> dict[str, Any]:
    """Check every file, link it into the release, make the environment; returns the manifest."""
    folder = board.releases / release
    manifest = board.manifest(board.incoming / release)
    board.check_identity(manifest, downgrade=downgrade)  # before anything is unpacked
    shutil.rmtree(folder, ignore_errors=True)  # left by an interruption
    for name, entry in manifest["files"].items():
        _place(board, folder, name, entry)
    for name in ("release.json", "release.json.sig"):
        shutil.copy2(board.incoming / release / name, folder / name)
    _environment(board, folder)
    return manifest


def _test(board: Board, release: str, command: list[str]) -> dict[str, Any]:
    """Let a release compute the golden output, and store the result."""
    folder = board.releases / release
    tested = compute(command, board.environment(folder))
    part = folder / "tested.json.part"
    part.write_text(json.dumps(tested))
    os.sync()  # everything that the marker stands for reaches the disk before it
    os.replace(part, folder / "tested.json")
    board.sync(folder)
    shutil.rmtree(board.incoming / release)
    return tested


def _place(board: Board, folder: Path, name: str, entry: dict[str, Any]) -> None:
    path = folder / name
    if ".." in path.parts or not path.is_relative_to(folder):
        raise BoardError(f"file {name!r} would not be inside the release")
    blob, part = board.blobs / entry["sha256"], board.blobs / f"{entry['sha256']}.part"
    source = blob if blob.exists() else part
    if not source.exists():
        raise BoardError(f"file {name!r} did not arrive; flash again")
    if sha256(source) != entry["sha256"]:
        source.unlink()
        raise BoardError(f"file {name!r} arrived damaged and was removed; flash again")
    source.chmod(entry["mode"])
    os.replace(source, blob)
    path.parent.mkdir(parents=True, exist_ok=True)
    os.link(blob, path)


def _environment(board: Board, folder: Path) -> None:
    """Link a release to its Python environment; releases with the same wheels share one."""
    wanted = sha256(folder / "requirements.txt")[:16]
    environment = board.envs / wanted
    if not (environment / "complete").exists():
        shutil.rmtree(environment, ignore_errors=True)  # left by an interruption
        _install_wheels(environment, folder)
        os.sync()
        (environment / "complete").touch()
    (folder / "venv").symlink_to(f"../../envs/{wanted}")


def sha256(path: Path) -> str:
    """Hash of a file, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _install_wheels(environment: Path, folder: Path) -> None:
    """Make a Python environment from the release's own wheels, without an index."""
    call([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    pip = next((folder / "wheels").glob("pip-*.whl"))
    install = [str(environment / "bin" / "python"), f"{pip}/pip", "install", "--quiet"]
    install += ["--no-index", "--no-deps", "--no-compile"]
    wheels = ["--find-links", str(folder / "wheels"), "--require-hashes"]
    # pip must not read the board's configuration
    isolated = {"PIP_CONFIG_FILE": os.devnull, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    call([*install, *wheels, "-r", str(folder / "requirements.txt")], isolated)

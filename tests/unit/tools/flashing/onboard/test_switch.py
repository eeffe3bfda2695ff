"""The switch to a release that cannot be started: the board keeps the release before."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest

from siftmoe.tools.flashing.onboard import command
from siftmoe.tools.flashing.onboard.errors import BoardError
from siftmoe.tools.flashing.onboard.receiving import receive
from siftmoe.tools.flashing.onboard.releases import Board


class Failing:
    """A service that starts only the given release."""

    def __init__(self, board: Board, good: str, *, at: str) -> None:
        self.board, self.good, self.at = board, good, at
        self.removed = False

    def prepare(self) -> None:
        if self.at == "prepare":
            raise BoardError("/etc/systemd/system/x cannot be written: Read-only file system")

    def restart(self) -> str:
        if self.board.target("current") == self.good:
            return ""
        if self.at == "error":
            raise OSError("sudo is gone")
        return "it crashed"

    def remove(self) -> None:
        self.removed = True


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    board = Board(tmp_path)
    monkeypatch.setattr(Board, "manifest", lambda *_: {})
    for name in ("old", "new", "older"):
        (board.releases / name).mkdir(parents=True)
        (board.releases / name / "tested.json").write_text("{}")
        (board.releases / name / "proven").touch()
    return board


@pytest.mark.parametrize("at", ["prepare", "restart", "error"])
def test_a_failed_switch_leaves_the_release_before(
    board: Board, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    board.point("current", "old")
    board.point("previous", "older")
    service = Failing(board, "old", at=at)
    monkeypatch.setattr(command, "service_of", lambda _: service)
    with pytest.raises(BoardError, match=r"cannot be written|release old serves again"):
        command._switch(board, "new")
    assert (board.target("current"), board.target("previous")) == ("old", "older")
    assert not service.removed


@pytest.mark.parametrize("at", ["prepare", "restart", "error"])
def test_a_first_release_that_fails_leaves_none(
    board: Board, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    service = Failing(board, "", at=at)
    monkeypatch.setattr(command, "service_of", lambda _: service)
    with pytest.raises(BoardError, match=r"cannot be written|serves none now"):
        command._switch(board, "new")
    assert (board.target("current"), board.target("previous")) == (None, None)


def stream(*files: tuple[str, int, bytes], cut: int = 0) -> io.BytesIO:
    parts = [
        json.dumps({"name": name, "offset": offset, "num_bytes": len(data)}).encode() + b"\n" + data
        for name, offset, data in files
    ]
    text = b"".join(parts)
    return io.BytesIO(text[: len(text) - cut])


DIGEST, RELEASE = "a" * 64, "0123456789abcdef"


def test_a_transfer_that_is_cut_continues_where_it_was(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.blobs.mkdir()
    with pytest.raises(BoardError, match="ended early; flash again"):
        receive(board, RELEASE, stream((DIGEST, 0, b"x" * 100), cut=40))
    part = board.blobs / f"{DIGEST}.part"
    assert part.read_bytes() == b"x" * 60
    said = receive(board, RELEASE, stream(("release.json", 0, b"{}"), (DIGEST, 60, b"y" * 40)))
    assert said == {"num_bytes": 40}
    assert part.read_bytes() == b"x" * 60 + b"y" * 40
    assert (board.incoming / RELEASE / "release.json").read_bytes() == b"{}"
    assert part.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("name", ["../../evil", "release.json/x", "a" * 63, "A" * 64])
def test_a_transfer_writes_nowhere_else(tmp_path: Path, name: str) -> None:
    board = Board(tmp_path / "root")
    with pytest.raises(BoardError, match="is no file of a release"):
        receive(board, RELEASE, stream((name, 0, b"x")))
    with pytest.raises(BoardError, match="is no name of a release"):
        receive(board, f"../{RELEASE}", stream((DIGEST, 0, b"x")))


@pytest.mark.parametrize(
    ("manifest", "downgrade", "reason"),
    [
        ({"agent": "left", "counter": 3}, False, None),
        ({"agent": "left", "counter": 2}, False, "older .number 2. than the newest"),
        ({"agent": "left"}, False, "older .number 0. than the newest"),
        ({"agent": "left", "counter": 2}, True, None),
        ({"agent": "right", "counter": 4}, True, "is for agent 'right'; this board serves 'left'"),
    ],
)
def test_a_board_refuses_others_releases_and_older_ones(
    tmp_path: Path, manifest: dict[str, Any], downgrade: bool, reason: str | None
) -> None:
    board = Board(tmp_path)
    board.prepare(signers="me", service={}, board="left")
    board.be("left", 3)
    if reason is None:
        board.check_identity(manifest, downgrade=downgrade)
        return
    with pytest.raises(BoardError, match=reason):
        board.check_identity(manifest, downgrade=downgrade)


def test_a_board_serves_another_agent_only_if_told(tmp_path: Path) -> None:
    board = Board(tmp_path)
    board.prepare(signers="me", service={}, board="left")
    with pytest.raises(BoardError, match="serves agent 'left', not 'right'; use --adopt"):
        board.prepare(signers="me", service={}, board="right")
    board.be("left", 3)
    board.prepare(signers="me", service={}, board="right", adopt=True)
    assert board.identity() == {"board": "right", "counter": 0}

"""Boards that cannot take a release, refused before anything is built or sent."""

from __future__ import annotations

from typing import Any

import pytest

from siftmoe.tools.flashing.building.release import Piece, Release
from siftmoe.tools.flashing.errors import BoardRefused
from siftmoe.tools.flashing.preflight import Preflight

FACTS = {
    "python": "3.10",
    "free_bytes": 10e9,
    "user_id": 1000,
    "writable": True,
    "systemd": True,
    "sudo": True,
    "units": True,
    "missing": [],
}
INVENTORY = {"signers": "me", "board": "left", "counter": 3, "releases": [], "blobs": {}}
RELEASE = Release(
    name="0123456789abcdef",
    content="",
    counter=4,
    manifest=b"{}",
    signature=b"",
    pieces={"wheels/a.whl": Piece.of_bytes(b"x" * 1000)},
)


def preflight(*, service: str = "auto", ahead_s: float = 0.0, **facts: Any) -> Preflight:
    inventory = {**INVENTORY, **{k: facts.pop(k) for k in list(facts) if k in INVENTORY}}
    return Preflight(
        name="left",
        root="/opt/siftmoe",
        facts={**FACTS, **facts},
        inventory=inventory,
        service=service,
        ahead_s=ahead_s,
    )


def check(found: Preflight, **allowed: bool) -> None:
    options = {"adopt": False, "allow_downgrade": False, **allowed}
    found.check_access()
    found.check_release(RELEASE, signer="me", **options)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"sudo": False}, "root is needed to write systemd units, and sudo asks for a password"),
        ({"sudo": False, "writable": False}, "root is needed to make /opt/siftmoe"),
        ({"units": False}, "/etc/systemd/system cannot be written .is /etc read-only"),
        ({"user_id": 0, "units": False}, "/etc/systemd/system cannot be written"),
        ({"missing": ["ssh-keygen"]}, "ssh-keygen is missing there"),
        ({"signers": "other"}, "another workstation; --adopt"),
        ({"board": "right"}, "serves agent 'right'; check its ssh address"),
        ({"counter": 5}, r"number 4\) is older than .*number 5\); --allow-downgrade"),
        ({"free_bytes": 5000.0}, "0 MB are free, the release needs 0 MB; make room"),
    ],
)
def test_a_board_that_cannot_take_it_is_refused(facts: dict[str, Any], reason: str) -> None:
    with pytest.raises(BoardRefused, match=f"board 'left': .*{reason}"):
        check(preflight(**facts))


@pytest.mark.parametrize(
    ("facts", "allowed"),
    [
        ({}, {}),
        ({"user_id": 0, "sudo": False}, {}),
        ({"service": "supervisor", "sudo": False, "units": False}, {}),
        ({"counter": 5}, {"allow_downgrade": True}),
        ({"board": "right", "counter": 5}, {"adopt": True}),
        ({"board": None, "counter": 0}, {}),
    ],
)
def test_others_are_not(facts: dict[str, Any], allowed: dict[str, bool]) -> None:
    check(preflight(**facts), **allowed)


def test_a_dry_run_says_what_there_is() -> None:
    found = preflight(ahead_s=-120.0)
    assert found.describe() == (
        "Python 3.10, systemd, sudo to write systemd units, 10.0 GB free, its clock is -120 s off"
    )
    found = preflight(user_id=0, systemd=False)
    assert found.describe() == "Python 3.10, supervisor, no sudo needed, 10.0 GB free"

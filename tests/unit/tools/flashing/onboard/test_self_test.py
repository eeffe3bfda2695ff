"""The look at a board's radio when it fails; tests/loopback/commands/test_flash.py has successes.

A radio on USB that another program holds is not available here: a script prints the look's answer.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from siftmoe.tools.flashing.onboard import self_test
from siftmoe.tools.flashing.onboard.errors import BoardError
from siftmoe.tools.flashing.onboard.self_test import find_radio, radio_of

if TYPE_CHECKING:
    from pathlib import Path

URI = "usb:1.5.5"


def saying(folder: Path, **answer: Any) -> str:
    script = folder / "python"
    script.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n")
    script.chmod(0o755)
    return str(script)


def test_a_radio_that_the_serving_agent_holds_is_there(tmp_path: Path) -> None:
    python = saying(tmp_path, busy=f"radio {URI!r}: Device or resource busy")
    assert find_radio(python, URI, held_by_agent=True) == (
        f"radio {URI}: held by the agent that serves, not looked at"
    )


def test_a_radio_that_somebody_else_holds_is_not(tmp_path: Path) -> None:
    python = saying(tmp_path, busy=f"radio {URI!r}: Device or resource busy")
    with pytest.raises(BoardError, match=r"busy\. The board keeps what it has; connect the radio"):
        find_radio(python, URI, held_by_agent=False)


def test_a_missing_library_is_named(tmp_path: Path) -> None:
    python = saying(tmp_path, error="a Pluto needs the system library libiio 0.24")
    with pytest.raises(BoardError, match=r"libiio 0\.24\. The board keeps"):
        find_radio(python, URI, held_by_agent=True)


def test_a_look_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "python"
    script.write_text("#!/bin/sh\nexec sleep 60\n")
    script.chmod(0o755)
    monkeypatch.setattr(self_test, "_LOOK_S", 0.2)
    with pytest.raises(BoardError, match=r"pluto\.look usb:1\.5\.5 was not over after 0\.2 s"):
        find_radio(str(script), URI, held_by_agent=True)


def test_the_radio_is_that_of_the_command_line() -> None:
    assert radio_of(["python", "--name=x", "--radio=ip:192.168.2.1", "--json"]) == (
        "ip:192.168.2.1"
    )
    assert radio_of(["python", "--name=x"]) is None

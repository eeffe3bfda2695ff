"""Self-test of a release on its board before it serves: golden output and radio.

Both tests run in the new release's own environment, beside the agent that serves now. The radio is
read through the driver's own libraries and no setting is changed: a transmission of the serving
agent continues.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from siftmoe.tools.flashing.onboard.errors import BoardError

_RADIO: Final = "--radio="
#: Time limit of a look at the radio: it takes 0.3 s, libiio is given up after 20 s, and Python
#: starts slowly from a slow card.
_LOOK_S: Final = 60.0


def compute(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Load the release's experts and compare what they compute with the golden output.

    Parameters
    ----------
    command : list of str
        Command line of its agent.
    environment : dict
        Variables added to the board's own; they name the cache of compiled code.
    """
    started = json.loads(call([*command, "--check", "--json"], environment).splitlines()[-1])
    return {
        "provider": started["provider"],
        "refused": started["refused"],
        "experts": len(started["residents"]),
        "memory_bytes": started["memory_bytes"],
        "packing": started["packing"],
    }


def radio_of(command: list[str]) -> str | None:
    """Return the address of the radio in an agent's command line; None if it has none."""
    given = [option.removeprefix(_RADIO) for option in command if option.startswith(_RADIO)]
    return given[-1] if given else None


def find_radio(python: str, uri: str, *, held_by_agent: bool) -> str:
    """Look at a radio and describe it in a line.

    Parameters
    ----------
    python : str
        Interpreter of the release.
    uri : str
    held_by_agent : bool
        Whether the serving agent uses the same radio. Over USB only one program can open it; if it
        is in use, it is there.

    Raises
    ------
    BoardError
        If it does not answer; the message has the reason and the remedy.
    """
    command = [python, "-m", "siftmoe.radio.pluto.look", uri]
    answer = json.loads(call(command, limit_s=_LOOK_S).splitlines()[-1])
    if "found" in answer:
        found = answer["found"]
        return f"radio {uri}: {found['model'] or 'Pluto'}, serial {found['serial'] or 'not told'}"
    if "busy" in answer and held_by_agent:
        return f"radio {uri}: held by the agent that serves, not looked at"
    reason = answer.get("absent") or answer.get("busy") or answer.get("error")
    raise BoardError(
        f"{reason}. The board keeps what it has; connect the radio and flash again, or leave its "
        f"address out of the testbed"
    )


def call(
    command: list[str], environment: dict[str, str] | None = None, *, limit_s: float | None = None
) -> str:
    """Run a program to its end and return its output.

    Raises
    ------
    BoardError
        If it fails, with its last output, or exceeds its time limit.
    """
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit_s,
        )
    except subprocess.TimeoutExpired:
        name = " ".join([Path(command[0]).name, *command[1:]])
        raise BoardError(f"{name} was not over after {limit_s:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-2_000:]
        raise BoardError(f"{Path(command[0]).name} … ended with {done.returncode}: {said}")
    return done.stdout

"""What a release has to show on its board before it serves: experts that compute, and its radio.

Both run in the new release's own environment, beside the agent that serves now. The radio is looked
at through the driver's own libraries and nothing on it is set: a transmission of the agent that
serves goes on.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, Final

from siftmoe.tools.flashing.onboard.errors import BoardError

_RADIO: Final = "--radio="
#: A look takes 0.3 s, and the look itself gives up libiio after 20 s; Python has to start on a slow
#: card.
_LOOK_S: Final = 60.0


def compute(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Load the release's experts and compare what they compute with the golden output.

    Parameters
    ----------
    command : list of str
        Starts its agent.
    environment : dict
        Variables beside the board's own; what is compiled is kept where they say.
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
    """Address of the radio that an agent is started with."""
    given = [option.removeprefix(_RADIO) for option in command if option.startswith(_RADIO)]
    return given[-1] if given else None


def find_radio(python: str, uri: str, *, held_by_agent: bool) -> str:
    """Look at a radio and say what it is.

    Parameters
    ----------
    python : str
        Interpreter of the release.
    uri : str
    held_by_agent : bool
        Whether the agent that serves now has the same radio. Over USB one program holds it; that it
        is held is then the sign that it is there.

    Raises
    ------
    BoardError
        If it does not answer, with the reason and the way out.
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
    """Run a program to its end and return what it printed.

    Raises
    ------
    BoardError
        If it fails, with what it said last, or is not over in time.
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

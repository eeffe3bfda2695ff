"""Text of users, files and peers on the terminal: brackets, emoji names, control characters."""

from __future__ import annotations

import pytest
from rich.text import Text

from siftmoe.tools.flashing.progress import Bars
from siftmoe.tools.radios.live_table import Watched
from siftmoe.tools.terminal.console import stderr_console, stdout_console
from siftmoe.tools.terminal.progress import progress_bar
from siftmoe.tools.terminal.tables import table
from siftmoe.tools.watching.table import Screen, once

TEXTS = [
    "[INST] hi [/INST]",
    "[sounding] and [[agent]]",
    "[bold]not bold[/bold]",
    "[/]",
    r"a backslash \[kept]",
    ":warning: :smile:",
    "[link=https://example.org]x[/link]",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_text_is_printed_as_it_is(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    stdout_console().print(text)
    stderr_console().print(text, style="bold", end="")
    stdout_console().print(table(["name", "figure"], [[text, text]]))
    with progress_bar(text, 1) as advance:
        advance(1)
    with Bars([text]) as bars:
        bars.phase(text, text)  # a line where there is no terminal
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == text
    assert said.out.count(text) == 3
    assert f"{text}: {text}" in said.err
    assert said.err.count(text) >= 4


@pytest.mark.parametrize("text", TEXTS)
def test_what_an_agent_or_a_radio_says_is_no_markup(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {
        "agent": text,
        "state": "dead",
        "reason": text,
        "release": text,
        "version": "",
        "provider": text,
        "experts": 1,
        "stats": None,
        "hot": [],
        "board": {"current": text, "previous": text, "service": {"state": text}, "error": text},
        "rows_per_s": None,
        **dict.fromkeys(("queue", "memory_bytes", "memory_free_bytes", "temperature_c", "power_w")),
    }
    stdout_console(wide=True).print(once([row]))
    said = capsys.readouterr().out
    # the agent's name in both tables and the remark, provider, service, and two reasons
    assert said.count(text) >= 7
    assert text[:8] in said  # releases
    with Screen() as screen:
        screen.show([row])
    watched = Watched()
    watched.add({"tx": text, "rx": "b", "detected": False, "reason": text} | _NOT_MEASURED)
    stdout_console(wide=True).print(watched.view())
    assert capsys.readouterr().out.count(text) >= 5


_NOT_MEASURED = dict.fromkeys(
    ("path_gain_db", "path_gain_std_db", "snr_db", "cfo_hz", "noise_dbm"), None
)


def test_a_peer_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    text = "\x1b[2J\x1b]0;owned\x07 gone\x9b31m\r"
    stdout_console().print(text)
    stdout_console().print(table(["name", "figure"], [[Text(text), text]]))
    said = capsys.readouterr().out
    assert not {"\x1b", "\x07", "\x9b", "\r"} & set(said)
    assert said.splitlines()[0] == r"\x1b[2J\x1b]0;owned\x07 gone\x9b31m\r"

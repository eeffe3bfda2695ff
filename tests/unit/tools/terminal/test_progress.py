"""Feedback while something takes long: a total for every bar, and a line before heavy imports."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from siftmoe.tools.comparing.exchange_rate import MOST_RUNS
from siftmoe.tools.terminal.progress import progress_bar, working

#: Runs a command whose heavy packages end it as soon as they are imported.
PROGRAM = """
import sys

class Heavy:
    def find_spec(self, name, path=None, target=None):
        if name in ("torch", "numba"):
            raise SystemExit(f"{name} is imported now")

sys.meta_path.insert(0, Heavy())
from siftmoe.tools.cli import main
sys.exit(main(sys.argv[1:]))
"""


def test_a_bar_that_ends_early_is_complete(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("rate", MOST_RUNS, at_most=True) as advance:
        advance(3)
    assert "3/3" in capsys.readouterr().err
    with progress_bar("texts", 5) as advance:
        advance(3)
    assert "3/5" in capsys.readouterr().err


def test_a_pipe_has_no_spinner(capsys: pytest.CaptureFixture[str]) -> None:
    with working("reading [bold]tasks[/bold]"):
        pass
    assert capsys.readouterr().err.strip() in ("", "reading [bold]tasks[/bold]")


@pytest.mark.parametrize("arguments", [["loopback"], ["experiment", "quality"]])
def test_a_terminal_shows_a_line_before_anything_heavy_is_imported(arguments: list[str]) -> None:
    master, terminal = os.openpty()
    try:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            stdout=subprocess.PIPE,
            stderr=terminal,
            check=False,
        )
        os.close(terminal)
        said = os.read(master, 10_000).decode()
    finally:
        os.close(master)
    assert done.returncode == 1
    first, second = said.splitlines()[:2]
    assert first == f"siftmoe {arguments[0]}: loading PyTorch and Transformers"
    assert "is imported now" in second

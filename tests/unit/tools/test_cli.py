"""The command line: help without weight, usage errors, errors without a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from siftmoe.agent.errors import AgentError
from siftmoe.coordinator.errors import CoordinatorError
from siftmoe.models.errors import ModelError
from siftmoe.radio.errors import RadioError
from siftmoe.tools import cli
from siftmoe.tools.cli import COMMANDS, main

if TYPE_CHECKING:
    import argparse

HEAVY = ("torch", "transformers", "numpy", "zmq", "rich", "onnxruntime", "matplotlib", "numba")


def exit_status(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    return int(str(exit_.value.code))


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("--help") == 0
    said = capsys.readouterr().out
    for name, (_, summary) in COMMANDS.items():
        assert name in said
        assert summary in " ".join(said.split())


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_loads_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom siftmoe.tools.cli import main\n"
        "try:\n    main(sys.argv[1:])\n"
        "except SystemExit as exit_:\n    status = exit_.code or 0\n"
        f"print('loaded', *(set(sys.modules) & {set(HEAVY)!r}))\nsys.exit(status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "loaded"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_ends_with_an_example(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(name, "--help") == 0
    last = capsys.readouterr().out.rstrip().split("\n\n")[-1]
    assert last.startswith("example")
    assert f"siftmoe {name} " in last


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status("--version") == 0
    assert capsys.readouterr().out == f"siftmoe {version('siftmoe')}\n"


@pytest.mark.parametrize("arguments", [["fly"], ["--fast"], ["--fast", "doctor"]])
def test_what_is_no_command_is_wrong_usage(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status(*arguments) == 2
    assert "error: " in capsys.readouterr().err


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_status() == 0
    assert "usage: siftmoe" in capsys.readouterr().out


def guarded(error: BaseException, *, verbose: bool = False) -> int:
    def run(_: argparse.Namespace) -> int:
        raise error

    module: Any = SimpleNamespace(run=run)
    args: Any = SimpleNamespace(verbose=verbose)
    return cli._guarded(module, args)


@pytest.mark.parametrize(
    "kind", [AgentError, CoordinatorError, ModelError, RadioError, ValueError, OSError]
)
def test_an_expected_error_is_one_line(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    assert guarded(kind("bundle 'x' has no manifest")) == 1
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "error: bundle 'x' has no manifest\n")


def test_an_unexpected_error_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(ZeroDivisionError("a mistake of ours"))


def test_an_interrupt_has_the_shells_status(capsys: pytest.CaptureFixture[str]) -> None:
    assert guarded(KeyboardInterrupt()) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_verbose_says_where_an_error_came_from(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("DEBUG"):
        assert guarded(ValueError("no"), verbose=True) == 1
    assert "Traceback" in caplog.text


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_went_away_ends_it_silently(unbuffered: str) -> None:
    """As in ``siftmoe doctor | head -0``."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "siftmoe.tools.cli", "doctor"]
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            command,
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
    assert (done.returncode, done.stderr) == (1, "")

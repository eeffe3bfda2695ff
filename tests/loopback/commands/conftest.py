"""Fixtures of ``siftmoe loopback``: its cache of bundles, processes, and finished runs."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import psutil
import pytest
from loopback_runs import SMALL, run_here

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from loopback_runs import Run, Start


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Bundles of the shipped checkpoints are prepared once, and not where the user's are."""
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}


@pytest.fixture
def start(environment: dict[str, str], tmp_path: Path) -> Iterator[Start]:
    """Start ``siftmoe loopback`` in an empty folder; what is left of it in the end is killed."""
    started: list[psutil.Process] = []

    def start(*arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "siftmoe.tools.cli", "loopback", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=tmp_path,
        )
        started.append(psutil.Process(process.pid))
        return process

    yield start
    for process in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            for one in [*process.children(), process]:
                one.kill()


@pytest.fixture(scope="session")
def finished(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two runs with the same seed and one with another: folder and printed results of each."""
    root = tmp_path_factory.mktemp("runs")
    arguments = [
        [*SMALL, "--json", "--seed", seed, "--out", str(root / name)]
        for name, seed in (("first", "3"), ("again", "3"), ("other", "4"))
    ]
    command = [sys.executable, "-m", "siftmoe.tools.cli", "loopback", *arguments[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    printed = [done.stdout]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", environment["XDG_CACHE_HOME"])
        for more in arguments[1:]:
            status, out, err = run_here(*more)
            assert status == 0, err
            printed.append(out)
    names = ("first", "again", "other")
    return [(root / name, json.loads(text)) for name, text in zip(names, printed, strict=True)]

"""A reader who does what a page says: runs its commands, writes its files, executes its Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blocks import ROOT, simple_commands

from siftmoe.tools.cli import main

if TYPE_CHECKING:
    from blocks import Block

#: Folders of the clone in which a reader stands.
OF_THE_CLONE = ("models", "examples")
BUNDLE = "my.bundle"
#: For an agent or an emulator to be ready on a loaded machine.
PATIENCE_S = 60.0


class Reader:
    """One page's reader.

    Parameters
    ----------
    folder : Path
        Where the reader stands, the current folder.
    bundle : Path
        What ``siftmoe prepare … --out my.bundle`` makes; made once for all pages.
    """

    def __init__(self, folder: Path, bundle: Path) -> None:
        self._folder = folder
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._started: list[subprocess.Popen[str]] = []
        for name in OF_THE_CLONE:
            (folder / name).symlink_to(ROOT / name)
        (folder / BUNDLE).symlink_to(bundle)

    def follow(self, block: Block) -> None:
        """Do what a block says."""
        if block.mark == "file":
            (self._folder / block.value).write_text(block.body, encoding="utf-8")
        elif block.is_run and block.language == "python":
            exec(compile(block.body, str(block), "exec"), self._names)
        elif block.is_run:
            for command in block.commands():
                self._run(command)

    def _run(self, command: str) -> None:
        (words,) = simple_commands(command)
        if words[0] != "siftmoe":
            raise AssertionError(f"{command}: other programs are not run here; say why not")
        if command.partition("#")[0].rstrip().endswith("&"):
            self._start(words[1:])
        elif words[1] != "prepare":  # the bundle is there already
            assert main(words[1:]) == 0, command

    def _start(self, arguments: list[str]) -> None:
        """Start a program in the background and wait until it says something."""
        process = subprocess.Popen(
            [sys.executable, "-m", "siftmoe.tools.cli", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            cwd=self._folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        self._started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline(), f"siftmoe {' '.join(arguments)}: ended without a word"

    def leave(self) -> None:
        """End what runs in the background."""
        for process in reversed(self._started):
            process.terminate()
        for process in self._started:
            process.communicate(timeout=PATIENCE_S)

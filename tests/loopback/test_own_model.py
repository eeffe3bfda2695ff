"""The commands of the page on own models work as they stand, on a model of four experts."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from families import save_checkpoint

import siftmoe.models.tiny.files
from siftmoe.models.tiny.files import checkpoint_dir
from siftmoe.tools.cli import main

PAGE = Path(siftmoe.models.tiny.files.__file__).resolve().parents[2] / "docs/how-to/own-model.md"
#: Options that only shorten the run.
QUICK = {
    "prepare": ["--calibration-tokens", "1024", "--widths", "none"],
    "loopback": ["--items", "1", "--tokens", "2", "--policy", "topk,siftmoe:tolerance=0.2"],
}


def commands_of_the_page() -> list[list[str]]:
    """The commands of the page's first block, without the program's name."""
    block = re.search(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert block is not None
    return [shlex.split(line, comments=True)[1:] for line in block[1].splitlines()]


def test_the_page_s_commands_run_a_model_of_four_experts(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    commands = commands_of_the_page()
    assert [command[0] for command in commands] == ["prepare", "loopback"]
    model = save_checkpoint(
        "qwen3_moe", tmp_path / commands[0][1], vocab_size=2048, max_position_embeddings=512
    )
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, model)
    for command in commands:
        assert main([*command, *QUICK[command[0]]]) == 0, capsys.readouterr().err
    assert "4 agents" in capsys.readouterr().out

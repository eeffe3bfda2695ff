"""The two commands of README's "Your own model" work as they stand."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

from families import save_checkpoint

import siftmoe.models.tiny.files
from siftmoe.models.tiny.files import checkpoint_dir
from siftmoe.tools.cli import main

README = Path(siftmoe.models.tiny.files.__file__).resolve().parents[2] / "README.md"
#: Options that only shorten the run.
QUICK = {
    "prepare": ["--calibration-tokens", "1024", "--widths", "none"],
    "loopback": ["--items", "1", "--tokens", "2", "--policy", "topk,siftmoe:tolerance=0.2"],
}


def readme_commands() -> list[list[str]]:
    """The commands of README's section, without the path to siftmoe."""
    section = README.read_text(encoding="utf-8").partition("## Your own model")[2]
    block = re.search(r"```sh\n(.*?)```", section, flags=re.DOTALL)
    assert block is not None
    return [shlex.split(line, comments=True)[1:] for line in block[1].splitlines()]


def test_readme_s_commands_run_a_model_of_four_experts(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    model = save_checkpoint(
        "qwen3_moe", tmp_path / "MODEL_DIR", vocab_size=2048, max_position_embeddings=512
    )
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, model)
    commands = readme_commands()
    assert [command[0] for command in commands] == ["prepare", "loopback"]
    for command in commands:
        assert main([*command, *QUICK[command[0]]]) == 0, capsys.readouterr().err
    assert "4 agents" in capsys.readouterr().out

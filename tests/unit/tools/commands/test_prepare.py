from __future__ import annotations

import json

import pytest
from families import FAMILIES

from siftmoe.models.bundle.reader import Bundle
from siftmoe.tools.cli import main


def test_the_command_prepares_and_then_finds_it_done(tmp_path, capsys, family_checkpoint):
    out = tmp_path / "b"
    command = ["prepare", str(family_checkpoint("mixtral")), "--out", str(out), "--json"]
    assert main(command) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["state"] == "prepared"
    assert facts["num_experts"] == FAMILIES["mixtral"].num_experts
    assert facts["model_hash"] == Bundle.open(out).manifest.model_hash
    assert main(command[:-1]) == 0
    assert "already complete" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("model", "message"),
    [("mistralai/Mixtral-8x7B-v0.1", "is not a folder"), (".", "has no config.json")],
)
def test_what_is_no_checkpoint_is_one_line_on_stderr(tmp_path, capsys, monkeypatch, model, message):
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", model, "--out", "b"]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: checkpoint")
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_conflict_is_status_one(tmp_path, capsys, family_bundle, family_checkpoint):
    model, bundle = str(family_checkpoint("olmoe")), str(family_bundle("olmoe"))
    assert main(["prepare", model, "--out", bundle, "--dtype", "float16"]) == 1
    assert "delete the folder or give another --out" in capsys.readouterr().err


def test_an_unknown_precision_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["prepare", "m", "--out", "b", "--dtype", "int4"])
    assert exit_.value.code == 2
    assert "invalid choice: 'int4'" in capsys.readouterr().err

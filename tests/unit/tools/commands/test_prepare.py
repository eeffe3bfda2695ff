from __future__ import annotations

import json
import shutil

import pytest
from families import FAMILIES
from layouts import edit_config

from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.tiny.files import checkpoint_dir
from siftmoe.tools.cli import main


def test_the_command_prepares_and_then_finds_it_done(tmp_path, capsys, family_checkpoint):
    out = tmp_path / "b"
    model = str(family_checkpoint("mixtral"))
    command = ["prepare", model, "--out", str(out), "--calibration", "none", "--json"]
    assert main(command) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["state"] == "prepared"
    assert facts["num_experts"] == FAMILIES["mixtral"].num_experts
    assert facts["model_hash"] == Bundle.open(out).manifest.model_hash
    assert main(command[:-1]) == 0
    said = capsys.readouterr().out
    assert "already complete" in said
    assert "no profile: policies that replace or skip experts need one" in said
    assert "no tokenizer: prompts and tasks need one" in said


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A small checkpoint with as many tokens as the shipped tokenizer, but without one."""
    from families import save_checkpoint

    return save_checkpoint("mixtral", tmp_path_factory.mktemp("prepare") / "m", vocab_size=2048)


def add_tokenizer(folder):
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, folder)


def prepare(model, out, *more):
    return main(["prepare", str(model), "--out", str(out), "--json", *more])


QUICK = ("--calibration-tokens", "1024", "--widths", "none")


def test_the_profile_is_measured_on_the_shipped_text(tmp_path, capsys, checkpoint):
    model = shutil.copytree(checkpoint, tmp_path / "m")
    add_tokenizer(model)
    assert prepare(model, tmp_path / "b", *QUICK) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["calibration"] == "1024 tokens of calibration.txt"
    assert facts["tokenizer"]
    # a profile that is there is kept, whatever it was measured with
    assert prepare(model, tmp_path / "b") == 0
    assert json.loads(capsys.readouterr().out) == {**facts, "state": "already complete"}


def test_a_missing_tokenizer_is_noticed_before_anything_is_made(tmp_path, capsys, checkpoint):
    assert prepare(checkpoint, tmp_path / "b") == 1
    said = capsys.readouterr().err
    assert "has no tokenizer" in said
    assert "or give --calibration none" in said
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot be loaded"),
        (lambda folder: edit_config(folder, vocab_size=64), "it belongs to another model"),
    ],
)
def test_a_tokenizer_that_does_not_fit_is_noticed_first(
    tmp_path, capsys, checkpoint, damage, message
):
    model = shutil.copytree(checkpoint, tmp_path / "m")
    add_tokenizer(model)
    damage(model)
    assert prepare(model, tmp_path / "b") == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_tokenizer_that_comes_later_keeps_the_experts(tmp_path, capsys, checkpoint):
    model = shutil.copytree(checkpoint, tmp_path / "m")
    assert prepare(model, tmp_path / "b", "--calibration", "none") == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "b/experts").iterdir()}
    add_tokenizer(model)
    capsys.readouterr()
    assert prepare(model, tmp_path / "b", *QUICK) == 0
    facts = json.loads(capsys.readouterr().out)
    assert (facts["state"], facts["tokenizer"]) == ("profile measured", True)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "b/experts").iterdir()} == before
    Bundle.open(tmp_path / "b").verify()


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
    none = ["--calibration", "none"]
    assert main(["prepare", model, "--out", bundle, "--dtype", "float16", *none]) == 1
    assert "delete the folder or give another --out" in capsys.readouterr().err


def test_an_unknown_precision_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["prepare", "m", "--out", "b", "--dtype", "int4"])
    assert exit_.value.code == 2
    assert "invalid choice: 'int4'" in capsys.readouterr().err

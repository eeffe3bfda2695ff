from __future__ import annotations

import json

import numpy as np
import pytest

from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.similarity.file import read_profile
from siftmoe.models.tiny.files import checkpoint_dir, data_path
from siftmoe.tools.cli import main


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small model's bundle, prepared with a profile by the command."""
    import shutil

    from families import build_model

    folder = tmp_path_factory.mktemp("profile")
    build_model("mixtral", vocab_size=2048).save_pretrained(folder / "model")
    for path in checkpoint_dir("upcycled").glob("tokenizer*"):
        shutil.copy(path, folder / "model")
    assert main(command(folder)) == 0
    return folder


def command(folder, *more):
    options = ["--calibration", str(data_path("calibration")), "--calibration-tokens", "1024"]
    return ["prepare", str(folder / "model"), "--out", str(folder / "b"), *options, *more]


def test_prepare_measures_once_and_refuses_another(prepared, capsys):
    assert main(command(prepared)) == 0
    assert "already complete" in capsys.readouterr().out
    assert main(command(prepared, "--seed", "3")) == 1
    assert "--replace-profile" in capsys.readouterr().err
    assert main([*command(prepared)[:4], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["profile"] is True


def test_show_prints_a_line_for_each_layer(prepared, capsys):
    assert main(["profile", "show", str(prepared / "b")]) == 0
    out = capsys.readouterr().out
    profile = read_profile(Bundle.open(prepared / "b").manifest)
    for layer in range(2):
        assert f"layer {layer}: cosine in %" in out
        assert f"{profile.output_norm.value[layer]:.3g}" in out
        assert f"{profile.sensitivity.value[layer]:.3g}" in out
    assert "1024 tokens of calibration.txt" in out


def test_show_as_json_has_every_array(prepared, capsys):
    assert main(["profile", "show", str(prepared / "b"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    profile = read_profile(Bundle.open(prepared / "b").manifest)
    values = np.array(found["deviation"]["value"], dtype=float)
    np.testing.assert_allclose(values, profile.deviation.value)
    deviation = profile.deviation.value[1]
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    share = np.mean([deviation[i, j] < deviation[i, 4] for i, j in pairs])
    assert found["layers"][1]["replaceable"] == pytest.approx(share)
    cosine = np.mean([profile.cosine.value[1][pair] for pair in pairs])
    assert found["layers"][1]["cosine"] == pytest.approx(cosine)


@pytest.mark.parametrize(("name", "start"), [("f.svg", b"<?xml"), ("f.png", b"\x89PNG")])
def test_show_draws_the_matrices(prepared, tmp_path, name, start, capsys):
    path = tmp_path / name
    assert main(["profile", "show", str(prepared / "b"), "--out", str(path)]) == 0
    assert path.read_bytes().startswith(start)
    assert str(path) in capsys.readouterr().out


def test_a_bundle_without_a_profile_is_told_how_to_get_one(family_bundle, capsys):
    assert main(["profile", "show", str(family_bundle("mixtral"))]) == 1
    assert "has no profile; add one with 'siftmoe prepare" in capsys.readouterr().err


def test_an_unknown_figure_format_is_refused_before_anything_is_done(tmp_path, capsys):
    assert main(["profile", "show", "upcycled", "--out", str(tmp_path / "f.gif")]) == 1
    assert "ends in none of .svg" in capsys.readouterr().err

"""The class of a checkpoint is found however its release spells it; code of a folder never runs."""

from __future__ import annotations

import io

import pytest
import torch
from families import build_model, save_checkpoint
from layouts import edit_config

from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.checkpoint.architecture import build_empty_model
from siftmoe.models.checkpoint.reader import Checkpoint
from siftmoe.models.errors import UnsupportedArchitecture


@pytest.mark.parametrize(
    "changes",
    [
        {"architectures": None},
        {"architectures": ["MixTralForCausalLM"], "auto_map": {"AutoModelForCausalLM": "m.Mix"}},
        {"architectures": ["pipeline"]},
    ],
)
def test_a_class_that_transformers_spells_otherwise_is_that_of_the_type(tmp_path, changes):
    save_checkpoint("mixtral", tmp_path / "m")
    edit_config(tmp_path / "m", **changes)
    bundle = prepare_bundle(tmp_path / "m", tmp_path / "b")
    assert bundle.manifest.document.source.architecture == "MixtralForCausalLM"
    assert type(Bundle.open(bundle.root).load_backbone()).__name__ == "MixtralForCausalLM"
    wanted = build_model("mixtral").model.layers[1].mlp.experts.down_proj[2]
    read = Checkpoint.open(tmp_path / "m").read_fused(1, 2)["down_proj"][0]
    assert torch.equal(read, wanted)


def test_code_in_the_folder_never_runs_whatever_stands_on_standard_input(tmp_path, monkeypatch):
    folder = save_checkpoint("mixtral", tmp_path / "m")
    edit_config(
        folder,
        model_type="mymoe",
        architectures=["MyMoe"],
        auto_map={"AutoConfig": "own.MyConfig", "AutoModelForCausalLM": "own.MyMoe"},
    )
    ran = tmp_path / "RAN"
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 9))
    with pytest.raises(UnsupportedArchitecture, match=r"'mymoe'.*own code for it .* is never run"):
        build_empty_model(folder)
    assert not ran.exists()

"""Preparing a bundle: repeated, interrupted, refused."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap

import pytest
from families import save_checkpoint
from safetensors.torch import load_file

from siftmoe.models.bundle import parity as export_parity
from siftmoe.models.bundle import writer as bundle_writer
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.errors import BundleConflict, BundleCorrupt, CheckpointMismatch


def contents(root):
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_every_file_is_listed_and_verified(family_bundle):
    bundle = Bundle.open(family_bundle("qwen3_moe"))
    bundle.verify()
    assert contents(bundle.root).keys() - {"manifest.json"} == bundle.manifest.document.files.keys()


def test_preparing_twice_changes_nothing(tmp_path, family_bundle, family_checkpoint):
    root = shutil.copytree(family_bundle("mixtral"), tmp_path / "b")
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    stages = []
    prepare_bundle(family_checkpoint("mixtral"), root, on_progress=lambda p: stages.append(p.stage))
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    assert set(stages) == {"hash", "verify"}


def test_the_same_checkpoint_gives_the_same_bundle(tmp_path, family_bundle, family_checkpoint):
    prepare_bundle(family_checkpoint("gpt_oss"), tmp_path / "b")
    assert contents(tmp_path / "b") == contents(family_bundle("gpt_oss"))


def test_progress_ends_where_it_should(tmp_path, family_checkpoint):
    last = {}
    prepare_bundle(
        family_checkpoint("qwen2_moe"),
        tmp_path / "b",
        on_progress=lambda p: last.__setitem__(p.stage, (p.done, p.total)),
    )
    assert last.keys() == {"hash", "backbone", "experts"}
    assert all(done == total for done, total in last.values())
    assert last["experts"] == (8, 8)


class Interrupted(Exception):
    pass


def interrupt_after(experts):
    def on_progress(progress):
        if progress.stage == "experts" and progress.done == experts:
            raise Interrupted

    return on_progress


def test_an_interrupted_preparation_goes_on(
    tmp_path, monkeypatch, family_checkpoint, family_bundle
):
    folder, root = family_checkpoint("mixtral"), tmp_path / "b"
    with pytest.raises(Interrupted):
        prepare_bundle(folder, root, on_progress=interrupt_after(5))
    assert not (root / "manifest.json").exists()
    exported = []
    prove = export_parity.prove_parity

    def counted(path, *, name, **options):
        exported.append(name)
        return prove(path, name=name, **options)

    monkeypatch.setattr(export_parity, "prove_parity", counted)
    prepare_bundle(folder, root)
    assert exported == [f"expert {e} of layer 1" for e in (1, 2, 3)]
    assert contents(root) == contents(family_bundle("mixtral"))


def test_an_expert_damaged_in_between_is_exported_again(tmp_path, family_checkpoint, family_bundle):
    folder, root = family_checkpoint("mixtral"), tmp_path / "b"
    with pytest.raises(Interrupted):
        prepare_bundle(folder, root, on_progress=interrupt_after(5))
    path = root / "experts/layer_000_expert_002.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    journal = root / ".preparing/journal.jsonl"
    journal.write_bytes(journal.read_bytes() + b'{"name":"experts/layer_001_exp')  # torn line
    prepare_bundle(folder, root)
    assert contents(root) == contents(family_bundle("mixtral"))


def test_a_killed_preparation_goes_on(tmp_path, family_checkpoint, family_bundle):
    folder, root = family_checkpoint("mixtral"), tmp_path / "b"
    code = """
        import os, signal, sys
        from siftmoe.models.bundle.writer import prepare_bundle
        def kill(progress):
            if progress.stage == "experts" and progress.done == 3:
                os.kill(os.getpid(), signal.SIGKILL)
        prepare_bundle(sys.argv[1], sys.argv[2], on_progress=kill)
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(folder), str(root)]
    done = subprocess.run(command, check=False, capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL, done.stderr
    prepare_bundle(folder, root)
    assert contents(root) == contents(family_bundle("mixtral"))


def test_a_full_disk_leaves_what_is_finished(
    tmp_path, monkeypatch, family_checkpoint, family_bundle
):
    folder, root = family_checkpoint("mixtral"), tmp_path / "b"
    write_expert, calls = bundle_writer._write_expert, []

    def full(*args, **options):
        calls.append(args)
        if len(calls) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_expert(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(bundle_writer, "_write_expert", full)
        with pytest.raises(OSError, match="No space left"):
            prepare_bundle(folder, root)
    prepare_bundle(folder, root)
    assert contents(root) == contents(family_bundle("mixtral"))


@pytest.mark.parametrize("finished", [True, False])
def test_a_bundle_of_another_precision_is_not_overwritten(
    tmp_path, family_checkpoint, family_bundle, finished
):
    folder, root = family_checkpoint("mixtral"), tmp_path / "b"
    if finished:
        shutil.copytree(family_bundle("mixtral"), root)
    else:
        with pytest.raises(Interrupted):
            prepare_bundle(folder, root, on_progress=interrupt_after(1))
    before = contents(root)
    with pytest.raises(BundleConflict, match=r"delete the folder or give another --out"):
        prepare_bundle(folder, root, dtype="float16")
    assert contents(root) == before


def test_a_bundle_of_another_model_is_not_overwritten(tmp_path, family_bundle):
    root = shutil.copytree(family_bundle("mixtral"), tmp_path / "b")
    save_checkpoint("mixtral", tmp_path / "other", seed=1)
    with pytest.raises(BundleConflict, match=r"was made from 'mixtral' \(sha256"):
        prepare_bundle(tmp_path / "other", root)


def test_a_folder_with_other_files_is_left_alone(tmp_path, family_checkpoint):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(BundleConflict, match="holds other files"):
        prepare_bundle(family_checkpoint("mixtral"), tmp_path)
    assert contents(tmp_path) == {"thesis.tex": b"x"}


def test_two_preparations_of_one_folder_do_not_meet(tmp_path, family_checkpoint):
    folder, root = family_checkpoint("mixtral"), tmp_path / "b"
    refused = []

    def meddle(progress):
        if progress.stage == "experts" and not refused:
            with pytest.raises(BundleConflict, match="by another process") as caught:
                prepare_bundle(folder, root)
            refused.append(caught)

    prepare_bundle(folder, root, on_progress=meddle)
    assert refused
    Bundle.open(root).verify()


def test_a_damaged_finished_bundle_is_not_called_complete(
    tmp_path, family_checkpoint, family_bundle
):
    root = shutil.copytree(family_bundle("mixtral"), tmp_path / "b")
    (root / "experts/layer_001_expert_003.onnx").unlink()
    with pytest.raises(BundleCorrupt, match="expert 3 of layer 1 is missing"):
        prepare_bundle(family_checkpoint("mixtral"), root)


def test_a_checkpoint_that_lacks_a_backbone_weight_gives_no_bundle(tmp_path):
    from safetensors.torch import save_file

    folder = save_checkpoint("olmoe", tmp_path / "m")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.self_attn.q_proj.weight"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointMismatch, match=r"lacks 1 parameters .*layers.1.self_attn.q_pro"):
        prepare_bundle(folder, tmp_path / "b")
    assert not (tmp_path / "b/manifest.json").exists()

from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from siftmoe.models.bundle.manifest import Manifest, expert_name, file_sha256, golden_name
from siftmoe.models.errors import BundleCorrupt, BundleNotFound

SHAPE = {
    "num_layers": 1,
    "num_experts": 2,
    "top_k": 1,
    "hidden_size": 3,
    "intermediate_size": 4,
    "activation": "silu",
}


@pytest.fixture
def bundle(tmp_path):
    """A folder with files of made-up experts, as the manifest needs them."""
    (tmp_path / "experts").mkdir()
    (tmp_path / "golden").mkdir()
    for expert in range(2):
        (tmp_path / expert_name(0, expert)).write_bytes(bytes([expert]) * 3_000_000)
    rows = np.zeros((4, 3), np.float32)
    np.savez(tmp_path / golden_name(0), input=rows, output=np.stack([rows, rows + 1]))
    write_manifest(tmp_path)
    return tmp_path


def record(path):
    content = path.read_bytes()
    return {"sha256": hashlib.sha256(content).hexdigest(), "num_bytes": len(content)}


def write_manifest(root, **changes):
    files = {p.relative_to(root).as_posix(): record(p) for p in sorted(root.glob("*/*"))}
    document = {
        "format": 1,
        "source": {"name": "m", "model_type": "x", "architecture": "X", "sha256": "0" * 64},
        "shape": SHAPE,
        "dtype": "float32",
        "layers": ["model.layers.0.mlp.experts"],
        "files": files,
        **changes,
    }
    (root / "manifest.json").write_text(json.dumps(document))


def test_files_are_found_and_verified(bundle):
    manifest = Manifest.load(bundle)
    entry = manifest.expert_file(0, 1)
    assert entry.path == bundle / "experts/layer_000_expert_001.onnx"
    assert entry.num_bytes == 3_000_000
    assert manifest.verify_file(entry) == entry.path
    assert manifest.read_file(entry) == b"\1" * 3_000_000
    assert manifest.profile_file() is None
    assert manifest.read_golden(0).output.shape == (2, 4, 3)


def test_hash_in_pieces_is_the_hash_of_the_whole(tmp_path):
    content = np.random.default_rng(0).bytes(2_500_001)
    (tmp_path / "x").write_bytes(content)
    assert file_sha256(tmp_path / "x") == hashlib.sha256(content).hexdigest()


def test_one_flipped_bit_is_found_and_the_expert_named(bundle):
    path = bundle / expert_name(0, 1)
    content = bytearray(path.read_bytes())
    content[1_999_999] ^= 4
    path.write_bytes(content)
    manifest = Manifest.load(bundle)
    pattern = r"expert 1 of layer 0 has sha256 \w{12}…, manifest says \w{12}…; copy the bundle"
    with pytest.raises(BundleCorrupt, match=pattern):
        manifest.verify_file(manifest.expert_file(0, 1))
    with pytest.raises(BundleCorrupt, match=pattern):
        manifest.read_file(manifest.expert_file(0, 1))
    manifest.verify_file(manifest.expert_file(0, 0))


def test_a_missing_file_is_named(bundle):
    (bundle / expert_name(0, 0)).unlink()
    manifest = Manifest.load(bundle)
    with pytest.raises(BundleCorrupt, match=r"expert 0 of layer 0 is missing \(experts/layer"):
        manifest.verify_file(manifest.expert_file(0, 0))


def test_a_truncated_file_is_found_without_reading_it(bundle):
    with (bundle / expert_name(0, 0)).open("r+b") as stream:
        stream.truncate(17)
    manifest = Manifest.load(bundle)
    with pytest.raises(BundleCorrupt, match="has 17 bytes, manifest says 3000000"):
        manifest.read_file(manifest.expert_file(0, 0))


def test_a_folder_without_manifest_is_no_bundle(tmp_path):
    with pytest.raises(BundleNotFound, match=r"no manifest.json; make a bundle with 'siftmoe prep"):
        Manifest.load(tmp_path)


@pytest.mark.parametrize(
    "name",
    ["../x", "/etc/passwd", "a/../../x", "a\\..\\x", "", ".", "c:x", "a//b", "./a", "a/./b", "x\0"],
)
def test_file_names_that_may_leave_the_folder_are_refused(bundle, name):
    write_manifest(bundle, files={name: {"sha256": "0" * 64, "num_bytes": 1}})
    with pytest.raises(BundleCorrupt, match="not inside the bundle"):
        Manifest.load(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, "unknown field `extra`"),
        ({"shape": {**SHAPE, "hidden_siz": 3}}, r"unknown field `hidden_siz` - at `\$.shape`"),
        ({"shape": {**SHAPE, "top_k": 3}}, "top_k 3 is more than the 2 experts"),
        ({"dtype": "int8"}, "Invalid enum value 'int8'"),
        ({"format": 2}, "format 2, this siftmoe reads 1"),
        ({"layers": []}, "lists 0 layers for a model of 1"),
        ({"files": {"a": {"sha256": "xyz", "num_bytes": 1}}}, "regex"),
    ],
)
def test_a_wrong_manifest_says_what_is_wrong(bundle, changes, message):
    write_manifest(bundle, **changes)
    with pytest.raises(BundleCorrupt, match=message):
        Manifest.load(bundle)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_damaged_manifest_is_corrupt(bundle, content):
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(BundleCorrupt, match=r"manifest.json is not valid"):
        Manifest.load(bundle)


def test_a_file_the_manifest_does_not_list_is_refused(bundle):
    write_manifest(bundle, files={})
    with pytest.raises(BundleCorrupt, match=r"lists no 'experts/layer_000_expert_000.onnx'"):
        Manifest.load(bundle).expert_file(0, 0)


def test_an_expert_the_model_does_not_have_is_the_callers_mistake(bundle):
    with pytest.raises(ValueError, match="no expert 2 of layer 0"):
        Manifest.load(bundle).expert_file(0, 2)


def test_golden_arrays_of_another_shape_are_refused(bundle):
    np.savez(bundle / golden_name(0), input=np.zeros((4, 3)), output=np.zeros((2, 4, 2)))
    write_manifest(bundle)
    with pytest.raises(BundleCorrupt, match=r"holds \{'input': \(4, 3\), 'output': \(2, 4, 2\)\}"):
        Manifest.load(bundle).read_golden(0)


def test_model_hash_is_of_the_experts_and_of_nothing_else(bundle):
    before = Manifest.load(bundle).model_hash
    (bundle / "golden" / "more").write_bytes(b"x")
    write_manifest(bundle)
    assert Manifest.load(bundle).model_hash == before
    (bundle / expert_name(0, 0)).write_bytes(b"other")
    write_manifest(bundle)
    assert Manifest.load(bundle).model_hash != before


def test_the_manifest_needs_no_torch():
    code = (
        "import sys, siftmoe.models.bundle.manifest, siftmoe.models.bundle.reader;"
        "heavy = {'torch', 'transformers', 'onnx', 'onnxruntime'} & set(sys.modules);"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")

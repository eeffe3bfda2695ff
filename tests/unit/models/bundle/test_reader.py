"""Reading a bundle: tokenizer, golden files, experts."""

from __future__ import annotations

import numpy as np
import pytest
from families import save_checkpoint

from siftmoe.models.bundle.parity import relative_error, torch_output
from siftmoe.models.bundle.reader import Bundle
from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.checkpoint.files import CheckpointFiles
from siftmoe.models.checkpoint.reader import Checkpoint
from siftmoe.models.errors import BundleCorrupt


@pytest.mark.parametrize("family", ["mixtral", "gpt_oss", "switch"])
def test_golden_outputs_are_those_of_torch(family, family_bundle, family_checkpoint):
    manifest = Bundle.open(family_bundle(family)).manifest
    checkpoint = Checkpoint.open(family_checkpoint(family))
    golden = manifest.read_golden(1)
    for expert in range(manifest.shape.num_experts):
        fused = checkpoint.read_fused(1, expert)
        wanted = torch_output(checkpoint.layers[1], fused, golden.input)
        np.testing.assert_array_equal(golden.output[expert], wanted)


def test_a_bundle_without_tokenizer_says_so(family_bundle):
    with pytest.raises(BundleCorrupt, match=r"has no tokenizer; put the tokenizer's files"):
        Bundle.open(family_bundle("olmoe")).load_tokenizer()


def test_the_tokenizer_comes_along(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({"<unk>": 0, "sift": 1, "experts": 2}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    save_checkpoint("olmoe", tmp_path / "m")
    PreTrainedTokenizerFast(tokenizer_object=words).save_pretrained(tmp_path / "m")
    tokenizer = prepare_bundle(tmp_path / "m", tmp_path / "b").load_tokenizer()
    assert tokenizer("sift experts")["input_ids"] == [1, 2]


def test_half_precision_experts_are_near_the_golden_outputs(tmp_path, family_checkpoint):
    from siftmoe.models.bundle.parity import onnx_output

    bundle = prepare_bundle(family_checkpoint("olmoe"), tmp_path / "b", dtype="float16")
    golden = bundle.manifest.read_golden(0)
    path = bundle.manifest.verify_file(bundle.manifest.expert_file(0, 2))
    output = onnx_output(path, golden.input, "float16")
    assert 0 < relative_error(output, golden.output[2]) < 1e-2


def test_a_replaced_tokenizer_file_is_copied_into_the_bundle(tmp_path):
    folder = save_checkpoint("olmoe", tmp_path / "m")
    (folder / "tokenizer.json").write_text("{}")
    prepare_bundle(folder, tmp_path / "b")
    (folder / "tokenizer.json").write_text('{"model": null}')
    bundle = prepare_bundle(folder, tmp_path / "b")
    assert (bundle.backbone / "tokenizer.json").read_text() == '{"model": null}'
    bundle.verify()


def test_a_bundle_that_was_identified_with_its_tokenizer_is_still_known(tmp_path):
    folder = save_checkpoint("olmoe", tmp_path / "m")
    (folder / "tokenizer.json").write_text("{}")
    bundle = prepare_bundle(folder, tmp_path / "b")
    hashes = CheckpointFiles.open(folder).hashes()
    assert hashes.with_companions != hashes.weights == bundle.manifest.document.source.sha256
    path = tmp_path / "b/manifest.json"
    path.write_text(path.read_text().replace(hashes.weights, hashes.with_companions))
    assert prepare_bundle(folder, tmp_path / "b").manifest.model_hash == bundle.manifest.model_hash


def test_the_context_is_that_of_the_configuration(family_bundle):
    assert Bundle.open(family_bundle("mixtral")).context_length == 64
    assert Bundle.open(family_bundle("switch")).context_length is None

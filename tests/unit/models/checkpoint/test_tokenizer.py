"""Tokenizers in the forms that releases have, and their chat templates."""

from __future__ import annotations

import base64
import json

import pytest
import sentencepiece
from families import save_checkpoint
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from siftmoe.models.bundle.writer import prepare_bundle
from siftmoe.models.checkpoint.tokenizer import chat_ids, load_tokenizer
from siftmoe.models.errors import CheckpointMismatch

WORDS = ("<unk>", "<s>", "user", "assistant", "hello")
TEMPLATE = "<s> {% for m in messages %}{{ m.role }} {{ m.content }}{% endfor %} assistant"


def word_tokenizer():
    words = Tokenizer(
        models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token=WORDS[0])
    )
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", unk_token="<unk>")


def configure(folder, **options):
    (folder / "config.json").write_text(json.dumps({"model_type": "mixtral"}))
    (folder / "tokenizer_config.json").write_text(json.dumps(options))


def test_a_sentencepiece_model_is_read_without_tokenizer_json(tmp_path):
    text = ["the sum of the squares", "return the sum", "squares of the sum"] * 30
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_prefix=str(tmp_path / "tokenizer"),
        vocab_size=20,
        minloglevel=2,
    )
    (tmp_path / "tokenizer.vocab").unlink()
    configure(tmp_path, tokenizer_class="LlamaTokenizer", unk_token="<unk>")
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer("the sum of the squares", add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == "the sum of the squares"
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "tokenizer.model"))
    pieces = [model.id_to_piece(n) for n in range(model.get_piece_size())]
    assert tokenizer.convert_ids_to_tokens(range(len(pieces))) == pieces


def test_a_tiktoken_file_is_read(tmp_path):
    ranks = [bytes([byte]) for byte in range(256)] + [b"th", b"the", b" the"]
    lines = [f"{base64.b64encode(token).decode()} {rank}" for rank, token in enumerate(ranks)]
    (tmp_path / "tokenizer.model").write_text("\n".join(lines))
    configure(tmp_path, tokenizer_class="PreTrainedTokenizerFast")
    tokenizer = load_tokenizer(tmp_path)
    ids = tokenizer("see the", add_special_tokens=False)["input_ids"]
    assert (ids[-1], tokenizer.decode(ids)) == (258, "see the")


def test_a_prompt_is_put_into_the_chat_template():
    tokenizer = word_tokenizer()
    tokenizer.chat_template = TEMPLATE
    assert [WORDS[n] for n in chat_ids(tokenizer, "hello")] == ["<s>", "user", "hello", "assistant"]


def test_a_tokenizer_without_a_chat_template_is_told():
    with pytest.raises(ValueError, match=r"--chat needs a chat template.*chat_template.jinja"):
        chat_ids(word_tokenizer(), "hello")


def test_every_file_of_a_tokenizer_and_its_templates_is_in_the_bundle(tmp_path):
    save_checkpoint("olmoe", tmp_path / "m")
    word_tokenizer().save_pretrained(tmp_path / "m")
    (tmp_path / "m/chat_template.jinja").write_text(TEMPLATE)
    bundle = prepare_bundle(tmp_path / "m", tmp_path / "b")
    assert chat_ids(bundle.load_tokenizer(), "hello")[0] == 1
    # what comes later is added, and the experts are kept
    more = ["additional_chat_templates/tools.jinja", "source.spm", "vocab.bpe", "bpe.codes"]
    (tmp_path / "m/additional_chat_templates").mkdir()
    for name in more:
        (tmp_path / "m" / name).write_text("x")
    bundle = prepare_bundle(tmp_path / "m", tmp_path / "b")
    assert {f"backbone/{name}" for name in more} <= set(bundle.manifest.document.files)
    bundle.verify()
    fresh = prepare_bundle(tmp_path / "m", tmp_path / "again")
    assert fresh.manifest.document.files == bundle.manifest.document.files


def test_a_tokenizer_that_cannot_be_loaded_is_named(tmp_path):
    configure(tmp_path, tokenizer_class="PreTrainedTokenizerFast")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointMismatch, match="cannot be loaded"):
        load_tokenizer(tmp_path)

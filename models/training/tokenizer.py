"""Trains the byte-level BPE tokenizer of the tiny checkpoints.

::

    python -m siftmoe.models.training.tokenizer --corpus build/tiny/corpus --out build/tiny/tokens

trains it on the training split and writes each split as one array of token numbers, every document
between ``<s>`` and ``</s>``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from siftmoe.models.training.corpus import SPLITS, read_documents

VOCAB_SIZE = 2048
PAD, BOS, EOS, UNK = range(4)
SPECIAL_TOKENS = ("<pad>", "<s>", "</s>", "<unk>")


def train_tokenizer(texts: Iterable[str], vocab_size: int = VOCAB_SIZE) -> Tokenizer:
    """Train a byte-level BPE in which every digit is a separate token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos = SPECIAL_TOKENS[BOS]  # a prompt begins like the training documents
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, BOS)]
    )
    return tokenizer


def encode_documents(tokenizer: Tokenizer, texts: list[str]) -> np.ndarray[Any, np.dtype[Any]]:
    """Return all documents as one row of token numbers, uint16, each between BOS and EOS."""
    row: list[int] = []
    for encoding in tokenizer.encode_batch(texts, add_special_tokens=False):
        row += [BOS, *encoding.ids, EOS]
    return np.array(row, dtype=np.uint16)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write the tokenizer as a Hugging Face folder that ``AutoTokenizer`` loads."""
    from transformers import PreTrainedTokenizerFast

    pad, bos, eos, unk = SPECIAL_TOKENS
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos, unk_token=unk
    ).save_pretrained(folder)


def main() -> None:
    """Train the tokenizer and encode the corpus from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    texts = {s: [d.text for d in read_documents(arguments.corpus / f"{s}.jsonl")] for s in SPLITS}
    tokenizer = train_tokenizer(texts["train"])
    save_tokenizer(tokenizer, arguments.out / "tokenizer")
    sizes = {}
    for split, documents in texts.items():
        tokens = encode_documents(tokenizer, documents)
        np.save(arguments.out / f"{split}.npy", tokens)
        chars = sum(map(len, documents))
        sizes[split] = {"tokens": len(tokens), "chars_per_token": round(chars / len(tokens), 3)}
    print(json.dumps(sizes, indent=1))


if __name__ == "__main__":
    main()

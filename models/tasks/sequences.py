"""Token sequences of a task, and their padded batches."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

# Sequences of similar length are batched together, but only among this many batches, so that an
# interrupted run has completed the first items.
_SORTED_BATCHES = 16


class TextTokenizer(Protocol):
    """The part of a Hugging Face tokenizer that tasks use."""

    @property
    def bos_token_id(self) -> int | None:
        """Id of the token that starts a text."""

    @property
    def eos_token_id(self) -> int | None:
        """Id of the token that ends a text."""

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Return the token ids of a text."""


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """Tokens of one part of an item; those from ``target_start`` on are scored."""

    tokens: tuple[int, ...]
    target_start: int
    item: int
    part: int


@dataclass(frozen=True, slots=True)
class Batch:
    """Sequences padded on the right to the longest.

    Attributes
    ----------
    input_ids : (B, T) int64
    attention_mask : (B, T) int64
        1 for a token, 0 for padding.
    target_mask : (B, T) bool
        True where the log-probability of ``input_ids[b, t]`` given the tokens before it is scored.
        Never at t = 0, where no token precedes.
    rows : (B,) int64
        Indices of these sequences in the task.
    """

    input_ids: IntArray
    attention_mask: IntArray
    target_mask: BoolArray
    rows: IntArray

    @property
    def num_targets(self) -> int:
        """Number of scored tokens of the batch."""
        return int(self.target_mask.sum())


def start_token(tokenizer: TextTokenizer) -> int:
    """Return the token that starts a text: BOS, or EOS for a tokenizer without BOS.

    Raises
    ------
    ValueError
        If the tokenizer has neither.
    """
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return token
    raise ValueError("the tokenizer has neither a BOS nor an EOS token to start a text with")


def encode(tokenizer: TextTokenizer, text: str) -> list[int]:
    """Return the tokens of a text without special tokens."""
    return tokenizer.encode(text, add_special_tokens=False)


def encode_pair(
    tokenizer: TextTokenizer, context: str, continuation: str
) -> tuple[list[int], list[int]]:
    """Return the tokens of a context, and of its continuation after a space.

    Both are encoded as one text, since a tokenizer may treat the start of a text differently. If
    tokens merge across the border, the merged token belongs to the continuation.
    """
    before = encode(tokenizer, context)
    whole = encode(tokenizer, f"{context} {continuation}".lstrip())
    border = 0
    while border < min(len(before), len(whole)) and before[border] == whole[border]:
        border += 1
    return whole[:border], whole[border:]


def windows(tokens: Sequence[int], *, start: int, length: int) -> Iterator[tuple[list[int], int]]:
    """Cut a document into windows in which every token is scored exactly once.

    The first window begins with the ``start`` token. Each later window begins with the last quarter
    of the one before as context, which is not scored again.

    Yields
    ------
    tokens : list of int
        At most ``length``.
    target_start : int
        The first scored place, at least 1.
    """
    overlap = length // 4
    row = [start, *tokens]
    begin, counted = 0, 1
    while counted < len(row):
        end = min(begin + length, len(row))
        yield row[begin:end], counted - begin
        counted = end
        begin = end - overlap


def make_batches(sequences: Sequence[TokenSequence], batch_size: int) -> Iterator[Batch]:
    """Yield all sequences, ``batch_size`` at a time.

    Raises
    ------
    ValueError
        If ``batch_size`` is below 1.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}, it must be at least 1")
    stretch = batch_size * _SORTED_BATCHES
    for begin in range(0, len(sequences), stretch):
        rows = range(begin, min(begin + stretch, len(sequences)))
        ordered = sorted(rows, key=lambda row: len(sequences[row].tokens), reverse=True)
        for k in range(0, len(ordered), batch_size):
            chosen = ordered[k : k + batch_size]
            yield _padded([sequences[row] for row in chosen], chosen)


def _padded(sequences: list[TokenSequence], rows: list[int]) -> Batch:
    shape = (len(sequences), max(len(s.tokens) for s in sequences))
    input_ids = np.zeros(shape, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    target_mask = np.zeros(shape, dtype=np.bool_)
    for b, sequence in enumerate(sequences):
        length = len(sequence.tokens)
        input_ids[b, :length] = sequence.tokens
        attention_mask[b, :length] = 1
        target_mask[b, sequence.target_start : length] = True
    return Batch(input_ids, attention_mask, target_mask, np.array(rows, dtype=np.int64))

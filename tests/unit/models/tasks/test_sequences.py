"""Windows, pairs of texts and padded batches."""

from __future__ import annotations

import pytest
from char_tokenizer import TOKENIZER, tokens_of
from hypothesis import given, settings
from hypothesis import strategies as st

from siftmoe.models.tasks.sequences import encode_pair, make_batches, windows
from siftmoe.models.tasks.task import perplexity_task


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(8, 40))
def test_windows_count_each_token_once_after_its_neighbour(count, length):
    document = list(range(100, 100 + count))
    counted = []
    for row, begin in windows(document, start=1, length=length):
        assert 1 <= begin < len(row) <= length
        for place in range(begin, len(row)):
            counted.append(row[place])
            first = row[place] == 100
            assert row[place - 1] == (1 if first else row[place] - 1)
    assert counted == document


def test_windows_overlap_by_a_quarter():
    rows = list(windows(list(range(100, 120)), start=1, length=12))
    assert rows[0] == ([1, *range(100, 111)], 1)
    assert rows[1] == (list(range(108, 120)), 3)


def test_a_pair_is_encoded_as_one_text():
    assert encode_pair(TOKENIZER, "ab", "c") == (tokens_of("ab"), tokens_of(" c"))
    before, after = encode_pair(TOKENIZER, "ab\n", "c")
    assert (before, after) == (tokens_of("ab"), tokens_of("\n c"))  # merged across the border
    assert encode_pair(TOKENIZER, "", "c") == ([], tokens_of("c"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 7))
def test_batches_hold_every_sequence_once_padded_on_the_right(lengths, batch_size):
    texts = ["x" * length for length in lengths]
    task = perplexity_task("p", texts, tokenizer=TOKENIZER, max_tokens=16)
    seen = []
    for batch in make_batches(task.sequences, batch_size):
        assert batch.input_ids.shape == batch.target_mask.shape == batch.attention_mask.shape
        assert len(batch.rows) <= batch_size
        assert not batch.target_mask[:, 0].any()
        for b, row in enumerate(batch.rows):
            tokens = task.sequences[row].tokens
            length = len(tokens)
            assert batch.input_ids[b, :length].tolist() == list(tokens)
            assert batch.attention_mask[b].tolist() == [1] * length + [0] * (
                batch.input_ids.shape[1] - length
            )
            assert not (batch.target_mask[b] & (batch.attention_mask[b] == 0)).any()
            seen.append(row)
    assert sorted(seen) == list(range(len(task.sequences)))
    assert sum(b.num_targets for b in task.batches(batch_size)) == sum(lengths)


def test_batch_size_must_be_positive():
    task = perplexity_task("p", ["abc"], tokenizer=TOKENIZER)
    with pytest.raises(ValueError, match="batch_size is 0"):
        list(task.batches(0))

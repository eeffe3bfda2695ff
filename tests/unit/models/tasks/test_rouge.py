"""ROUGE-L by hand and by the table of the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftmoe.models.tasks.rouge import lcs_length, rouge_l


@pytest.mark.parametrize(
    ("candidate", "reference", "expected"),
    [
        ("the cat sat", "the cat sat", 1.0),
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin 2004: LCS 3 of 4 and 4
        ("the gunman kill police", "police kill the gunman", 0.5),  # Lin 2004: LCS 2
        ("a b c d", "a x c", 2 * 2 / 7),
        ("The, CAT!", "the cat", 1.0),
        ("", "the cat", 0.0),
        ("...", "the cat", 0.0),
        ("dog", "cat", 0.0),
    ],
)
def test_rouge_l_by_hand(candidate, reference, expected):
    assert rouge_l(candidate, reference) == pytest.approx(expected)


def lcs_by_table(a: str, b: str) -> int:
    table = np.zeros((len(a) + 1, len(b) + 1), dtype=int)
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            longer = max(table[i, j + 1], table[i + 1, j])
            table[i + 1, j + 1] = table[i, j] + 1 if x == y else longer
    return int(table[-1, -1])


@settings(max_examples=150, deadline=None)
@given(st.text("abc", max_size=40), st.text("abcd", max_size=40))
def test_lcs_equals_the_table(a, b):
    assert lcs_length(a, b) == lcs_by_table(a, b)

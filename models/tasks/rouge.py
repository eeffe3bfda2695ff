"""ROUGE-L: the score of a generated text by its longest common subsequence with a reference."""

from __future__ import annotations

import re
from collections.abc import Hashable, Sequence


def rouge_tokens(text: str) -> list[str]:
    """Return the lower-case runs of ASCII letters and digits of a text, unstemmed."""
    return re.findall(r"[a-z0-9]+", text.lower())


def lcs_length(first: Sequence[Hashable], second: Sequence[Hashable]) -> int:
    """Return the length of a longest common subsequence.

    Notes
    -----
    Bit-parallel in one integer; a zero bit at place i means that the subsequence grows at
    ``first[i]``: Hyyrö, "Bit-parallel LCS-length computation revisited" (2004).
    """
    places: dict[Hashable, int] = {}
    for place, item in enumerate(first):
        places[item] = places.get(item, 0) | 1 << place
    everywhere = (1 << len(first)) - 1
    row = everywhere
    for item in second:
        matched = row & places.get(item, 0)
        row = ((row + matched) | (row - matched)) & everywhere
    return len(first) - row.bit_count()


def rouge_l(candidate: str, reference: str) -> float:
    r"""F1 of the longest common subsequence of words, between 0 and 1.

    .. math:: P = \frac{LCS}{|c|}, \quad R = \frac{LCS}{|r|}, \quad F = \frac{2 P R}{P + R}
        = \frac{2\,LCS}{|c| + |r|}

    Notes
    -----
    Lin, "ROUGE: a package for automatic evaluation of summaries" (2004), with beta = 1 and the
    whole text as one sentence. Zero if either text has no word.
    """
    words, wanted = rouge_tokens(candidate), rouge_tokens(reference)
    if not words or not wanted:
        return 0.0
    return 2.0 * lcs_length(words, wanted) / (len(words) + len(wanted))

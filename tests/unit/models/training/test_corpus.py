"""Training text and multiple-choice items from docstrings."""

from __future__ import annotations

import numpy as np

from siftmoe.models.training.corpus import clean_paragraphs, docstrings
from siftmoe.models.training.evalsets import Continuation, Options, choice_items


def test_docstrings_and_their_prose():
    source = '''
def f():
    """First line.

    >>> f()
    1

    More of :func:`~a.b` and ``code``, on
    two lines.

    ====== ======
    1 2 3  4 5 6
    """
add_newdoc("m", "x", "A long text. %s")
''' % ("word " * 50)
    first, second = docstrings(source)
    assert clean_paragraphs(first) == ["First line.", "More of a.b and code, on two lines."]
    assert second.startswith("A long text.")


def test_items_are_balanced_in_length_and_overlap():
    rng = np.random.default_rng(0)
    vocabulary = [f"word{k}" for k in range(120)]

    def text(count: int) -> str:
        return " ".join(rng.choice(vocabulary, size=count))

    pool = [Continuation(f"file{k}", text(20), text(int(rng.integers(6, 12)))) for k in range(240)]
    options = Options(pool)
    items = list(choice_items([[c] for c in pool], options, limit=200, seed=0))
    assert len(items) == 200
    longest = [max(item["options"], key=len) == item["options"][item["answer"]] for item in items]
    assert 0.13 < np.mean(longest) < 0.37  # 0.25 and four standard errors

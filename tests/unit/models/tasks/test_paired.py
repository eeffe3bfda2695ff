"""The paired rise of perplexity over documents."""

from __future__ import annotations

import math

import numpy as np
import pytest

from siftmoe.models.tasks.paired import document_rises, paired_rise


def test_the_rise_is_that_of_the_perplexities() -> None:
    reference = [(30.0, 10), (80.0, 20), (22.0, 7)]
    documents = [(31.0, 10), (80.5, 20), (23.0, 7)]
    rise, error = paired_rise(documents, reference)
    assert rise == pytest.approx(math.exp(134.5 / 37) / math.exp(132.0 / 37) - 1.0)
    assert 0.0 < error < rise
    assert document_rises(documents, reference).mean() == pytest.approx(rise)


def test_the_error_is_the_spread_over_samples_of_documents() -> None:
    rng = np.random.default_rng(3)
    found, errors = [], []
    for _ in range(400):
        tokens = rng.integers(50, 200, size=40)
        base = tokens * rng.normal(3.0, 0.5, size=40)
        more = base + tokens * rng.normal(0.02, 0.03, size=40)
        pairs = [list(zip(nats.tolist(), tokens.tolist(), strict=True)) for nats in (more, base)]
        rise, error = paired_rise(*pairs)
        found.append(rise)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(found), rel=0.15)


def test_one_document_has_no_error_and_other_texts_are_refused() -> None:
    assert math.isnan(paired_rise([(2.0, 3)], [(1.0, 3)])[1])
    with pytest.raises(ValueError, match="score both on the same text"):
        document_rises([(2.0, 3)], [(1.0, 4)])

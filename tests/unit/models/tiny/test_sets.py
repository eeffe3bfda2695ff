"""The shipped evaluation sets: large enough, balanced, held out of the training text."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from siftmoe.models.tasks.files import read_choice, read_documents
from siftmoe.models.tiny.files import data_path
from siftmoe.models.training.corpus import split_of
from siftmoe.models.training.evalsets import LEAK_WORDS, words

CHOICE = {split: read_choice(data_path(f"choice-{split}")) for split in ("val", "test")}


def test_there_are_enough_items():
    assert len(CHOICE["test"]) >= 1000
    assert len(CHOICE["val"]) >= 300
    assert len(read_documents(data_path("perplexity-test"))) >= 500
    assert len(read_documents(data_path("perplexity-val"))) >= 200


@pytest.mark.parametrize("split", CHOICE)
def test_no_place_and_no_length_gives_the_answer_away(split):
    items = CHOICE[split]
    error = np.sqrt(0.25 * 0.75 / len(items))
    places = Counter(item.answer for item in items)
    ranks = Counter(
        sorted(map(len, item.options)).index(len(item.options[item.answer])) for item in items
    )
    for counts in (places, ranks):
        assert set(counts) == {0, 1, 2, 3}
        assert all(abs(n / len(items) - 0.25) < 4 * error for n in counts.values())


@pytest.mark.parametrize("split", CHOICE)
def test_options_differ_and_have_like_lengths(split):
    for item in CHOICE[split]:
        assert len(set(item.options)) == 4
        answer = len(item.options[item.answer])
        assert all(0.6 * answer <= len(o) <= answer / 0.6 for o in item.options)


def test_no_test_text_stands_in_the_calibration_text():
    def grams(text: str) -> set[tuple[str, ...]]:
        row = words(text)
        return {tuple(row[k : k + LEAK_WORDS]) for k in range(len(row) - LEAK_WORDS + 1)}

    calibration = data_path("calibration").read_text(encoding="utf-8")
    known = grams(calibration)
    paragraphs = set(calibration.split("\n"))
    for item in (*CHOICE["test"], *CHOICE["val"]):
        assert grams(item.options[item.answer]).isdisjoint(known)
    for split in ("val", "test"):
        for document in read_documents(data_path(f"perplexity-{split}")):
            # A long paragraph is in one split alone; short ones ("Returns") are in all.
            assert not [p for p in document.split("\n") if len(p) > 150 and p in paragraphs]


def test_sources_are_held_out():
    for split in ("val", "test"):
        for kind in ("choice", "perplexity"):
            lines = data_path(f"{kind}-{split}").read_text().splitlines()
            assert {split_of(json.loads(line)["source"]) for line in lines} == {split}

"""Makes the evaluation sets that ship with the tiny checkpoints.

::

    python -m siftmoe.models.training.evalsets --corpus build/tiny/corpus --out models/tiny/data

writes held-out documents for the perplexity (validation and test), calibration text from the
training split, and multiple-choice items: the continuation of a held-out docstring among four
options. The wrong options are sentences of other held-out files. They are chosen so that neither
the length of an option nor the words that it shares with the context reveal the answer.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import random
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from siftmoe.models.training.corpus import Document, read_documents

PERPLEXITY_CHARS = {"val": 120_000, "test": 360_000}
CALIBRATION_CHARS = 200_000
MAX_CHOICE_ITEMS = {"val": 400, "test": 1_600}
MAX_DOCUMENT_CHARS = 1_500
CONTEXT_CHARS = 260
MIN_CONTEXT_CHARS = 70
LEAK_WORDS = 8
NUM_OPTIONS = 4
PLACES_TRIED = 4
NEAREST = 6
_FREQUENT = """
the a an of to in is and or for be that this with as on it by if are not from which at can will
"""
STOP_WORDS = frozenset(re.findall(r"\w+", _FREQUENT))


@dataclass(frozen=True, slots=True)
class Continuation:
    """A place in a held-out document: the text before it and the sentence after it."""

    source: str
    context: str
    text: str


def words(text: str) -> list[str]:
    """Return the lower-case words of a text."""
    return re.findall(r"\w+", text.lower())


def content_words(text: str) -> set[str]:
    """Return the words of a text without the most frequent ones."""
    return set(words(text)) - STOP_WORDS


def _ngrams(text: str) -> Iterator[int]:
    row = words(text)
    for start in range(len(row) - LEAK_WORDS + 1):
        yield hash(" ".join(row[start : start + LEAK_WORDS]))


def _shuffled(documents: Iterable[Document]) -> list[Document]:
    """Order documents by the hash of their text, so that a prefix is a fair sample."""
    return sorted(documents, key=lambda d: hashlib.sha256(d.text.encode()).hexdigest())


def _shortened(text: str) -> str:
    if len(text) <= MAX_DOCUMENT_CHARS:
        return text
    cut = text.rfind("\n", 0, MAX_DOCUMENT_CHARS)
    return text[: cut if cut > MAX_DOCUMENT_CHARS // 2 else MAX_DOCUMENT_CHARS]


def sample_documents(documents: list[Document], chars: int) -> list[Document]:
    """Take whole or shortened documents in hashed order until ``chars`` characters are reached."""
    taken, total = [], 0
    for document in _shuffled(documents):
        text = _shortened(document.text)
        taken.append(Document(package=document.package, path=document.path, text=text))
        total += len(text)
        if total >= chars:
            break
    return taken


def continuations(document: Document) -> Iterator[Continuation]:
    """Find the places of a document where a sentence of prose follows sufficient context."""
    for match in re.finditer(r"[.!?:]\s+(?=[A-Z])", document.text):
        context = _context(document.text[: match.end()])
        sentence = _sentence(document.text[match.end() :])
        if sentence and len(context) >= MIN_CONTEXT_CHARS:
            yield Continuation(document.path, context, sentence)


def _context(text: str) -> str:
    text = text.rstrip()
    if len(text) <= CONTEXT_CHARS:
        return text
    return text[-CONTEXT_CHARS:].split(maxsplit=1)[1]  # starts at a whole word


def _sentence(text: str) -> str | None:
    match = re.match(r"(.{50,160}?(?<!e\.g)(?<!i\.e)[.!?])(\s|$)", text, re.S)
    if match is None:
        return None
    sentence = match.group(1).replace("\n", " ")
    plain = sum(c.isalpha() or c in " .," for c in sentence)
    if sentence.count(" ") < 7 or plain < 0.92 * len(sentence) or not sentence[0].isupper():
        return None
    return sentence


def without_leaks(found: list[Continuation], training: list[Document]) -> list[Continuation]:
    """Drop continuations that share eight words in a row with the training text."""
    wanted = {gram: number for number, c in enumerate(found) for gram in _ngrams(c.text)}
    leaked = {g for d in training for g in _ngrams(d.text) if g in wanted}
    return [c for c in found if leaked.isdisjoint(_ngrams(c.text))]


class Options:
    """Candidate sentences for wrong options, and their overlap with a context."""

    def __init__(self, sentences: list[Continuation]) -> None:
        self._pool = [(s, content_words(s.text)) for s in sentences]
        counts = Counter(w for s in sentences for w in content_words(f"{s.context} {s.text}"))
        self._weights = {w: math.log(len(sentences) / n) for w, n in counts.items()}

    def overlap(self, first: set[str], second: set[str]) -> float:
        """Return the weight of the common words; rarer words have a larger weight."""
        return sum(self._weights[word] for word in first & second)

    def nearest(self, item: Continuation) -> dict[tuple[bool, bool], list[str]]:
        """Return wrong options by (longer than the answer, sharing more with the context).

        These are the options nearest to the answer's overlap, of similar length. Sentences of the
        same file, and those that share half of their words with the answer, are left out.
        """
        context, answer = content_words(item.context), content_words(item.text)
        wanted = self.overlap(answer, context)
        cells: dict[tuple[bool, bool], list[tuple[float, str]]] = {
            (longer, above): [] for longer in (False, True) for above in (False, True)
        }
        for other, other_words in self._pool:
            if not 0.6 * len(item.text) <= len(other.text) <= len(item.text) / 0.6:
                continue
            if other.source == item.source or not other_words:
                continue
            if len(other_words & answer) > 0.5 * len(other_words | answer):
                continue
            more = self.overlap(other_words, context) - wanted
            cells[len(other.text) > len(item.text), more > 0].append((abs(more), other.text))
        return {
            cell: [text for _, text in sorted(found)[:NEAREST]] for cell, found in cells.items()
        }


def choice_items(
    places: list[list[Continuation]], options: Options, *, limit: int, seed: int
) -> Iterator[dict[str, object]]:
    """Yield at most ``limit`` items with four options in random order, one per list of places.

    The number of wrong options that are longer than the answer, and the number that share more with
    the context, are drawn uniformly and independently: neither reveals the answer.
    """
    rng = random.Random(seed)
    made = 0
    for tries in rng.sample(places, len(places)):
        for item in rng.sample(tries, min(PLACES_TRIED, len(tries))):
            cells = options.nearest(item)
            if min(map(len, cells.values())) >= NUM_OPTIONS - 1:
                yield _item(item, cells, rng)
                made += 1
                break
        if made == limit:
            return


def _item(
    item: Continuation, cells: dict[tuple[bool, bool], list[str]], rng: random.Random
) -> dict[str, object]:
    longer = _some_of(NUM_OPTIONS - 1, rng)
    above = _some_of(NUM_OPTIONS - 1, rng)
    options = [item.text]
    for cell in zip(longer, above, strict=True):
        options.append(rng.choice([text for text in cells[cell] if text not in options]))
    rng.shuffle(options)
    answer = options.index(item.text)
    return {"context": item.context, "options": options, "answer": answer, "source": item.source}


def _some_of(count: int, rng: random.Random) -> list[bool]:
    """Return ``count`` flags in random order; the number of True ones is drawn uniformly."""
    number = rng.randrange(count + 1)
    return rng.sample([True] * number + [False] * (count - number), count)


def choice_set(
    documents: list[Document], training: list[Document], *, limit: int, seed: int
) -> Iterator[dict[str, object]]:
    """Yield the items of a split, one per document at most."""
    unique = {c.text: c for d in documents for c in continuations(d)}
    sentences = without_leaks(list(unique.values()), training)
    kept = {c.text for c in sentences}
    by_document = [[c for c in continuations(d) if c.text in kept] for d in documents]
    # A sentence that occurs in several documents is an answer only once.
    places = [[c for c in found if unique[c.text] == c] for found in by_document]
    return choice_items([p for p in places if p], Options(sentences), limit=limit, seed=seed)


def _write_lines(path: Path, items: Iterable[Mapping[str, object]]) -> int:
    lines = [json.dumps(item) + "\n" for item in items]
    path.write_text("".join(lines))
    return len(lines)


def build(corpus: Path, out: Path) -> dict[str, int]:
    """Write all evaluation sets and return their item counts by file name."""
    out.mkdir(parents=True, exist_ok=True)
    training = read_documents(corpus / "train.jsonl")
    counts = {}
    for number, split in enumerate(("val", "test")):
        documents = read_documents(corpus / f"{split}.jsonl")
        sample = sample_documents(documents, PERPLEXITY_CHARS[split])
        name = f"perplexity-{split}.jsonl"
        lines = ({"text": d.text, "source": d.path} for d in sample)
        counts[name] = _write_lines(out / name, lines)
        name = f"choice-{split}.jsonl"
        items = choice_set(documents, training, limit=MAX_CHOICE_ITEMS[split], seed=number)
        counts[name] = _write_lines(out / name, items)
    calibration = sample_documents(training, CALIBRATION_CHARS)
    # No document contains an empty line, so one separates them.
    (out / "calibration.txt").write_text("\n\n".join(d.text for d in calibration) + "\n")
    counts["calibration.txt"] = len(calibration)
    return counts


def main() -> None:
    """Build the evaluation sets from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    print(json.dumps(build(arguments.corpus, arguments.out), indent=1))


if __name__ == "__main__":
    main()

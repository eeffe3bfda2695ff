"""Reads evaluation files with one record per line; errors name the file and the line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from siftmoe.models.errors import TaskDataError

_Record = TypeVar("_Record")


@dataclass(frozen=True, slots=True)
class ChoiceItem:
    """A multiple-choice question.

    ``premise`` is the text before an option when its probability without the question is computed.
    """

    context: str
    options: tuple[str, ...]
    answer: int
    premise: str = ""


@dataclass(frozen=True, slots=True)
class SummaryItem:
    """A document and its one-line summary."""

    document: str
    summary: str


def read_choice(path: Path) -> list[ChoiceItem]:
    """Read the package's own items: ``context``, ``options``, ``answer`` (a number from 0)."""

    def parse(line: dict[str, object]) -> ChoiceItem:
        options = line["options"]
        if not isinstance(options, list):
            raise TypeError(f"'options' is {options!r}, not a list")
        answer = line["answer"]
        if not isinstance(answer, int):
            raise TypeError(f"'answer' is {answer!r}, not a number")
        return _checked(ChoiceItem(_text(line, "context"), tuple(map(str, options)), answer))

    return _read(path, parse)


def read_piqa(path: Path) -> list[ChoiceItem]:
    """Read PIQA: ``goal``, ``sol1``, ``sol2`` per line, and labels from a ``.lst`` file.

    Source: Bisk et al., "PIQA" (arXiv 1911.11641). The labels of ``valid.jsonl`` are read from
    ``valid-labels.lst`` or ``valid.lst``.
    """
    labels = _piqa_labels(path)

    def parse(line: dict[str, object]) -> ChoiceItem:
        question = f"Question: {_text(line, 'goal')}\nAnswer:"
        return ChoiceItem(question, (_text(line, "sol1"), _text(line, "sol2")), 0, "Answer:")

    items = _read(path, parse)
    if len(items) != len(labels):
        raise TaskDataError(
            f"{path} has {len(items)} questions, its labels file {len(labels)} labels"
        )
    return [
        _checked(ChoiceItem(item.context, item.options, label, item.premise))
        for item, label in zip(items, labels, strict=True)
    ]


def _piqa_labels(path: Path) -> list[int]:
    candidates = [path.with_name(f"{path.stem}-labels.lst"), path.with_suffix(".lst")]
    for candidate in candidates:
        if candidate.is_file():
            rows = enumerate(candidate.read_text(encoding="utf-8").split("\n"), start=1)
            return [_label(candidate, number, row.strip()) for number, row in rows if row.strip()]
    names = " nor ".join(str(c) for c in candidates)
    raise TaskDataError(
        f"no PIQA labels: neither {names} exists; put the labels file beside {path}"
    )


def _label(path: Path, number: int, row: str) -> int:
    if row not in ("0", "1"):
        raise TaskDataError(f"{path}:{number}: a PIQA label is 0 or 1, not {row!r}")
    return int(row)


def read_csqa(path: Path) -> list[ChoiceItem]:
    """Read CommonsenseQA: ``question`` with ``stem`` and ``choices``, and ``answerKey``.

    Source: Talmor et al., "CommonsenseQA" (arXiv 1811.00937). Its test file has no answers.
    """

    def parse(line: dict[str, object]) -> ChoiceItem:
        question = line["question"]
        if not isinstance(question, dict) or not isinstance(question.get("choices"), list):
            raise TypeError("'question' holds no 'choices'")
        labels = [str(choice["label"]) for choice in question["choices"]]
        options = tuple(_text(choice, "text") for choice in question["choices"])
        key = _text(line, "answerKey")
        if key not in labels:
            raise ValueError(f"answerKey {key!r} is none of {', '.join(labels)}")
        context = f"Question: {_text(question, 'stem')}\nAnswer:"
        return _checked(ChoiceItem(context, options, labels.index(key), "Answer:"))

    return _read(path, parse)


def read_xsum(path: Path) -> list[SummaryItem]:
    """Read XSum: ``document`` and ``summary`` per line (Narayan et al., arXiv 1808.08745)."""
    return _read(path, lambda line: SummaryItem(_text(line, "document"), _text(line, "summary")))


def read_documents(path: Path) -> list[str]:
    """Read one document per line, field ``text``."""
    return _read(path, lambda line: _text(line, "text"))


def read_text(path: Path) -> str:
    """Read a plain text file.

    Raises
    ------
    TaskDataError
        If it is missing, empty or not UTF-8.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TaskDataError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise TaskDataError(f"cannot read {path}: {error.strerror}") from error
    if not text.strip():
        raise TaskDataError(f"{path} is empty")
    return text


def _checked(item: ChoiceItem) -> ChoiceItem:
    if len(item.options) < 2 or not all(item.options):
        raise ValueError(f"a question needs two or more non-empty options, not {item.options!r}")
    if not 0 <= item.answer < len(item.options):
        raise ValueError(f"answer {item.answer} is none of the {len(item.options)} options")
    return item


def _text(line: dict[str, object], key: str) -> str:
    value = line[key]
    if not isinstance(value, str):
        raise TypeError(f"{key!r} is {value!r}, not a text")
    return value


def _read(path: Path, parse: Callable[[dict[str, object]], _Record]) -> list[_Record]:
    """Parse each line that is not blank; errors name the file and the line."""
    records = []
    for number, line in _lines(path):
        try:
            records.append(parse(_object(line)))
        except KeyError as error:
            raise TaskDataError(f"{path}:{number}: the field {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise TaskDataError(f"{path}:{number}: {error}") from error
    return records


def _object(line: str) -> dict[str, object]:
    value = json.loads(line)
    if not isinstance(value, dict):
        raise TypeError("the line is no JSON object")
    return value


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    # Not splitlines(): a JSON string may contain Unicode line separators, which end no line here.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            yield number, line

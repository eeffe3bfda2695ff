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
    """Read PIQA: ``goal``, ``sol1``, ``sol2``, and ``label`` or a ``.lst`` file with the labels.

    Source: Bisk et al., "PIQA" (arXiv 1911.11641). Exports of the ``datasets`` library have the
    label in the line; for the original ``valid.jsonl`` labels are read from ``valid-labels.lst`` or
    ``valid.lst``.
    """

    def parse(line: dict[str, object]) -> tuple[ChoiceItem, object]:
        question = f"Question: {_text(line, 'goal')}\nAnswer:"
        options = (_text(line, "sol1"), _text(line, "sol2"))
        label = line.get("label")
        answer = 0 if label is None else _piqa_label(label)
        return _checked(ChoiceItem(question, options, answer, "Answer:")), label

    items = _read(path, parse)
    if all(label is not None for _, label in items):
        return [item for item, _ in items]
    labels = _piqa_labels(path)
    if len(items) != len(labels):
        raise TaskDataError(
            f"{path} has {len(items)} questions, its labels file {len(labels)} labels"
        )
    return [
        ChoiceItem(item.context, item.options, label, item.premise)
        for (item, _), label in zip(items, labels, strict=True)
    ]


def _piqa_labels(path: Path) -> list[int]:
    candidates = [path.with_name(f"{path.stem}-labels.lst"), path.with_suffix(".lst")]
    for candidate in candidates:
        if candidate.is_file():
            rows = enumerate(read_text(candidate).split("\n"), start=1)
            return [_label(candidate, number, row.strip()) for number, row in rows if row.strip()]
    names = " nor ".join(str(c) for c in candidates)
    raise TaskDataError(
        f"no PIQA labels: {path} has no 'label' in its lines, and neither {names} exists; put the "
        f"labels file beside {path}, or export the set with its labels"
    )


def _label(path: Path, number: int, row: str) -> int:
    try:
        return _piqa_label(row)
    except ValueError as error:
        raise TaskDataError(f"{path}:{number}: {error}") from error


def _piqa_label(label: object) -> int:
    if str(label) == "-1":
        raise ValueError("label -1: the test split has no answers; take the validation split")
    if str(label) not in ("0", "1"):
        raise ValueError(f"a PIQA label is 0 or 1, not {label!r}")
    return int(str(label))


def read_csqa(path: Path) -> list[ChoiceItem]:
    """Read CommonsenseQA: a question, its choices with their labels, and ``answerKey``.

    Source: Talmor et al., "CommonsenseQA" (arXiv 1811.00937). Its test file has no answers. In the
    original ``question`` holds ``stem`` and ``choices``, a list; in exports of the ``datasets``
    library ``question`` is a text and ``choices`` a dictionary of lists.
    """

    def parse(line: dict[str, object]) -> ChoiceItem:
        question = line["question"]
        if isinstance(question, dict):
            stem, choices = _text(question, "stem"), question.get("choices")
        else:
            stem, choices = _text(line, "question"), line.get("choices")
        labels, options = _choices(choices)
        key = _text(line, "answerKey")
        if key not in labels:
            raise ValueError(f"answerKey {key!r} is none of {', '.join(labels)}")
        context = f"Question: {stem}\nAnswer:"
        return _checked(ChoiceItem(context, options, labels.index(key), "Answer:"))

    return _read(path, parse)


def _choices(choices: object) -> tuple[list[str], tuple[str, ...]]:
    """Labels and texts of CommonsenseQA's choices: a list of pairs, or a dictionary of lists."""
    if isinstance(choices, dict):
        labels, texts = choices.get("label"), choices.get("text")
        if not (isinstance(labels, list) and isinstance(texts, list) and len(labels) == len(texts)):
            raise TypeError("'choices' needs lists 'label' and 'text' of one length")
        choices = [{"label": a, "text": b} for a, b in zip(labels, texts, strict=True)]
    if not isinstance(choices, list):
        raise TypeError("'question' holds no 'choices', and the line has none beside it")
    return [_text(choice, "label") for choice in choices], tuple(_text(c, "text") for c in choices)


def read_xsum(path: Path) -> list[SummaryItem]:
    """Read XSum: ``document`` and ``summary`` per line (Narayan et al., arXiv 1808.08745)."""
    return _read(
        path, lambda line: SummaryItem(_filled(line, "document"), _filled(line, "summary"))
    )


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
        text = path.read_text(encoding="utf-8-sig")  # with or without a byte order mark
    except UnicodeDecodeError as error:
        raise TaskDataError(
            f"{path} is not UTF-8 text: {error}; save it as UTF-8, or a data set as JSON lines "
            f"(dataset.to_json)"
        ) from error
    except OSError as error:
        raise TaskDataError(f"cannot read {path}: {error.strerror}") from error
    if not text.strip():
        raise TaskDataError(f"{path} is empty")
    return text


def _checked(item: ChoiceItem) -> ChoiceItem:
    if len(item.options) < 2:
        raise ValueError(f"a question needs two or more options, not {item.options!r}")
    for number, option in enumerate(item.options, start=1):
        if not option.strip():
            raise ValueError(f"option {number} of {len(item.options)} is empty")
    if not 0 <= item.answer < len(item.options):
        raise ValueError(f"answer {item.answer} is none of the {len(item.options)} options")
    return item


def _text(line: dict[str, object], key: str) -> str:
    value = line[key]
    if not isinstance(value, str):
        raise TypeError(f"{key!r} is {value!r}, not a text")
    return value


def _filled(line: dict[str, object], key: str) -> str:
    if not (text := _text(line, key)).strip():
        raise ValueError(f"{key!r} is empty")
    return text


def _read(path: Path, parse: Callable[[dict[str, object]], _Record]) -> list[_Record]:
    """Parse each record; errors name the file and the line where the record begins."""
    records = []
    for number, value in _values(path):
        try:
            records.append(parse(_object(value)))
        except KeyError as error:
            raise TaskDataError(f"{path}:{number}: the field {error} is missing") from error
        except (TypeError, ValueError) as error:
            raise TaskDataError(f"{path}:{number}: {error}") from error
    if not records:
        raise TaskDataError(f"{path} has no record")
    return records


def _object(value: object) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError("the record is no JSON object")
    return value


def _values(path: Path) -> Iterator[tuple[int, object]]:
    """Yield the JSON values of a file, one per line or all in an array, with their lines."""
    text = read_text(path)
    if text.lstrip().startswith("["):
        yield from _array(path, text)
        return
    # Not splitlines(): a JSON string may contain Unicode line separators, which end no line here.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            yield number, _decode(path, number, line, 0)[0]


def _array(path: Path, text: str) -> Iterator[tuple[int, object]]:
    place = text.index("[") + 1
    while True:
        while place < len(text) and text[place] in " \t\r\n,":
            place += 1
        number = text.count("\n", 0, place) + 1
        if place == len(text):
            raise TaskDataError(f"{path}:{number}: the array has no end; fetch the file again")
        if text[place] == "]":
            break
        value, place = _decode(path, number, text, place)
        yield number, value
    if text[place + 1 :].strip():
        raise TaskDataError(f"{path}:{number}: text after the end of the array; fetch it again")


def _decode(path: Path, number: int, text: str, place: int) -> tuple[object, int]:
    try:
        if place == 0:
            return json.loads(text), len(text)
        return json.JSONDecoder().raw_decode(text, place)
    except ValueError as error:
        raise TaskDataError(
            f"{path}:{number}: no JSON ({error}); a file holds one object per line, or an array "
            f"of objects"
        ) from error

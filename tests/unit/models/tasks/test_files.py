"""Evaluation files in their public formats, and what is said of damaged ones."""

from __future__ import annotations

import json

import pytest
from char_tokenizer import TOKENIZER, run, task_of, tokens_of, write_lines

from siftmoe.models.errors import TaskDataError
from siftmoe.models.tasks.evaluation import load_task
from siftmoe.models.tasks.files import (
    ChoiceItem,
    read_choice,
    read_csqa,
    read_documents,
    read_piqa,
)
from siftmoe.models.tasks.task import GenerationTask

PIQA = [{"goal": "boil water", "sol1": "heat it", "sol2": "freeze it"}] * 3


@pytest.mark.parametrize("labels", ["valid-labels.lst", "valid.lst"])
def test_piqa(tmp_path, labels):
    path = write_lines(tmp_path / "valid.jsonl", list(PIQA))
    (tmp_path / labels).write_text("0\n1\n0\n")
    task = task_of(f"piqa:{path}", limit=2)
    assert task.num_items == 2
    assert len(task.sequences) == 8
    question = tokens_of("Question: boil water\nAnswer:")
    assert task.sequences[0].tokens == (1, *question, *tokens_of(" heat it"))
    prefers_short = run(task, lambda x, t: -1.0)  # "heat it", right in the first of the two
    assert prefers_short.metrics["accuracy_likelihood"].value == 0.5


def export(path, rows, form):
    """Write rows as exports come: one per line, or an array, pretty or not, with a BOM or not."""
    text = {
        "lines": lambda: "".join(json.dumps(row) + "\n" for row in rows),
        "array": lambda: json.dumps(rows),
        "pretty": lambda: json.dumps(rows, indent=2) + "\n",
        "bom": lambda: "\ufeff" + "".join(json.dumps(row) + "\r\n" for row in rows),
        "bom array": lambda: "\ufeff" + json.dumps(rows, indent=1),
    }[form]()
    path.write_bytes(text.encode())
    return path


FORMS = ("lines", "array", "pretty", "bom", "bom array")


@pytest.mark.parametrize("form", FORMS)
def test_piqa_as_datasets_exports_it(tmp_path, form):
    rows = [{**question, "label": label} for question, label in zip(PIQA, (0, 1, 0), strict=True)]
    assert [item.answer for item in read_piqa(export(tmp_path / "v.jsonl", rows, form))] == [
        0,
        1,
        0,
    ]


def test_piqa_s_test_split_is_named(tmp_path):
    path = export(tmp_path / "t.jsonl", [{**PIQA[0], "label": -1}], "lines")
    with pytest.raises(TaskDataError, match=r"t\.jsonl:1: label -1: the test split has no answers"):
        read_piqa(path)


@pytest.mark.parametrize("form", FORMS)
def test_csqa_as_datasets_exports_it(tmp_path, form):
    choices = {"label": list("ABC"), "text": ["a bank", "a shop", "a mall"]}
    row = {"id": "1", "question": "Where?", "question_concept": "x", "choices": choices}
    (item,) = read_csqa(export(tmp_path / "v.json", [{**row, "answerKey": "B"}], form))
    assert item == ChoiceItem(
        "Question: Where?\nAnswer:", ("a bank", "a shop", "a mall"), 1, "Answer:"
    )


def test_labels_with_a_byte_order_mark(tmp_path):
    path = write_lines(tmp_path / "valid.jsonl", list(PIQA))
    (tmp_path / "valid.lst").write_bytes("\ufeff1\n1\n0\n".encode())
    assert [item.answer for item in read_piqa(path)] == [1, 1, 0]


@pytest.mark.parametrize("form", ["lines", "pretty"])
def test_an_empty_option_is_named_with_its_line(tmp_path, form):
    rows = [{**PIQA[0], "label": 0}, {**PIQA[0], "sol2": " ", "label": 0}]
    path = export(tmp_path / "v.jsonl", rows, form)
    line = {"lines": 2, "pretty": 8}[form]
    with pytest.raises(TaskDataError, match=rf"v\.jsonl:{line}: option 2 of 2 is empty"):
        read_piqa(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"text": "a"},\n', r"x\.json:2: the array has no end"),
        ('[{"text": "a"}]\n{"text": "b"}\n', r"x\.json:1: text after the end of the array"),
        ('[{"text": "a"},\n {"text" "b"}]', r"x\.json:2: no JSON .*one object per line, or an arr"),
        ('{\n"text": "a"}', r"x\.json:1: no JSON .*one object per line, or an array of objects"),
        ("[]", "has no record"),
        ("[3]", r"x\.json:1: the record is no JSON object"),
    ],
)
def test_a_damaged_array_is_told_with_its_place(tmp_path, text, message):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(TaskDataError, match=message):
        read_documents(path)


def test_piqa_labels_are_checked(tmp_path):
    path = write_lines(tmp_path / "valid.jsonl", list(PIQA))
    with pytest.raises(TaskDataError, match="no PIQA labels"):
        task_of(f"piqa:{path}")
    labels = tmp_path / "valid.lst"
    labels.write_text("0\n1\n")
    with pytest.raises(TaskDataError, match="3 questions, its labels file 2"):
        task_of(f"piqa:{path}")
    labels.write_text("0\n1\n2\n")
    with pytest.raises(TaskDataError, match=r"valid\.lst:3: a PIQA label is 0 or 1"):
        task_of(f"piqa:{path}")


def csqa_line(**changes: object) -> dict[str, object]:
    choices = [{"label": label, "text": f"text {label}"} for label in "ABCDE"]
    question = {"stem": "Where?", "question_concept": "x", "choices": choices}
    return {"id": "1", "answerKey": "C", "question": question, **changes}


def test_csqa(tmp_path):
    path = write_lines(tmp_path / "dev.jsonl", [csqa_line()])
    task = task_of(f"csqa:{path}")
    assert len(task.sequences) == 10
    likes_c = run(task, lambda x, t: 0.0 if x[t] == 10 + ord("C") and t > 12 else -1.0)
    assert likes_c.metrics["accuracy_likelihood"].value == 1.0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (csqa_line(answerKey="F"), "answerKey 'F' is none of A, B, C, D, E"),
        ({"question": csqa_line()["question"]}, "the field 'answerKey' is missing"),
        (csqa_line(question="Where?"), "'question' holds no 'choices'"),
        ([1], "no JSON object"),
    ],
)
def test_a_bad_line_is_told_with_its_place(tmp_path, line, message):
    path = write_lines(tmp_path / "dev.jsonl", [csqa_line(), line])
    with pytest.raises(TaskDataError, match=f"dev.jsonl:2: .*{message}"):
        task_of(f"csqa:{path}")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"context": "c", "options": ["a", "b"], "answer": 2}, "none of the 2 options"),
        ({"context": "c", "options": ["a"], "answer": 0}, "two or more"),
        ({"context": "c", "options": "ab", "answer": 0}, "not a list"),
        ({"context": "c", "options": ["a", "b"], "answer": "0"}, "not a number"),
        ({"context": 3, "options": ["a", "b"], "answer": 0}, "not a text"),
    ],
)
def test_own_items_are_checked(tmp_path, line, message):
    path = write_lines(tmp_path / "items.jsonl", [line])
    with pytest.raises(TaskDataError, match=f"items.jsonl:1: .*{message}"):
        read_choice(path)


def test_a_file_that_is_no_text_or_missing_or_empty(tmp_path):
    with pytest.raises(TaskDataError, match=r"cannot read .*none.txt: No such file"):
        task_of(f"text:{tmp_path / 'none.txt'}")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TaskDataError, match="not UTF-8"):
        task_of(f"text:{binary}")
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n")
    with pytest.raises(TaskDataError, match="is empty"):
        task_of(f"text:{empty}")
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"document": \n')
    with pytest.raises(TaskDataError, match=r"broken\.jsonl:1: "):
        load_task(f"xsum:{broken}", tokenizer=TOKENIZER)


def test_text_is_scored_in_windows(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("x" * 1000)
    task = task_of(f"text:{path}", max_tokens=64)
    result = run(task, lambda x, t: -2.0)
    assert result.num_tokens == 1000
    assert result.num_items == task.num_items == len(task.sequences)
    assert task_of(f"text:{path}", max_tokens=64, limit=3).num_items == 3


def test_a_line_separator_of_unicode_ends_no_line(tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text('{"document": "a\u2028b", "summary": "s"}\n', encoding="utf-8")
    task = load_task(f"xsum:{path}", tokenizer=TOKENIZER)
    assert isinstance(task, GenerationTask)
    assert task.prompts == ("a\u2028b",)


def test_an_empty_document_is_named_with_its_line(tmp_path):
    rows = [{"document": "a", "summary": "s"}, {"document": "  ", "summary": "s"}]
    path = export(tmp_path / "x.jsonl", rows, "lines")
    with pytest.raises(TaskDataError, match=r"x\.jsonl:2: 'document' is empty"):
        load_task(f"xsum:{path}", tokenizer=TOKENIZER)


def test_xsum_is_scored_by_rouge(tmp_path):
    lines = [
        {"document": "The cat sat. It slept.", "summary": "the cat sat", "id": "1"},
        {"document": "Rain fell\nin the north. Then sun.", "summary": "sun", "id": "2"},
    ]
    path = write_lines(tmp_path / "x.jsonl", list(lines))
    task = load_task(f"xsum:{path}", tokenizer=TOKENIZER)
    assert isinstance(task, GenerationTask)
    assert task.lead_sentences() == ["The cat sat", "Rain fell in the north"]
    result = task.score(task.lead_sentences())
    assert result.metrics["rouge_l"].value == pytest.approx(0.5)
    assert result.metrics["rouge_l"].standard_error == pytest.approx(0.5)
    with pytest.raises(ValueError, match="1 texts for 2 prompts"):
        task.score(["x"])

"""Loading a task by its name and options."""

from __future__ import annotations

import subprocess
import sys

import pytest
from char_tokenizer import CharTokenizer, run, task_of, write_lines

from siftmoe.models.tasks.evaluation import lengths_of, load_task
from siftmoe.models.tasks.files import read_choice
from siftmoe.models.tasks.task import SUMMARY_TOKENS, GenerationTask, choice_task


class NoStart(CharTokenizer):
    bos_token_id = None
    eos_token_id = None


@pytest.mark.parametrize("spec", ["", "chioce", "piqa", "piqa:", "choice:x.jsonl", "glue:x"])
def test_an_unknown_task_names_the_known_ones(spec):
    with pytest.raises(ValueError, match=r"unknown task .*choice, perplexity, piqa:FILE"):
        task_of(spec)


def test_a_part_of_the_items_can_be_skipped():
    whole, rest = task_of("choice", limit=5), task_of("choice", skip=2, limit=3)
    assert [s.tokens for s in rest.sequences] == [s.tokens for s in whole.sequences[16:]]


def test_options_are_checked(tmp_path):
    with pytest.raises(ValueError, match="limit is 0"):
        task_of("choice", limit=0)
    with pytest.raises(ValueError, match="skip is -1"):
        task_of("choice", skip=-1)
    with pytest.raises(ValueError, match="skip 9999 leaves none"):
        task_of("choice", skip=9999)
    with pytest.raises(ValueError, match="no split 'train'"):
        task_of("choice", split="train")
    with pytest.raises(ValueError, match="has no split 'val'"):
        task_of(f"text:{tmp_path}", split="val")
    with pytest.raises(ValueError, match="max_tokens is 2"):
        task_of("choice", max_tokens=2)
    with pytest.raises(ValueError, match="neither a BOS nor an EOS"):
        load_task("perplexity", tokenizer=NoStart(), limit=1)


def test_tasks_load_no_torch():
    code = "import sys, siftmoe.models.tasks.evaluation; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_document_longer_than_the_context_is_cut_and_counted(tmp_path, caplog):
    rows = [
        {"document": "short. end", "summary": "s"},
        {"document": "word " * 40 + "end", "summary": "s"},
    ]
    path = write_lines(tmp_path / "x.jsonl", rows)
    context = 1 + SUMMARY_TOKENS + 22
    task = load_task(f"xsum:{path}", tokenizer=CharTokenizer(), context=context)
    assert isinstance(task, GenerationTask)
    assert task.prompts == ("short. end", "word word word word")  # 24 tokens would be five words
    assert task.num_cut == 1
    assert "1 of 2 documents are longer than 22 tokens and were cut" in caplog.text
    whole = load_task(f"xsum:{path}", tokenizer=CharTokenizer())
    assert isinstance(whole, GenerationTask)
    assert whole.prompts[1] == rows[1]["document"]
    with pytest.raises(ValueError, match="context of 66 tokens has no room for a document"):
        load_task(f"xsum:{path}", tokenizer=CharTokenizer(), context=66)


def test_no_window_is_longer_than_the_context(tmp_path):
    path = tmp_path / "some.txt"
    path.write_text("x" * 1000)
    task = task_of(f"text:{path}", context=64)
    assert max(len(sequence.tokens) for sequence in task.sequences) == 64


def test_a_question_that_does_not_fit_is_left_out_and_counted(tmp_path, caplog):
    rows = [
        {"context": "c", "options": ["yes", "no"], "answer": 0},
        {"context": "c", "options": ["yes" * 30, "no"], "answer": 0},
        {"context": "c" * 50, "options": ["yes", "no"], "answer": 1},
    ]
    questions = read_choice(write_lines(tmp_path / "c.jsonl", rows))
    task = choice_task("c", questions, tokenizer=CharTokenizer(), max_tokens=40)
    assert (task.num_items, task.num_skipped, task.num_cut) == (2, 1, 1)
    whole = choice_task("d", questions[:1], tokenizer=CharTokenizer(), max_tokens=40)
    assert lengths_of([task, whole]) == {"c": (1, 1)}
    assert "1 of 3 questions are left out" in caplog.text
    assert "1 of 3 questions are longer than 40 tokens and were cut" in caplog.text
    result = run(task, lambda tokens, t: -1.0)
    assert result.num_items == 2
    assert result.metrics["accuracy_likelihood"].value == 0.5  # "no" is shorter

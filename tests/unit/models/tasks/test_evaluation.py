"""Tasks: files, sequences, scores. The arithmetic is checked by hand or by brute force."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siftmoe.models.errors import TaskDataError
from siftmoe.models.tasks.evaluation import (
    GenerationTask,
    Task,
    choice_task,
    load_task,
    perplexity_task,
)
from siftmoe.models.tasks.files import ChoiceItem, read_choice
from siftmoe.models.tasks.rouge import lcs_length, rouge_l
from siftmoe.models.tasks.scores import mean, ratio
from siftmoe.models.tasks.sequences import encode_pair, make_batches, windows


class CharTokenizer:
    """One token per character; a newline before a space merges with it."""

    bos_token_id: int | None = 1
    eos_token_id: int | None = 2

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        tokens = [10 + ord(c) for c in text.replace("\n ", "\r")]
        return [1, *tokens] if add_special_tokens else tokens


class NoStart(CharTokenizer):
    bos_token_id = None
    eos_token_id = None


TOKENIZER = CharTokenizer()


def tokens_of(text: str) -> list[int]:
    return TOKENIZER.encode(text, add_special_tokens=False)


def write_lines(path: Path, lines: list[object]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def task_of(spec: str, **options: object) -> Task:
    task = load_task(spec, tokenizer=TOKENIZER, **options)  # type: ignore[arg-type]
    assert isinstance(task, Task)
    return task


# --- ROUGE-L ---------------------------------------------------------------------------------


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


# --- Sequences and batches -------------------------------------------------------------------


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 200), st.integers(8, 40))
def test_windows_count_each_token_once_after_its_neighbour(count, length):
    document = list(range(100, 100 + count))
    counted = []
    for row, begin in windows(document, start=1, length=length):
        assert 1 <= begin < len(row) <= length
        for place in range(begin, len(row)):
            counted.append(row[place])
            first = row[place] == 100
            assert row[place - 1] == (1 if first else row[place] - 1)
    assert counted == document


def test_windows_overlap_by_a_quarter():
    rows = list(windows(list(range(100, 120)), start=1, length=12))
    assert rows[0] == ([1, *range(100, 111)], 1)
    assert rows[1] == (list(range(108, 120)), 3)


def test_a_pair_is_encoded_as_one_text():
    assert encode_pair(TOKENIZER, "ab", "c") == (tokens_of("ab"), tokens_of(" c"))
    before, after = encode_pair(TOKENIZER, "ab\n", "c")
    assert (before, after) == (tokens_of("ab"), tokens_of("\n c"))  # merged across the border
    assert encode_pair(TOKENIZER, "", "c") == ([], tokens_of("c"))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=60), st.integers(1, 7))
def test_batches_hold_every_sequence_once_padded_on_the_right(lengths, batch_size):
    texts = ["x" * length for length in lengths]
    task = perplexity_task("p", texts, tokenizer=TOKENIZER, max_tokens=16)
    seen = []
    for batch in make_batches(task.sequences, batch_size):
        assert batch.input_ids.shape == batch.target_mask.shape == batch.attention_mask.shape
        assert len(batch.rows) <= batch_size
        assert not batch.target_mask[:, 0].any()
        for b, row in enumerate(batch.rows):
            tokens = task.sequences[row].tokens
            length = len(tokens)
            assert batch.input_ids[b, :length].tolist() == list(tokens)
            assert batch.attention_mask[b].tolist() == [1] * length + [0] * (
                batch.input_ids.shape[1] - length
            )
            assert not (batch.target_mask[b] & (batch.attention_mask[b] == 0)).any()
            seen.append(row)
    assert sorted(seen) == list(range(len(task.sequences)))
    assert sum(b.num_targets for b in task.batches(batch_size)) == sum(lengths)


def test_batch_size_must_be_positive():
    task = perplexity_task("p", ["abc"], tokenizer=TOKENIZER)
    with pytest.raises(ValueError, match="batch_size is 0"):
        list(task.batches(0))


# --- Scores ----------------------------------------------------------------------------------


def run(task: Task, logprob, batch_size: int = 3, hit=lambda tokens, t: False):
    """Score a task with a model given as a function of (tokens, place)."""
    scorer = task.scorer()
    for batch in task.batches(batch_size):
        values = np.full(batch.input_ids.shape, np.nan)
        hits = np.ones(batch.input_ids.shape, dtype=bool)
        for b, t in zip(*np.nonzero(batch.target_mask), strict=True):
            tokens = batch.input_ids[b].tolist()
            values[b, t] = logprob(tokens, t)
            hits[b, t] = hit(tokens, t)
        scorer.add(batch, values, hits)
    return scorer.result()


def test_perplexity_by_hand():
    # log P = -1 for an "a", -3 for a "b": documents "aab" and "b".
    cost = {10 + ord("a"): -1.0, 10 + ord("b"): -3.0}
    task = perplexity_task("p", ["aab", "b"], tokenizer=TOKENIZER)
    result = run(task, lambda x, t: cost[x[t]], hit=lambda x, t: x[t] == 10 + ord("a"))
    assert result.metrics["cross_entropy"].value == pytest.approx(8 / 4)
    assert result.metrics["perplexity"].value == pytest.approx(math.exp(2))
    assert result.metrics["next_token_accuracy"].value == pytest.approx(0.5)
    assert (result.num_items, result.num_tokens) == (2, 4)
    # y - r m: 5 - 2*3 = -1 and 3 - 2*1 = 1; sqrt(2/1 * 2) / 4
    assert result.metrics["cross_entropy"].standard_error == pytest.approx(0.5)
    assert result.metrics["perplexity"].standard_error == pytest.approx(0.5 * math.exp(2))


def test_perplexity_does_not_depend_on_the_batches():
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abc"), size=n)) for n in rng.integers(1, 90, size=20)]
    task = perplexity_task("p", texts, tokenizer=TOKENIZER, max_tokens=24)
    results = [run(task, lambda x, t: -(x[t] % 5) / 3, batch_size=n) for n in (1, 4, 64)]
    for other in results[1:]:
        assert other.num_tokens == results[0].num_tokens == sum(map(len, texts))
        for name, metric in results[0].metrics.items():
            assert other.metrics[name].value == pytest.approx(metric.value)


def test_standard_errors_cover_the_truth():
    """The ratio estimator's interval of two errors holds the truth in about 95% of samples."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(400):
        tokens = rng.integers(5, 60, size=80).astype(float)
        level = rng.normal(3.0, 0.4, size=80)  # documents differ, tokens within one are alike
        metric = ratio(tokens * level, tokens)
        covered += abs(metric.value - 3.0) < 2 * metric.standard_error
    assert 0.91 < covered / 400 < 0.985
    assert mean(np.array([1.0])).standard_error is None
    assert mean(np.array([True, True, False, False])).standard_error == pytest.approx(0.5 / 3**0.5)


QUESTIONS = [
    ChoiceItem("q", ("aa", "b"), answer=0),
    ChoiceItem("q", ("aaa", "b"), answer=1),
]


def test_choice_is_scored_by_pmi():
    def logprob(tokens, t):
        # An "a" costs 2 alone and 1 after the question, a "b" costs 1 either way.
        if tokens[t] == 10 + ord("a"):
            return -1.0 if 10 + ord("q") in tokens else -2.0
        return -1.0 if tokens[t] == 10 + ord("b") else 0.0

    result = run(choice_task("c", QUESTIONS, tokenizer=TOKENIZER), logprob)
    # PMI: 2 against 0 and 3 against 0: the a's win. Likelihood: -2 and -3 against -1: b wins.
    # By length: -1 against -1: the first wins.
    assert result.metrics["accuracy"].value == 0.5
    assert result.metrics["accuracy_likelihood"].value == 0.5
    assert result.metrics["accuracy_per_char"].value == 0.5
    first = run(choice_task("c", QUESTIONS[:1], tokenizer=TOKENIZER), logprob)
    assert first.metrics["accuracy"].value == 1.0
    assert first.metrics["accuracy_likelihood"].value == 0.0
    assert first.metrics["accuracy"].standard_error is None


def test_choice_sequences_start_after_question_and_premise():
    question = ChoiceItem("long question", ("yes",), 0, premise="Answer:")
    task = choice_task("c", [question], tokenizer=TOKENIZER, max_tokens=14)
    given, alone = task.sequences
    assert given.tokens == (1, *tokens_of(" question"), *tokens_of(" yes"))  # 14, from the end
    assert given.tokens[given.target_start :] == tuple(tokens_of(" yes"))
    assert alone.tokens == (1, *tokens_of("Answer:"), *tokens_of(" yes"))
    assert alone.target_start == 8
    with pytest.raises(ValueError, match="raise max_tokens"):
        choice_task("c", [question], tokenizer=TOKENIZER, max_tokens=11)


def test_items_that_are_not_complete_do_not_count():
    task = choice_task("c", QUESTIONS, tokenizer=TOKENIZER)
    scorer = task.scorer()
    with pytest.raises(ValueError, match="no item is complete"):
        scorer.result()
    for sequence_batch in make_batches(task.sequences[:4], 4):
        zeros = np.zeros(sequence_batch.input_ids.shape)
        scorer.add(sequence_batch, zeros, zeros > 1)
    assert scorer.result().num_items == 1


def test_scores_are_checked():
    task = perplexity_task("p", ["abc"], tokenizer=TOKENIZER)
    (batch,) = task.batches(1)
    zeros = np.zeros(batch.input_ids.shape)
    hits = zeros > 1
    with pytest.raises(ValueError, match="has shape"):
        task.scorer().add(batch, zeros[:, :-1], hits)
    with pytest.raises(ValueError, match="NaN or positive"):
        task.scorer().add(batch, zeros + np.nan, hits)
    with pytest.raises(ValueError, match="NaN or positive"):
        task.scorer().add(batch, zeros + 0.5, hits)
    scorer = task.scorer()
    scorer.add(batch, zeros, hits)
    with pytest.raises(ValueError, match="added twice"):
        scorer.add(batch, zeros, hits)


# --- Files -----------------------------------------------------------------------------------


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


# --- Specs -----------------------------------------------------------------------------------


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

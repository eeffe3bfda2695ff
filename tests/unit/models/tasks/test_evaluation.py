"""Loading a task by its name and options."""

from __future__ import annotations

import subprocess
import sys

import pytest
from char_tokenizer import CharTokenizer, task_of

from siftmoe.models.tasks.evaluation import load_task


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

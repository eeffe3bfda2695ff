"""A task: the perplexity of sentences that repeat a word."""

from __future__ import annotations

from typing import Any

import siftmoe


def echo(
    argument: str, *, tokenizer: Any, limit: int | None, skip: int, split: str, max_tokens: int
) -> siftmoe.Task:
    """Make the task; ``--task echo:list`` repeats the word "list"."""
    del split
    word = argument or "value"
    texts = [f"Return the {word} " + f"of the {word} " * count for count in range(2, 12)]
    chosen = texts[skip:] if limit is None else texts[skip : skip + limit]
    return siftmoe.perplexity_task("echo", chosen, tokenizer=tokenizer, max_tokens=max_tokens)

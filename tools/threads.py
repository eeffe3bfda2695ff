"""Limits the number of torch's threads."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def one_torch_thread() -> Iterator[None]:
    """Keep torch to one thread while the block runs.

    The matrices of a small model are too small to share among threads, and where agents use the
    other cores, torch's threads would wait for each other.
    """
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

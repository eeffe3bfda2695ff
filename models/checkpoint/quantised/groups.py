"""Which scale a row or a column of a matrix has: groups of equal size, by index, or blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from siftmoe.models.errors import CheckpointMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor

#: Sizes tried where a number of groups is rounded up: that of fp8 releases, then common ones.
_COMMON = (128, 64, 32, 16, 256, 512, 1024)


def group_size(length: int, count: int, *, hints: Iterable[int]) -> int | None:
    """Find how many entries share a scale.

    Parameters
    ----------
    length : int
        Entries of the axis.
    count : int
        Scales along it; the last may have fewer entries.
    hints : iterable of int
        Sizes that configurations name, tried first.

    Returns
    -------
    int or None
        None if no known size gives this number.
    """
    if count == length:
        return 1
    if count == 1:
        return length
    exact = [length // count] if count and length % count == 0 else []
    # an even division that is no power of two (192 = 2 · 96) may be a rounded-up one (128 + 64)
    likely = [size for size in exact if size & (size - 1) == 0]
    for size in (*hints, *likely, *_COMMON, *exact):
        if -(-length // size) == count:
            return size
    return None


def group_index(length: int, size: int) -> Tensor:
    """Index of the scale of each entry, (length,) int64."""
    return torch.arange(length) // size


def checked_index(index: Tensor, count: int, *, name: str) -> Tensor:
    """Return a stored index of scales as int64.

    Raises
    ------
    CheckpointMismatch
        If it points beyond the scales.
    """
    index = index.long()
    if index.numel() and (int(index.min()) < 0 or int(index.max()) >= count):
        raise CheckpointMismatch(
            f"tensor {name!r} points to group {int(index.max())} or below {int(index.min())}, "
            f"there are {count}; download or copy the checkpoint again"
        )
    return index

"""A piecewise constant value over sample clocks, with its history."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")

#: Most changes that are kept; older ones merge into the oldest that is kept.
MAX_CHANGES = 4096
_BEGINNING = -(1 << 62)


class Timeline(Generic[T]):
    """A piecewise constant value over the clock of an air.

    Parameters
    ----------
    initial : T
        The value before the first change.
    """

    def __init__(self, initial: T) -> None:
        self._clocks = [_BEGINNING]
        self._values = [initial]

    def at(self, clock: int) -> T:
        """Return the value at a clock."""
        return self._values[bisect_right(self._clocks, clock) - 1]

    def set(self, clock: int, value: T) -> None:
        """Set the value from a clock on; changes planned from there on are dropped."""
        keep = max(bisect_left(self._clocks, clock), 1)
        del self._clocks[keep:], self._values[keep:]
        self._clocks.append(clock)
        self._values.append(value)
        if len(self._clocks) > MAX_CHANGES:
            del self._clocks[1:2], self._values[0:1]

    def change(self, clock: int, edit: Callable[[T], T]) -> None:
        """Edit the value from a clock on, planned changes included."""
        index = bisect_left(self._clocks, clock)
        if index == len(self._clocks) or self._clocks[index] != clock:
            self._clocks.insert(index, clock)
            self._values.insert(index, self._values[index - 1])
        self._values[index:] = [edit(value) for value in self._values[index:]]

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int, T]]:
        """Yield (start, stop, value) of the constant pieces of a range."""
        index = bisect_right(self._clocks, start) - 1
        while start < stop:
            following = self._clocks[index + 1] if index + 1 < len(self._clocks) else stop
            until = min(following, stop)
            yield start, until, self._values[index]
            start, index = until, index + 1

    def forget(self, before: int) -> None:
        """Drop values that ended before a clock."""
        keep = bisect_right(self._clocks, before) - 1
        del self._clocks[1 : keep + 1], self._values[:keep]

"""Payloads that lack blocks: what was decoded, and soft bits of the rest, for retransmissions."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.radio.modem.framing.header import Header

    Int16Array = NDArray[np.int16]
    Key = tuple[int, ...]


@dataclass(slots=True, kw_only=True)
class Partial:
    """A payload of which something was received.

    Parameters
    ----------
    touched : int
        Sample of the stream at which its last burst started.
    blocks : dict
        Bytes of the blocks that were decoded.
    soft : dict
        Soft buffers of blocks that were received, but not decoded.
    """

    touched: int
    blocks: dict[int, bytes] = field(default_factory=dict)
    soft: dict[int, Int16Array] = field(default_factory=dict)


class SoftMemory:
    """Partial payloads by sender and number; the oldest is dropped when there are too many.

    Parameters
    ----------
    capacity : int
        Payloads that are kept: each takes up to 60 kB per missing block.
    max_age : int
        Samples after which a payload is forgotten, since its number may be another payload's.
    """

    def __init__(self, *, capacity: int = 8, max_age: int = 4_000_000) -> None:
        if capacity < 1 or max_age < 1:
            raise ValueError(f"soft memory: capacity {capacity} and age {max_age} must be positive")
        self._capacity = capacity
        self._max_age = max_age
        self._partials: OrderedDict[Key, Partial] = OrderedDict()

    def __len__(self) -> int:
        """Payloads that lack blocks."""
        return len(self._partials)

    def open(self, header: Header, *, now: int) -> Partial:
        """Return the payload that a burst belongs to, or a new one.

        Parameters
        ----------
        header : Header
        now : int
            Sample of the stream at which the burst starts.
        """
        key = _key(header)
        partial = self._partials.pop(key, None)
        if partial is None or now - partial.touched > self._max_age:
            partial = Partial(touched=now)
        partial.touched = now
        self._partials[key] = partial
        while len(self._partials) > self._capacity:
            self._partials.popitem(last=False)
        return partial

    def close(self, header: Header) -> None:
        """Forget a payload: it is complete."""
        self._partials.pop(_key(header), None)


def _key(header: Header) -> Key:
    """Soft bits add up only where length and scheme, hence the code, are the same."""
    return (
        header.source,
        header.destination,
        header.sequence,
        header.kind,
        header.length,
        header.scheme,
    )

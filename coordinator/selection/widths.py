"""Widths of vectors: bits of an entry of a hidden state to helpers and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from siftmoe.models.vectors.packing import FLOAT_WIDTHS
from siftmoe.models.vectors.records import ROW_WIDTHS

#: The policy chooses the width of every vector.
AUTO: Final = "auto"
#: Reply width for quantised requests: its error is 1e-5 of the output's square.
_NARROW_REPLY: Final = 8

Bits = int | Literal["auto"]


@dataclass(frozen=True, slots=True)
class Widths:
    """Widths of a policy's vectors.

    Parameters
    ----------
    up : tuple of int, bit
        To helpers, ascending: one, or several to choose from.
    down : tuple of int, bit
        Of answers, likewise.
    """

    up: tuple[int, ...] = (16,)
    down: tuple[int, ...] = (16,)

    def __post_init__(self) -> None:
        for name in ("up", "down"):
            widths = getattr(self, name)
            if not widths or list(widths) != sorted(set(widths)):
                raise ValueError(f"widths must ascend, got {widths} {name}")
            for width in widths:
                if width not in ROW_WIDTHS:
                    known = ", ".join(map(str, ROW_WIDTHS))
                    raise ValueError(f"an entry has {known} bits, got {width} {name}")

    @property
    def chosen(self) -> bool:
        """Whether a policy chooses the width of one direction at least."""
        return len(self.up) > 1 or len(self.down) > 1

    @classmethod
    def of(cls, up: tuple[int, ...], down: int | None) -> Widths:
        """Widths with one width of answers, which has a default.

        That is as wide as requests, or 8 bits for quantised ones; where the width of requests is
        chosen, use the constructor.
        """
        if down is None:
            down = up[0] if len(up) == 1 and up[0] in FLOAT_WIDTHS else _NARROW_REPLY
        return cls(up, (down,))


#: Half precision both ways: the reference of all comparisons.
HALF: Final = Widths()


def parse_bits(text: str) -> Bits:
    """Read ``auto`` or a number of bits.

    Raises
    ------
    ValueError
        If it is neither.
    """
    if text == AUTO:
        return AUTO
    if not text.isdecimal() or int(text) not in ROW_WIDTHS:
        known = ", ".join(map(str, ROW_WIDTHS))
        raise ValueError(f"bits are {AUTO!r} or one of {known}, got {text!r}")
    return int(text)

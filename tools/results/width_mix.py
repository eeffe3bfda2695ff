"""Widths of uplink vectors over the channel gain of their links."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from typing import TYPE_CHECKING

from siftmoe.coordinator.links.states import Direction
from siftmoe.radio.units import linear_to_db

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from siftmoe.coordinator.ledger.store import TransmissionRow

#: Width of a bin of gains.
GAIN_BIN_DB = 3.0

#: Bins of channel gain, ascending: gain in dB, and number of tokens by bits of an entry.
Mix = tuple[tuple[float, dict[int, int]], ...]


def mix_of(rows: Iterable[TransmissionRow], *, reference_gain: float = 1.0) -> Mix:
    """Count the tokens sent to helpers by gain and width.

    Parameters
    ----------
    rows : iterable of TransmissionRow
    reference_gain : float
        Gain that corresponds to 0 dB.
    """
    found: dict[float, Counter[int]] = defaultdict(Counter)
    for row in rows:
        if row.direction != Direction.UP:
            continue
        gain_db = linear_to_db(row.channel_gain / reference_gain)
        place = found[GAIN_BIN_DB * round(gain_db / GAIN_BIN_DB)]
        place.update(_counts(row))
    return tuple((gain_db, dict(sorted(found[gain_db].items()))) for gain_db in sorted(found))


def counts_by_width(rows: Iterable[TransmissionRow]) -> dict[int, int]:
    """Count the tokens of bursts by width."""
    total: Counter[int] = Counter()
    for row in rows:
        total.update(_counts(row))
    return dict(sorted(total.items()))


def _counts(row: TransmissionRow) -> dict[int, int]:
    pairs = (part.split(":") for part in row.widths.split())
    return {int(width): int(count) for width, count in pairs}


def by_width(mix: Mix) -> dict[int, int]:
    """Return the number of tokens by width over all links."""
    total: Counter[int] = Counter()
    for _, counts in mix:
        total.update(counts)
    return dict(sorted(total.items()))


def mean_bits(mix: Mix) -> float:
    """Return the mean bits of an entry of what was sent; NaN if nothing was sent."""
    return mean_width(by_width(mix))


def mean_width(counts: Mapping[int, int]) -> float:
    """Return the mean of widths with their counts; NaN without any."""
    sent = sum(counts.values())
    return sum(width * count for width, count in counts.items()) / sent if sent else math.nan

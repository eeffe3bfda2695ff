r"""Distances of helpers from a short text: one for all, one each, or a spread between two ends.

``20`` puts every helper at 20 m, ``10,20,30`` one at each, ``10:40`` spreads them from 10 to 40 m.
A spread is geometric,

.. math:: d_n = d_0 \left(d_1 / d_0\right)^{n / (N - 1)} ,

so that mean gains in dB are evenly spread and their mean in dB is that of all helpers at
:math:`\sqrt{d_0 d_1}`, whatever the spread and the path-loss exponent. Our choice.
"""

from __future__ import annotations

import math

import numpy as np

#: The path-loss law holds from 1 m on.
LEAST_M = 1.0
MOST_M = 1e5


def distances_of(text: str, count: int) -> list[float]:
    """Distances of so many helpers, m.

    Parameters
    ----------
    text : str
        ``D``, ``D,D,...`` or ``D:D``, in metres.
    count : int
        N.

    Raises
    ------
    ValueError
        If the text has another form, a distance is out of range, or the list has not one for each
        helper.
    """
    kind, numbers = parse(text)
    if kind == "spread":
        low, high = numbers
        if count == 1:
            return [math.sqrt(low * high)]
        return [float(distance) for distance in np.geomspace(low, high, count)]
    if kind == "each" and len(numbers) != count:
        raise ValueError(
            f"distances {text!r}: {len(numbers)} distances for {count} helpers; name one for each, "
            f"one for all, or a spread as in 10:40"
        )
    return numbers if kind == "each" else numbers * count


def parse(text: str) -> tuple[str, list[float]]:
    """Read the text: "all", "each" or "spread", and its numbers in metres.

    Raises
    ------
    ValueError
        If the text has another form, or a distance is out of range.
    """
    kind = "spread" if ":" in text else "each" if "," in text else "all"
    parts = text.split(":" if kind == "spread" else ",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if not numbers or (kind == "spread" and len(numbers) != 2):
        raise ValueError(
            f"distances {text!r}: write one distance in metres for all helpers (20), one for each "
            f"(10,20,30), or a spread from the nearest to the farthest (10:40)"
        )
    wrong = [number for number in numbers if not LEAST_M <= number <= MOST_M]
    if wrong:
        raise ValueError(
            f"distances {text!r}: {wrong[0]:g} m is out of range; write {LEAST_M:g} to {MOST_M:g} m"
        )
    if kind == "spread" and not numbers[0] <= numbers[1]:
        raise ValueError(f"distances {text!r}: write the nearest first, {parts[1]}:{parts[0]}")
    return kind, numbers

"""Formats quantities for tables and sentences: SI prefixes and uncertainties."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siftmoe.coordinator.ledger.energy import Quantity

_PREFIXES = ((0, ""), (-3, "m"), (-6, "µ"), (-9, "n"), (-12, "p"), (-15, "f"))


def si(value: float, unit: str) -> str:
    """Three digits with an SI prefix."""
    if value == 0.0:
        return f"0 {unit}"
    for exponent, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * 10.0**exponent:
            return f"{value / 10.0**exponent:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def energy_text(value: float, std: float) -> str:
    """Energy, with its uncertainty where it has one."""
    relative = f" ± {100 * std / value:.0f} %" if std > 0.0 and value > 0.0 else ""
    return si(value, "J") + relative


def quantity(value: Quantity, unit: str) -> str:
    """Value and uncertainty in one SI prefix, to the digit that the uncertainty allows."""
    largest = max(abs(value.value), value.std)
    if not math.isfinite(largest):
        return "-"
    # Below 100 of a unit: two digits of an uncertainty then need no exponent.
    fitting = (item for item in _PREFIXES if largest >= 0.0995 * 10.0 ** item[0])
    exponent, prefix = next(fitting, (0, ""))
    text = str(value / 10.0**exponent)
    return f"({text}) {prefix}{unit}" if "±" in text else f"{text} {prefix}{unit}"

"""Formats quantities for tables and sentences: SI prefixes and uncertainties."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siftmoe.coordinator.ledger.energy import Quantity

_PREFIXES = ((0, ""), (-3, "m"), (-6, "µ"), (-9, "n"), (-12, "p"), (-15, "f"))


def si(value: float, unit: str) -> str:
    """Format a value with three digits and an SI prefix."""
    if value == 0.0:
        return f"0 {unit}"
    for exponent, prefix in _PREFIXES:
        if abs(value) >= 0.9995 * 10.0**exponent:
            return f"{value / 10.0**exponent:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def counted(count: int, noun: str) -> str:
    """Format a count with its noun: 1 selection, 2 selections."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def energy_text(value: float, std: float) -> str:
    """Format an energy, with its relative uncertainty if it has one."""
    relative = f" ± {100 * std / value:.0f} %" if std > 0.0 and value > 0.0 else ""
    return si(value, "J") + relative


def quantity(value: Quantity, unit: str) -> str:
    """Format value and uncertainty with one SI prefix, rounded as the uncertainty allows."""
    largest = max(abs(value.value), value.std)
    if not math.isfinite(largest):
        return "-"
    # The value is below 100 units, so that an uncertainty of two digits needs no exponent.
    fitting = (item for item in _PREFIXES if largest >= 0.0995 * 10.0 ** item[0])
    exponent, prefix = next(fitting, (0, ""))
    text = str(value / 10.0**exponent)
    return f"({text}) {prefix}{unit}" if "±" in text else f"{text} {prefix}{unit}"

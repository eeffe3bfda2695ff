r"""Sums of energies whose uncertainties are not independent.

Whatever the correlation, :math:`u(\sum E) \le \sum u`; squares are added only where independence
can be argued:

* *measured* powers err with the calibration of the transmitter. One unit's errors are common to
  all its transmissions and add linearly; those of different units add in squares. Uplink is the
  user's unit, downlink one agent's each.
* *modelled* energies go with 1/g, and the user's radio is one end of every link: linearly, over
  agents and directions.
* *derived* powers rest on one typical figure for all units: linearly.

.. math:: u = \sum_\text{modelled, derived} u_i
              + \sqrt{\sum_n \Bigl(\sum_{i \in n} u_i\Bigr)^2}_\text{measured}

Own derivation: docs/explanation/power.md. Where a part of an uncertainty belongs to a single burst,
as a channel estimate's noise, this overstates the sum's; it never understates it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from siftmoe.radio.channel.link import Source, weakest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: Key of the user's unit among the agents, whose keys are their names.
USER: Final = ""


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value and its standard uncertainty."""

    value: float
    std: float

    def __truediv__(self, number: float) -> Quantity:
        return Quantity(self.value / number, self.std / number)

    def __str__(self) -> str:
        """Value and uncertainty, rounded to the digits that the uncertainty supports."""
        if not self.std > 0.0 or not math.isfinite(self.std + self.value):
            return f"{self.value:.3g}"
        scale = math.floor(math.log10(max(abs(self.value), self.std)))
        digits = scale - math.floor(math.log10(self.std)) + 2
        return f"{self.value:.{min(digits, 6)}g} ± {self.std:.2g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Energies of one source and direction, J.

    Parameters
    ----------
    source : Source
        The weaker of the sources of power and airtime.
    direction : str
        "up" or "down".
    energy_j : float
    std_j : dict
        Uncertainties added linearly, by transmitting unit.
    """

    source: Source
    direction: str
    energy_j: float
    std_j: Mapping[str, float]

    @property
    def energy(self) -> Quantity:
        """Sum with its uncertainty."""
        return total([self])


def total(parts: Iterable[Part]) -> Quantity:
    """Add up energies; for their uncertainties see the module's docstring."""
    value = common = 0.0
    units: defaultdict[str, float] = defaultdict(float)
    for part in parts:
        value += part.energy_j
        for unit, std in part.std_j.items():
            if part.source is Source.MEASURED:
                units[unit] += std
            else:
                common += std
    return Quantity(value, common + math.hypot(*units.values()))


def grouped(
    rows: Iterable[tuple[Any, ...]],
) -> dict[tuple[Source, str], list[tuple[Any, ...]]]:
    """Group rows (power source, airtime source, direction, …) by source of energy and direction."""
    groups: defaultdict[tuple[Source, str], list[tuple[Any, ...]]] = defaultdict(list)
    for power, airtime, direction, *rest in rows:
        groups[weakest(Source(power), Source(airtime)), direction].append(tuple(rest))
    return dict(groups)


def part_of(key: tuple[Source, str], rows: Iterable[tuple[str, float, float]]) -> Part:
    """Add up rows (agent, energy, uncertainty) of one source and direction."""
    source, direction = key
    energy = 0.0
    units: defaultdict[str, float] = defaultdict(float)
    for agent, energy_j, std_j in rows:
        energy += energy_j
        units[agent if direction == "down" else USER] += std_j
    return Part(source=source, direction=direction, energy_j=energy, std_j=dict(units))

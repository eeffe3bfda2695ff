r"""What the selection minimises: a weighted sum of the parts of the energy.

.. math:: w_u \Big(\sum_{up} E + P^{tx}_u \tau_{up} + P^{rx}_u \tau_{down}\Big)
          + w_h \Big(\sum_{down} E + P^{rx}_h \tau_{up} + P^{tx}_h \tau_{down}\Big)

with the radiated energies E of the bursts of both directions, control included, the powers of the
circuits and the airtimes, and :math:`w_u, w_h` the prices of the user's joule and of the helpers'.
A direction is thus a link with one price for what is radiated and one circuit power, and all that
is convex in the load stays so.

What does not depend on the choice is in the books and not here: pilots, and the fixed header of a
batch's messages. SiftMoE (arXiv 2603.23888) minimises the energy of transmission; that both
directions and the circuits count, with prices, is our own choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from siftmoe.coordinator.links.states import Direction

if TYPE_CHECKING:
    from siftmoe.coordinator.energy.circuit import CircuitPower

#: Names of objectives: prices of the user's joule and of the helpers', and whether circuits count.
OBJECTIVES: Final = {
    "total": (1.0, 1.0, True),
    "radiated": (1.0, 1.0, False),
    "user": (1.0, 0.0, True),
    "helpers": (0.0, 1.0, True),
}
#: Price of what a sender radiates where only circuits of its bursts have a price: nearly nothing,
#: so that the bursts are as short as the power limit allows, and their energy is still a number.
_NEXT_TO_NOTHING: Final = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Prices of the parts of the energy.

    Parameters
    ----------
    uplink_price : float
        Of the user's joule.
    downlink_price : float
        Of a helper's joule.
    circuits : bool
        Whether the circuits count, not only what is radiated.

    Raises
    ------
    ValueError
        If a price is negative or not finite, or both are 0.
    """

    uplink_price: float = 1.0
    downlink_price: float = 1.0
    circuits: bool = True

    def __post_init__(self) -> None:
        for name in ("uplink_price", "downlink_price"):
            value = getattr(self, name)
            if not 0.0 <= value < math.inf:
                raise ValueError(
                    f"objective: {name} is {value}, must be finite and not negative; 0 leaves that "
                    f"side's energy out"
                )
        if self.uplink_price == 0.0 and self.downlink_price == 0.0:
            raise ValueError(
                "objective: uplink_price and downlink_price are both 0, so that every plan costs "
                "nothing; price at least one of them"
            )

    @classmethod
    def named(
        cls,
        minimise: str,
        *,
        uplink_price: float | None = None,
        downlink_price: float | None = None,
    ) -> Objective:
        """Objective by its name; prices that are given replace those of the name.

        Raises
        ------
        ValueError
            If there is no objective of this name, or a price is wrong.
        """
        if minimise not in OBJECTIVES:
            raise ValueError(
                f"objective: nothing is called {minimise!r}; one of {', '.join(OBJECTIVES)}"
            )
        up, down, circuits = OBJECTIVES[minimise]
        return cls(
            uplink_price=up if uplink_price is None else uplink_price,
            downlink_price=down if downlink_price is None else downlink_price,
            circuits=circuits,
        )

    def price(self, direction: Direction, circuit: CircuitPower) -> float:
        """Price of a joule that is radiated in a direction."""
        price = self._sender(direction)
        if price == 0.0 and self._circuits_w(direction, circuit) > 0.0:
            return _NEXT_TO_NOTHING
        return price

    def circuit_w(self, direction: Direction, circuit: CircuitPower) -> float:
        """Power of the circuits of a burst, W, priced as what it radiates is."""
        priced = self._circuits_w(direction, circuit)
        return priced / self.price(direction, circuit) if priced else 0.0

    def _sender(self, direction: Direction) -> float:
        return self.uplink_price if direction is Direction.UP else self.downlink_price

    def _circuits_w(self, direction: Direction, circuit: CircuitPower) -> float:
        if not self.circuits:
            return 0.0
        receiver = self.downlink_price if direction is Direction.UP else self.uplink_price
        return self._sender(direction) * circuit.sender_w(
            direction
        ) + receiver * circuit.receiver_w(direction)

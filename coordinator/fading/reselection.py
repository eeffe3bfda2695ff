r"""Delivers a token over fading links slot by slot, changing the helper where that saves energy.

Our derivation; docs/explanation/theory.md, section 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.coordinator.fading.energy_to_go import EnergyToGo

    FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """Outcome of one payload.

    Parameters
    ----------
    energy_j : float, J
        Transmit energy, without a price of what was not delivered.
    undelivered_bits : float, bit
        0 unless the deadline came first.
    helpers : tuple of int
        The helper of each slot.
    """

    energy_j: float
    undelivered_bits: float
    helpers: tuple[int, ...]


def deliver(
    to_go: Sequence[EnergyToGo],
    gains: FloatArray,
    *,
    serving: int,
    payload_bits: float,
    candidates: Sequence[int] = (),
) -> Delivery:
    """Send one payload by the causal rule.

    Parameters
    ----------
    to_go : sequence of N EnergyToGo
        Solved for the same slots and at least this payload.
    gains : (M, N) float64
        Gains of every slot; each is used only from its slot on.
    serving : int
        Helper to begin with.
    payload_bits : float, bit
    candidates : sequence of int
        Helpers that may take over; none: commit to ``serving``.
    """
    left, energy, helpers = payload_bits, 0.0, []
    for slot, now in enumerate(gains):
        chosen = reselect(
            to_go,
            slot=slot,
            gains=now,
            serving=serving,
            bits_left=left,
            payload_bits=payload_bits,
            candidates=candidates,
        )
        if chosen != serving:
            serving, left = chosen, payload_bits
        gain = float(now[serving])
        bits = to_go[serving].action_bits(slot, gain=gain, bits_left=left)
        energy += to_go[serving].link.slot_energy_j(bits, gain)
        left = max(0.0, left - bits)
        helpers.append(serving)
    return Delivery(energy_j=energy, undelivered_bits=left, helpers=tuple(helpers))


def reselect(
    to_go: Sequence[EnergyToGo],
    *,
    slot: int,
    gains: FloatArray,
    serving: int,
    bits_left: float,
    payload_bits: float,
    candidates: Sequence[int],
) -> int:
    """Choose the helper that continues with a token, given one slot's gains.

    A new helper needs the whole payload: the bits at the old one are lost. Comparing the
    energies-to-go of committing from now on, in every slot, is a rollout: in expectation it never
    needs more than to commit at the start.

    Parameters
    ----------
    to_go : sequence of N EnergyToGo
    slot : int
    gains : (N,) float64
        This slot's gains.
    serving : int
        The helper that has been sent ``payload_bits - bits_left`` so far.
    bits_left, payload_bits : float, bit
    candidates : sequence of int
        Other helpers that may serve the token.

    Returns
    -------
    int
        ``serving``, or a candidate that needs less energy from now on.
    """
    best = serving
    least = to_go[serving].value_j(slot, gain=float(gains[serving]), bits_left=bits_left)
    for n in candidates:
        value = to_go[n].value_j(slot, gain=float(gains[n]), bits_left=payload_bits)
        if n != serving and value < least:
            best, least = n, value
    return best

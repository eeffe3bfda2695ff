"""Bursts of a layer on the air: loads, energies, and the part of the plan that arrives."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.links.states import Direction
from siftmoe.radio.channel.link import transmit_energy

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.roundtrip import OneWay
    from siftmoe.coordinator.selection.problem import SelectionPlan

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bursts:
    """The bursts of one layer in one direction, one per helper with a load.

    Parameters
    ----------
    direction : Direction
    helper : (m,) int64
    tokens : (m,) int64
    missed : (m,) int64
        Of these, tokens that do not arrive within the window.
    by_width : (m, B) int64
        Tokens by the width of their vectors.
    width : tuple of int, bit
    payload_bits, tx_power_w, airtime_s, energy_j, rate_bps : (m,) float64
    window_s : float, s
        Time that the layer has for this direction, common to all transmitters; with a shared
        deadline, for both directions and the compute between them.
    """

    direction: Direction
    helper: IntArray
    tokens: IntArray
    missed: IntArray
    by_width: IntArray
    width: tuple[int, ...]
    payload_bits: FloatArray
    tx_power_w: FloatArray
    airtime_s: FloatArray
    energy_j: FloatArray
    rate_bps: FloatArray
    window_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """Tokens sent to helpers, or returned by them.

    Parameters
    ----------
    count : (N, B) int64
        By helper and width.
    width : tuple of int, bit
        B of them.
    bits : (B,) float64, bit
        Of a vector of each width.
    """

    count: IntArray
    width: tuple[int, ...]
    bits: FloatArray

    @property
    def tokens(self) -> IntArray:
        """Tokens by helper, (N,)."""
        tokens: IntArray = self.count.sum(axis=1)
        return tokens

    @property
    def payload_bits(self) -> FloatArray:
        """Bits by helper, (N,)."""
        bits: FloatArray = self.count @ self.bits
        return bits


def burst_energy(
    load: Load, way: OneWay, helper: IntArray, *, airtime_s: FloatArray, together: bool
) -> FloatArray:
    """Energy of the loads of some helpers, (m,) J.

    Parameters
    ----------
    load : Load
    way : OneWay
        Links in the direction of the loads.
    helper : (m,) int64
        Helpers with a load.
    airtime_s : (m,) float64, s
    together : bool
        Whether a helper's tokens share one burst of that length; if not, each has an equal part.
    """
    count, bits = load.count[helper].astype(np.float64), load.bits  # [m, B], [B]
    if together:
        count, bits = np.ones((len(helper), 1)), load.payload_bits[helper][:, None]
    else:
        airtime_s = airtime_s / load.tokens[helper]
    each = transmit_energy(
        payload_bits=np.broadcast_to(bits, count.shape),
        airtime_s=airtime_s[:, None],
        bandwidth_hz=way.bandwidth_hz[helper][:, None],
        gain=way.gain[helper][:, None],
        noise_psd=way.noise_psd[helper][:, None],
    )  # [m, B]
    energy: FloatArray = (count * each).sum(axis=1)
    return energy


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """A layer's plan on the air.

    Parameters
    ----------
    plan : SelectionPlan
        The plan as it arrives: slots of tokens that do not arrive are skipped.
    up, down : Bursts
    lost : int
        Number of slots skipped for that reason.
    """

    plan: SelectionPlan
    up: Bursts
    down: Bursts
    lost: int = 0


def missing_from(bursts: Bursts, helpers: Collection[int]) -> Bursts:
    """Count all tokens to these failed helpers as missed; their energy is spent."""
    if not helpers:
        return bursts
    failed = np.isin(bursts.helper, list(helpers))
    return replace(bursts, missed=np.where(failed, bursts.tokens, bursts.missed))


def without(bursts: Bursts, helpers: Collection[int]) -> Bursts:
    """Remove the bursts of these failed helpers."""
    if not helpers:
        return bursts
    stay = ~np.isin(bursts.helper, list(helpers))
    values = {part.name: getattr(bursts, part.name) for part in fields(bursts)}
    kept: dict[str, Any] = {n: v[stay] for n, v in values.items() if isinstance(v, np.ndarray)}
    return replace(bursts, **kept)

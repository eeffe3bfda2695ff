"""Bursts of a layer on the air: loads, energies, and the part of the plan that arrives."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.energy.circuit import Spent, least_energy

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

    from siftmoe.coordinator.energy.roundtrip import OneWay
    from siftmoe.coordinator.links.states import Direction
    from siftmoe.coordinator.selection.problem import SelectionPlan

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


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
        Control is part of the payload, and of the energy, which is what is radiated.
    control_bits : (m,) float64, bit
        Of the payload, what is not vectors: headers, which experts, and weights.
    circuit_tx_j, circuit_rx_j : (m,) float64, J
        Of the circuits of the sender and of the receiver during the airtime.
    window_s : float, s
        Time that the layer has for this direction, common to all transmitters; with a shared
        deadline, for both directions and the compute between them.
    heard : (m, N) bool or None
        Which helpers hear each burst of a broadcast; ``helper`` is the one with the worst link of
        them. None: each burst is for its helper alone.
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
    control_bits: FloatArray
    circuit_tx_j: FloatArray
    circuit_rx_j: FloatArray
    window_s: float
    heard: BoolArray | None = None

    @property
    def control_j(self) -> FloatArray:
        """Of the radiated energy, the control's share by bits, (m,) J."""
        carried = self.payload_bits > 0.0
        share = np.divide(
            self.control_bits, self.payload_bits, out=np.zeros(len(self.helper)), where=carried
        )
        energy: FloatArray = self.energy_j * share
        return energy


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
    control : (N,) float64, bit
        Of each helper's message beside the vectors.
    """

    count: IntArray
    width: tuple[int, ...]
    bits: FloatArray
    control: FloatArray

    @property
    def tokens(self) -> IntArray:
        """Tokens by helper, (N,)."""
        tokens: IntArray = self.count.sum(axis=1)
        return tokens

    @property
    def payload_bits(self) -> FloatArray:
        """Bits by helper, control included, (N,)."""
        bits: FloatArray = self.count @ self.bits + self.control
        return bits


def burst_energy(
    load: Load,
    way: OneWay,
    helper: IntArray,
    *,
    airtime_s: FloatArray,
    together: bool,
    circuit_power_w: float = 0.0,
) -> Spent:
    """Energy of the loads of some helpers, (m,) each.

    Parameters
    ----------
    load : Load
    way : OneWay
        Links in the direction of the loads.
    helper : (m,) int64
        Helpers with a load.
    airtime_s : (m,) float64, s
        Time that a helper's load has.
    together : bool
        Whether a helper's tokens share one burst of that length; if not, each has an equal part,
        and bears an equal part of the control.
    circuit_power_w : float, W
        Of all ends of a burst; bursts then end early where that costs less. 0: they last.
    """
    count, bits = load.count[helper].astype(np.float64), load.bits  # [m, B], [B]
    each_s = airtime_s
    if together:
        count, bits = np.ones((len(helper), 1)), load.payload_bits[helper][:, None]
    else:
        tokens = load.tokens[helper]
        each_s, bits = airtime_s / tokens, bits + (load.control[helper] / tokens)[:, None]
    one = least_energy(
        payload_bits=np.broadcast_to(bits, count.shape),
        window_s=each_s[:, None],
        bandwidth_hz=way.bandwidth_hz[helper][:, None],
        gain=way.gain[helper][:, None],
        noise_psd=way.noise_psd[helper][:, None],
        tx_power_limit_w=way.tx_power_limit_w[helper][:, None],
        circuit_power_w=circuit_power_w,
    )  # [m, B]
    return Spent(
        airtime_s=(count * one.airtime_s).sum(axis=1) if circuit_power_w else airtime_s,
        radiated_j=(count * one.radiated_j).sum(axis=1),
        circuit_j=(count * one.circuit_j).sum(axis=1),
    )


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

"""The placement problem of a bundle on a testbed: demand from the profile, prices from the air."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from siftmoe.coordinator.errors import PlacementError
from siftmoe.coordinator.links.sources import links_of
from siftmoe.coordinator.placing.problem import PlacementProblem
from siftmoe.coordinator.selection.profiled import price_tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.air.interface import AirInterface
    from siftmoe.coordinator.config.entries import AgentEntry
    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.coordinator.links.states import Links, LinkStates
    from siftmoe.models.bundle.manifest import Manifest
    from siftmoe.models.shape import ModelShape
    from siftmoe.models.similarity.profile import Profile

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Added to the seed of the links: no run has these channels.
_SEED_SHIFT: Final = 104_729
#: Coherence times between two states, so that they are independent under any process of fading.
_APART: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What a model asks of its experts.

    Parameters
    ----------
    slots : (L, E) float64
        Slots of each expert per token.
    loss_j : (L, E, E+1) float64, J
        As `PlacementProblem` has it.
    """

    slots: FloatArray
    loss_j: FloatArray


def demand_of(profile: Profile, shape: ModelShape, *, price_j_per_nat: float | None) -> Demand:
    r"""Demand of a model, from the tokens that its profile was measured on.

    .. math:: p_{li} = K\,\frac{k_{li}}{\sum_i k_{li}}, \qquad
        f_{lij} = \lambda\,\overline{w_{li}}^2\,q_{lij}

    Parameters
    ----------
    profile : Profile
        With counts k, mean gate weights and losses q of replacing (`Profile.price`).
    shape : ModelShape
    price_j_per_nat : float or None, J
        Price :math:`\lambda` of a nat; None: no expert stands in for another, none is skipped.

    Raises
    ------
    ValueError
        If the price is not positive and finite.
    ProfileMissing
        If losses are priced and the profile has no sensitivity.

    Notes
    -----
    Our own. The square of the mean weight stands for the mean square, which the profile does not
    have: the loss is somewhat too low.
    """
    counts = profile.counts.astype(np.float64)
    total = counts.sum(axis=1, keepdims=True)
    slots = shape.top_k * np.divide(counts, total, out=np.zeros_like(counts), where=total > 0.0)
    if price_j_per_nat is None:
        return Demand(slots=slots, loss_j=own_experts(slots.shape))
    if not 0.0 < price_j_per_nat < np.inf:
        raise ValueError(f"price must be positive and finite, J per nat; got {price_j_per_nat}")
    weight = np.nan_to_num(profile.gate_weight.value)  # NaN where nothing is routed
    nats = np.stack([t.deviation for t in price_tables(profile, price_j_per_nat=price_j_per_nat)])
    return Demand(slots=slots, loss_j=price_j_per_nat * weight[..., None] ** 2 * nats)


def own_experts(shape: tuple[int, ...]) -> FloatArray:
    """Losses (L, E, E+1) under which every slot is served by its own expert."""
    layers, experts = shape
    loss = np.full((layers, experts, experts + 1), np.inf)
    loss[:, range(experts), range(experts)] = 0.0
    return loss


def drawn_states(
    radio: RadioEntry, distances_m: Sequence[float], *, count: int, first: int = 0
) -> list[LinkStates]:
    """Independent states of the links that the settings describe; one if they do not change.

    Parameters
    ----------
    radio : RadioEntry
    distances_m : sequence of float, m
    count : int
    first : int
        Number of the first state: others are independent of those before.
    """
    seed = radio.seed + _SEED_SHIFT
    links: Links = links_of(msgspec.structs.replace(radio, seed=seed), distances_m)
    step_s = _APART * radio.coherence_time_s
    states = [links.states(step_s * k) for k in range(first, first + count)]
    gains = np.stack([[s.uplink_gain, s.downlink_gain] for s in states])
    return states[:1] if (gains == gains[0]).all() else states


def link_prices(air: AirInterface, states: Sequence[LinkStates]) -> FloatArray:
    """Price of one token's vector to each helper in each state, (S, N) J; infinite: out of reach.

    It is what the air counts for a single token in its own window. The air has one width.
    """
    prices = np.stack([air.pricing(s, 1).energy_j[:, 1] for s in states])
    reached = np.stack([s.available() for s in states])
    return np.where(reached, prices, np.inf)


def sizes_of(manifest: Manifest) -> IntArray:
    """Bytes of every expert's file, (L, E)."""
    shape = manifest.shape
    return np.array(
        [
            [manifest.expert_file(layer, e).num_bytes for e in range(shape.num_experts)]
            for layer in range(shape.num_layers)
        ],
        dtype=np.int64,
    )


def memories_of(agents: Sequence[AgentEntry], *, default: int | None) -> IntArray:
    """Memory of each agent for experts, (N,) bytes.

    Raises
    ------
    PlacementError
        If an agent states none and there is no default.
    """
    found = [agent.memory_bytes or default for agent in agents]
    for agent, memory in zip(agents, found, strict=True):
        if memory is None:
            raise PlacementError(
                f"agent {agent.name!r} states no memory_bytes; add it to the testbed file, or give "
                f"--memory for all agents that state none"
            )
    return np.array(found, dtype=np.int64)


def placement_problem(
    demand: Demand,
    prices: FloatArray,
    *,
    num_bytes: IntArray,
    capacity_bytes: IntArray,
    most_hosts: int | None = None,
) -> PlacementProblem:
    """Put a problem together; arguments as of `PlacementProblem`.

    Raises
    ------
    PlacementError
        If a helper is out of reach in every state.
    """
    never = np.flatnonzero(~np.isfinite(prices).any(axis=0))
    if never.size:
        raise PlacementError(
            f"agent number {never[0]} is out of reach in all {len(prices)} channel states; raise "
            f"tx_power_limit_w or the deadline, or leave it out"
        )
    helpers = len(capacity_bytes)
    return PlacementProblem(
        slots=demand.slots,
        loss_j=demand.loss_j,
        link_j=prices,
        num_bytes=num_bytes,
        capacity_bytes=capacity_bytes,
        most_hosts=helpers if most_hosts is None else min(most_hosts, helpers),
    )

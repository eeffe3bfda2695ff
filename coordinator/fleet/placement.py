"""Placement: which helper hosts which experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from siftmoe.coordinator.errors import PlacementError

if TYPE_CHECKING:
    from siftmoe.coordinator.config.entries import AgentEntry, ExpertId
    from siftmoe.models.shape import ModelShape

_NAMED = 5  # missing experts that a message lists


@dataclass(frozen=True, slots=True)
class Placement:
    """Experts of each helper, sorted; an expert may have several hosts (replicas).

    Parameters
    ----------
    experts : tuple of tuple of (layer, expert)
        By helper.
    """

    experts: tuple[tuple[ExpertId, ...], ...]

    @classmethod
    def explicit(cls, experts: Sequence[Sequence[ExpertId]]) -> Placement:
        """Give each helper the experts named for it."""
        return cls(tuple(tuple(sorted(set(given))) for given in experts))

    @classmethod
    def round_robin(cls, shape: ModelShape, *, num_helpers: int, replicas: int = 1) -> Placement:
        """Put expert e of every layer on helper e mod N, and its replicas on the next ones.

        Raises
        ------
        ValueError
            If there are no helpers, or more replicas than helpers.
        """
        if not 1 <= replicas <= num_helpers:
            raise ValueError(f"{replicas} replicas on {num_helpers} helpers: need 1 to as many")
        experts: list[list[ExpertId]] = [[] for _ in range(num_helpers)]
        for expert in range(shape.num_experts):
            for replica in range(replicas):
                given = experts[(expert + replica) % num_helpers]
                given.extend((layer, expert) for layer in range(shape.num_layers))
        return cls.explicit(experts)

    @classmethod
    def by_memory(
        cls, num_bytes: Mapping[ExpertId, int], *, capacity_bytes: Sequence[int]
    ) -> Placement:
        """Spread experts over helpers with room, the largest expert first.

        Each goes to the helper with most free memory, which balances helpers; where that leaves no
        room for a large expert, it goes to the first helper in which it fits.

        Parameters
        ----------
        num_bytes : mapping
            Size of each expert's file.
        capacity_bytes : sequence of int
            Memory of each helper for experts.

        Raises
        ------
        PlacementError
            If they do not fit; the message says how many bytes are missing.
        """
        if not capacity_bytes:
            raise ValueError("placement by memory needs at least one helper")
        needed, offered = sum(num_bytes.values()), sum(capacity_bytes)
        if needed > offered:
            raise PlacementError(
                f"the experts need {needed} bytes and {len(capacity_bytes)} agents offer "
                f"{offered}: {needed - offered} bytes are missing; add agents or memory_bytes"
            )
        try:
            return cls._fill(num_bytes, capacity_bytes, first_fit=False)
        except PlacementError:
            return cls._fill(num_bytes, capacity_bytes, first_fit=True)

    @classmethod
    def _fill(
        cls, num_bytes: Mapping[ExpertId, int], capacity: Sequence[int], *, first_fit: bool
    ) -> Placement:
        room = list(capacity)
        experts: list[list[ExpertId]] = [[] for _ in capacity]
        for (layer, expert), size in sorted(num_bytes.items(), key=lambda item: (-item[1], item)):
            fits = [n for n, free in enumerate(room) if size <= free]
            if not fits:
                raise PlacementError(
                    f"expert {expert} of layer {layer} ({size} bytes) fits on no agent: most room "
                    f"is {max(room)} bytes, {size - max(room)} bytes are missing; raise "
                    f"memory_bytes of an agent"
                )
            helper = fits[0] if first_fit else max(fits, key=lambda n: room[n])
            room[helper] -= size
            experts[helper].append((layer, expert))
        return cls.explicit(experts)

    def selection(self, helper: int) -> str:
        """Experts of a helper as text, as the agent and the testbed file take it."""
        return ",".join(f"{layer}:{expert}" for layer, expert in self.experts[helper])

    def check(self, shape: ModelShape) -> None:
        """Check that every expert has a host.

        Raises
        ------
        PlacementError
            If one has none.
        ValueError
            If an expert is not of the model.
        """
        placed = {pair for given in self.experts for pair in given}
        for layer, expert in placed:
            shape.check_expert(layer, expert)
        missing = sorted(_all_experts(shape) - placed)
        if missing:
            raise PlacementError(
                f"no agent hosts {listed(missing)}; add them to the experts of an agent"
            )


def listed(experts: Sequence[ExpertId]) -> str:
    """Name the first experts of a list, and how many more there are."""
    names = ", ".join(f"{layer}:{expert}" for layer, expert in experts[:_NAMED])
    more = f" and {len(experts) - _NAMED} more" if len(experts) > _NAMED else ""
    return f"{names}{more} (layer:expert)"


def _all_experts(shape: ModelShape) -> set[ExpertId]:
    return {(m, e) for m in range(shape.num_layers) for e in range(shape.num_experts)}


def place(
    agents: Sequence[AgentEntry], shape: ModelShape, *, num_bytes: Mapping[ExpertId, int]
) -> Placement:
    """Place a model's experts by a testbed file.

    Agents with a list host exactly that. Experts on no list go to the agents with "auto": by memory
    if each of them states its ``memory_bytes``, else expert e to the (e mod n)-th of them.

    Parameters
    ----------
    agents : sequence of AgentEntry
    shape : ModelShape
    num_bytes : mapping
        Size of each expert's file.

    Raises
    ------
    PlacementError
        If an expert has no host or does not fit.
    ConfigError
        If an agent is given an expert that the model does not have.
    """
    given = [
        agent.expert_list(num_layers=shape.num_layers, num_experts=shape.num_experts)
        for agent in agents
    ]
    auto = [n for n, experts in enumerate(given) if experts is None]
    left = _all_experts(shape) - {pair for experts in given for pair in experts or ()}
    share = _share(left, [agents[n] for n in auto], num_bytes) if auto else ()
    spread = dict(zip(auto, share, strict=True))
    placement = Placement.explicit(
        [spread.get(n, ()) if experts is None else experts for n, experts in enumerate(given)]
    )
    for agent, experts in zip(agents, placement.experts, strict=True):
        _check_room(agent, sum(num_bytes[pair] for pair in experts))
    placement.check(shape)
    return placement


def _check_room(agent: AgentEntry, needed: int) -> None:
    if agent.memory_bytes is not None and needed > agent.memory_bytes:
        raise PlacementError(
            f"agent {agent.name!r}: its experts need {needed} bytes, memory_bytes is "
            f"{agent.memory_bytes}: {needed - agent.memory_bytes} bytes are missing; give it fewer"
        )


def _share(
    left: set[ExpertId], agents: Sequence[AgentEntry], num_bytes: Mapping[ExpertId, int]
) -> tuple[tuple[ExpertId, ...], ...]:
    capacity = [agent.memory_bytes for agent in agents if agent.memory_bytes is not None]
    if len(capacity) == len(agents):
        sizes = {pair: num_bytes[pair] for pair in left}
        return Placement.by_memory(sizes, capacity_bytes=capacity).experts
    return tuple(
        tuple(pair for pair in sorted(left) if pair[1] % len(agents) == n)
        for n in range(len(agents))
    )

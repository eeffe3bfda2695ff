"""The fleet: state of every agent, and the experts that it hosts.

Helpers are numbered in the order of the testbed file; that number is the helper's index in every
array of the coordinator. The client sets their states; a policy gets the experts of the ready
ones.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.fleet.status import AgentState, AgentStatus

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from siftmoe.agent.wire.protocol import HelloReply
    from siftmoe.coordinator.config.entries import AgentEntry
    from siftmoe.coordinator.fleet.placement import Placement
    from siftmoe.models.shape import ModelShape

    BoolArray = NDArray[np.bool_]

_log = logging.getLogger(__name__)


class Fleet:
    """All agents of a testbed and what each hosts.

    Parameters
    ----------
    agents : sequence of AgentEntry
    shape : ModelShape
        Of the model that they must serve.
    model_hash : str
        Identity of that model.
    placement : Placement or None
        Experts that each must host at least; None accepts any.
    now_s : float, s
        Present time on the clock of the reported states.
    """

    def __init__(
        self,
        agents: Sequence[AgentEntry],
        *,
        shape: ModelShape,
        model_hash: str,
        placement: Placement | None = None,
        now_s: float = 0.0,
    ) -> None:
        if not agents:
            raise ValueError("a fleet needs at least one agent")
        if placement is not None and len(placement.experts) != len(agents):
            raise ValueError(
                f"the placement is for {len(placement.experts)} helpers, the fleet has "
                f"{len(agents)}"
            )
        self.shape = shape
        self.model_hash = model_hash
        self._placement = placement
        self._agents = [
            AgentStatus(
                index=index,
                name=entry.name,
                address=entry.address,
                state=AgentState.CONNECTING,
                reason="not connected yet",
                since_s=now_s,
                key=entry.key,
            )
            for index, entry in enumerate(agents)
        ]
        self._index = {entry.name: index for index, entry in enumerate(agents)}
        self._hosts = np.zeros((shape.num_layers, len(agents), shape.num_experts), dtype=bool)

    def __len__(self) -> int:
        return len(self._agents)

    def __iter__(self) -> Iterator[AgentStatus]:
        return iter(self._agents)

    def __getitem__(self, index: int) -> AgentStatus:
        return self._agents[index]

    @property
    def names(self) -> tuple[str, ...]:
        """Names by index."""
        return tuple(agent.name for agent in self._agents)

    def index(self, name: str) -> int:
        """Index of an agent by name; ValueError if there is none of that name."""
        if name not in self._index:
            raise ValueError(f"no agent is called {name!r}; there are {', '.join(self._index)}")
        return self._index[name]

    def hosts(self, layer: int) -> BoolArray:
        """Which ready helper holds which expert of a layer, (N, E)."""
        hosts: BoolArray = self._hosts[layer].copy()
        return hosts

    def residents(self, index: int, layer: int) -> tuple[int, ...] | None:
        """Experts of a layer that a ready agent hosts; None if it takes no short headers."""
        hello = self._agents[index].hello
        if hello is None or not hello.short:
            return None
        return tuple(np.flatnonzero(self._hosts[layer, index]).tolist()) or None

    def answers_mixed(self) -> BoolArray:
        """Which helper gives answers of several widths, (N,), by its last hello."""
        return np.array([a.hello is not None and a.hello.short for a in self._agents])

    def ready(self) -> BoolArray:
        """Which helpers are ready, (N,)."""
        return np.array([agent.state is AgentState.READY for agent in self._agents])

    def knows(self, widths: Sequence[int]) -> BoolArray:
        """Which helper supports which widths of vectors, (N, B), by its last hello."""
        known = np.zeros((len(self._agents), len(widths)), dtype=bool)
        for agent in self._agents:
            if agent.hello is not None:
                known[agent.index] = [width in agent.hello.widths for width in widths]
        return known

    def excluded(self) -> str:
        """Helpers that are not ready, with reasons, as booked in the ledger; empty if all are."""
        return "; ".join(
            f"{agent.name}: {agent.state.value}: {agent.reason.replace('; ', ', ')}"
            for agent in self._agents
            if agent.state is not AgentState.READY
        )

    def orphans(self) -> list[tuple[int, int]]:
        """Experts (layer, expert) that no ready helper holds."""
        layers, experts = np.nonzero(~self._hosts.any(axis=1))  # [L, N, E] -> [L, E]
        return list(zip(layers.tolist(), experts.tolist(), strict=True))

    def set_state(
        self, index: int, state: AgentState, *, reason: str, now_s: float, passing: bool = False
    ) -> None:
        """Set an agent's state; only `welcome` makes one ready, and a distrusted one stays so.

        A ``passing`` state is logged at debug level.
        """
        if state is AgentState.READY:
            raise ValueError("an agent becomes ready by its hello; use welcome()")
        agent = self._agents[index]
        if agent.state is AgentState.DISTRUSTED or (agent.state, agent.reason) == (state, reason):
            return
        self._hosts[:, index] = False
        level = logging.DEBUG if passing else logging.WARNING
        self._change(replace(agent, state=state, reason=reason, since_s=now_s), level)

    def welcome(self, index: int, hello: HelloReply, *, now_s: float) -> bool:
        """Check an agent's hello; the agent becomes ready, or is refused with the reason."""
        if self._agents[index].state is AgentState.DISTRUSTED:
            return False
        agent = replace(self._agents[index], hello=hello, since_s=now_s)
        self._hosts[:, index] = False
        mismatch = self._mismatch(index, hello)
        if mismatch:
            self._change(replace(agent, state=AgentState.REFUSED, reason=mismatch), logging.WARNING)
            return False
        for layer, expert in hello.residents:
            self._hosts[layer, index, expert] = True
        reason = f"hosts {len(hello.residents)} experts on {hello.provider}"
        self._change(replace(agent, state=AgentState.READY, reason=reason), logging.INFO)
        return True

    def _change(self, agent: AgentStatus, level: int) -> None:
        _log.log(level, "%s", agent)
        self._agents[agent.index] = agent

    def _mismatch(self, index: int, hello: HelloReply) -> str:
        """How an agent's hello contradicts the testbed; empty if it does not."""
        if hello.model_hash != self.model_hash:
            return (
                f"serves model {hello.model_hash[:12]}…, this testbed's is "
                f"{self.model_hash[:12]}…; give it the same bundle"
            )
        if hello.hidden_size != self.shape.hidden_size:
            return f"has hidden size {hello.hidden_size}, the model's is {self.shape.hidden_size}"
        for layer, expert in hello.residents:
            if layer >= self.shape.num_layers or expert >= self.shape.num_experts:
                return (
                    f"says it hosts expert {expert} of layer {layer}; the model has "
                    f"{self.shape.num_layers} layers of {self.shape.num_experts} experts"
                )
        if self._placement is not None:
            missing = sorted({*self._placement.experts[index]} - {*hello.residents})
            if missing:
                layer, expert = missing[0]
                return (
                    f"hosts {len(hello.residents)} experts, but not expert {expert} of layer "
                    f"{layer} ({len(missing)} missing); start it with the testbed's experts"
                )
        return ""

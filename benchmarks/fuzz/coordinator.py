"""Target of `benchmarks.fuzz.protocol`: a coordinator's message handling without sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from benchmarks.fuzz.inputs import mutated
from siftmoe.agent.wire.protocol import HelloReply, Sound, SoundReply, Stats, StatsReply, encode
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.board_energy import board_row
from siftmoe.coordinator.client.health.heat import Heats
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import unknown_tables
from siftmoe.coordinator.sounding.results import heard_by_helper, sounding_row
from siftmoe.models.bundle.manifest import Manifest
from siftmoe.tools.watching.agents import summary
from tests.message_examples import EXAMPLES, HIDDEN_SIZE

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable
    from pathlib import Path

    import atheris

    from siftmoe.agent.errors import ProtocolError


class Fed(Client):
    """A client whose only agent answers with the given frames, at once or never."""

    def __init__(self, fleet: Fleet, counts: Counter[str]) -> None:
        self._counts = counts
        self.now_s = 0.0
        self.asked = 0
        self.feed: Callable[[int], list[bytes]] = lambda _: []
        super().__init__(fleet, heats=Heats(), clock=lambda: self.now_s)

    def _send(self, index: int, request: Any) -> str:
        self.asked = request.id
        encode(request)
        return ""

    def _take_in(self, timeout_s: float) -> None:
        if timeout_s > 0.0:
            self._handle(0, self.feed(self.asked))
            self.now_s += timeout_s

    def _take_garbage(self, index: int, error: ProtocolError) -> None:
        self._counts["no message"] += 1
        super()._take_garbage(index, error)

    def greet(self) -> None:
        """Say hello to the agent and take the given frames as its answer."""
        self._checks.greet(0)
        self._handle(0, self.feed(self.asked))

    def look(self) -> None:
        """Send all requests that are due after a long time."""
        self.now_s += 100.0
        self._checks.ask()
        self._handle(0, self.feed(self.asked))


class _PlanMade(Exception):
    """Carries a plan that a coordinator was about to dispatch."""


def planned(fleet: Fleet, folder: Path) -> tuple[Any, np.ndarray]:
    """Return a plan as a coordinator makes it, and its hidden vectors."""

    class Recorder:
        deadline_s = 1.0

        def attend(self) -> None:
            """Do nothing: there is nothing to wait for."""

        def attempt(self, plan: Any, hidden: np.ndarray, **_: Any) -> Any:
            """Keep the plan."""
            raise _PlanMade(plan, hidden)

    shape = fleet.shape
    budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)
    with Ledger.create(folder / "fuzz.sqlite") as ledger:
        coordinator = Coordinator(
            fleet=fleet,
            dispatcher=Recorder(),
            links=FixedLinks(gain=[1e-7], noise_psd=4e-21, bandwidth_hz=2e6),
            air=AirInterface(
                payload_bits=256, token_deadline_s=1e-3, tx_power_limit_w=1.0, width=32
            ),
            policy=make_policy("topk"),
            tables=unknown_tables(shape.num_layers, shape.num_experts, budget=budget, width=32),
            ledger=ledger,
        )
        coordinator.begin_step(tokens=3, prefill=True)
        routed = np.array([[0, 1], [1, 2], [2, 0]])
        hidden = np.ones((3, HIDDEN_SIZE), dtype=np.float32)
        try:
            coordinator.run_layer(
                0, hidden, routed_experts=routed, gate_weights=np.full((3, 2), 0.5)
            )
        except _PlanMade as made:
            return made.args
    raise RuntimeError("the coordinator dispatched nothing")


def coordinator_end(
    bundle: Path, counts: Counter[str]
) -> Callable[[atheris.FuzzedDataProvider], None]:
    """Handle frames as a coordinator does: answers to hello, apply, sound and stats."""
    manifest = Manifest.load(bundle)
    entry = AgentEntry(name="a0", address=f"ipc://{bundle}/nobody")
    fleet = Fleet([entry], shape=manifest.shape, model_hash=manifest.model_hash)
    shape = manifest.shape
    residents = [(n, e) for n in range(shape.num_layers) for e in range(shape.num_experts)]
    good = msgspec.structs.replace(
        next(e for e in EXAMPLES if isinstance(e, HelloReply)),
        model_hash=manifest.model_hash,
        residents=tuple(residents),
    )
    before = next(e for e in EXAMPLES if isinstance(e, StatsReply))
    fleet.welcome(0, good, now_s=0.0)
    plan, hidden = planned(fleet, bundle)
    client = Fed(fleet, counts)
    dispatcher = Dispatcher(client, deadline_s=1.0)
    sound = next(e for e in EXAMPLES if isinstance(e, Sound))

    def run(data: atheris.FuzzedDataProvider) -> None:
        client.feed = lambda request_id: mutated(data, request_id=request_id)
        client.greet()
        counts[f"hello: {fleet[0].state.value}"] += 1
        fleet.welcome(0, good, now_s=client.now_s)
        kind = data.ConsumeIntInRange(0, 3)
        if kind == 0:
            client.look()
            fleet.hosts(0), fleet.excluded()
        elif kind == 1:
            result = dispatcher.attempt(plan, hidden, layer=0)
            if result.output.shape != hidden.shape or len(result.failures) > 1:
                raise RuntimeError("a reply went into the output that does not belong there")
            failed = [type(error).__name__ for error in result.failures.values()]
            counts[f"apply: {', '.join(failed) or 'a result'}"] += 1
        else:
            request = [Stats(id=client.next_id()), sound][kind - 2]
            request = msgspec.structs.replace(request, id=client.next_id())
            for reply in client.exchange({0: request}, deadline_s=1.0).replies.values():
                consume(reply)
        client.look()

    def consume(reply: Any) -> None:
        """Use a reply as the coordinator and the tools do."""
        counts[f"reply: {type(reply).__name__}"] += 1
        if isinstance(reply, StatsReply):
            summary(reply)
            board_row("a0", before, reply)
        if isinstance(reply, SoundReply) and reply.heard is not None:
            found = heard_by_helper(0, reply.heard, now_s=client.now_s)
            sounding_row(found, agent="a0", carrier_hz=2.45e9)

    return run

"""One layer on four peers over real sockets, each answering as a test asks."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
from peers import Peer

from siftmoe.agent.errors import ErrorCode
from siftmoe.agent.wire.protocol import Failure, Result
from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.ledger.store import (
    Ledger,
    SelectionRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import LayerTables
from siftmoe.models.shape import ModelShape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from numpy.typing import NDArray

E, D = 4, 3  # expert e scales a vector by e + 1, whoever computes it
#: Peer n of four: the first two host experts 0 and 1, the others 2 and 3.
RESIDENTS = [((0, 0), (0, 1)), ((0, 0), (0, 1)), ((0, 2), (0, 3)), ((0, 2), (0, 3))]
#: Helper 0 and 2 are nearer than their replicas, and so are asked first.
GAINS = [4e-8, 1e-8, 3e-8, 2e-8]
SKIP, STAND_IN = 1.0, 0.1
SHAPE = ModelShape(
    num_layers=1, num_experts=E, top_k=2, hidden_size=D, intermediate_size=8, activation="silu"
)
ROUTED = np.array([[0, 2], [1, 3], [0, 1], [2, 3], [3, 0]])
GATES = np.tile([0.6, 0.4], (5, 1))
AIR = AirInterface(
    payload_bits=256, token_deadline_s=2e-4, tx_power_limit_w=1.0, width=32, reply_width=32
)
LINKS = FixedLinks(gain=GAINS, noise_psd=4e-21, bandwidth_hz=2e6)
HIDDEN = np.random.default_rng(0).standard_normal((5, D)).astype(np.float32)
WHOLE = (HIDDEN.astype(float)[:, None] * (GATES * (ROUTED + 1))[..., None]).sum(axis=1)


def answer(request: Any) -> list[Any]:
    """What a healthy agent says."""
    output = np.zeros(request.hidden.shape, np.float32)
    for (row, expert), weight in zip(request.pairs, request.weights, strict=True):
        output[row] += weight * (expert + 1) * request.hidden[row]
    return [Result(id=request.id, output=output, compute_s=2e-6, queue_s=1e-6)]


def busy(request: Any) -> list[Any]:
    return [Failure(id=request.id, code=ErrorCode.BUSY, message="256 requests are waiting")]


def out_of_memory(request: Any) -> list[Any]:
    return [Failure(id=request.id, code=ErrorCode.OUT_OF_MEMORY, message="no 3 GB left")]


def garbage(_request: Any) -> list[Any]:
    return [[b"\xff\xfe no message"]]


def wrong_shape(request: Any) -> list[Any]:
    (result,) = answer(request)
    return [Result(id=request.id, output=result.output[:-1], compute_s=0.0, queue_s=0.0)]


def silent(_request: Any) -> list[Any]:
    return []


def tables(kind: BudgetKind = BudgetKind.PER_TOKEN, value: float = 0.05) -> list[LayerTables]:
    """A stand-in costs a tenth, a skip 1, a token may deviate by 0.05."""
    deviation = np.full((E, E + 1), STAND_IN)
    deviation[:, -1] = SKIP
    deviation[np.diag_indices(E)] = 0.0
    budget = Budget(kind=kind, value=value)
    return [
        LayerTables(
            deviation=deviation, scale=np.ones_like(deviation), budget=budget, width=AIR.width
        )
    ]


class Bench:
    """A coordinator of one layer, its peers and its ledger."""

    def __init__(self, coordinator: Coordinator, client: Client, peers: list[Peer]) -> None:
        self.coordinator, self.client, self.peers = coordinator, client, peers
        self.ledger = coordinator.ledger

    def serve(
        self, *, hidden: Any = HIDDEN, routed: Any = ROUTED, gates: Any = GATES
    ) -> NDArray[np.float32]:
        self.coordinator.begin_step(tokens=len(hidden), prefill=True)
        try:
            output = self.coordinator.run_layer(
                0, hidden, routed_experts=routed, gate_weights=gates
            )
        except BaseException:
            self.coordinator.end_step(failed=True)
            raise
        self.coordinator.end_step(failed=False)
        return output

    def selection(self) -> SelectionRow:
        return list(self.ledger.rows(SelectionRow))[-1]

    def bursts(self, direction: str) -> list[tuple[str, int, int]]:
        step = list(self.ledger.rows(StepRow))[-1].step
        return [
            (row.agent, row.tokens, row.missed)
            for row in self.ledger.rows(TransmissionRow)
            if (row.step, row.direction) == (step, direction)
        ]


@contextlib.contextmanager
def benches(folder: Path) -> Iterator[Callable[..., Bench]]:
    """Starts a coordinator on four peers, each with its own way to answer; None is healthy."""
    with contextlib.ExitStack() as stack:

        def start(
            *answers: Any, policy: str = "topk", deadline_s: float = 20.0, **more: Any
        ) -> Bench:
            peers = []
            for n in range(4):
                how = answers[n] if n < len(answers) else None
                peer = Peer(
                    how or answer, hidden_size=D, residents=more.get("residents", RESIDENTS)[n]
                )
                stack.callback(peer.close)
                peers.append(peer)
            agents = [AgentEntry(name=f"a{n}", address=p.address) for n, p in enumerate(peers)]
            fleet = Fleet(agents, shape=SHAPE, model_hash="m" * 64)
            client = stack.enter_context(Client(fleet))
            client.connect(timeout_s=20.0)
            ledger = stack.enter_context(Ledger.create(folder / "ledger.sqlite"))
            coordinator = Coordinator(
                fleet=fleet,
                dispatcher=Dispatcher(
                    client,
                    deadline_s=deadline_s,
                    patience_s=0.2,
                    check_one_in=more.get("check_one_in"),
                    reference=more.get("reference"),
                ),
                links=LINKS,
                air=more.get("air") or AIR,
                policy=make_policy(policy),
                tables=more.get("tables") or tables(),
                ledger=ledger,
            )
            return Bench(coordinator, client, peers)

        yield start

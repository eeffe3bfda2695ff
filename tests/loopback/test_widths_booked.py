"""Widths chosen by a policy, carried by real agents, and booked as they travelled."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from bundles import reference, shape_of, write_bundle
from profiles import EXPERTS, LAYERS, profile_of

from siftmoe.agent.config import AgentConfig
from siftmoe.agent.process.launch import spawn, stop_all
from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.air.slotted import SlottedAir
from siftmoe.coordinator.client.requests import Client
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.dispatch.dispatcher import Dispatcher
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.ledger.parts import Use
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, TransmissionRow
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.setup import prepare_policy
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.models.bundle.manifest import Manifest
from siftmoe.models.vectors.packing import row_bits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

D, TOKENS = 24, 12
SHAPE = shape_of(num_layers=LAYERS, num_experts=EXPERTS, hidden_size=D)
GAINS = [4e-8, 2e-9, 3e-8]
HOSTED = ["*:0-1", "*:1-3", "*:2-3"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("widths") / "bundle", SHAPE)


@pytest.fixture(scope="module")
def addresses(bundle: Path) -> Iterator[list[str]]:
    """The last agent is an older one, which knows 8 bits and more."""
    known = [{}, {}, {"widths": "8,16,32"}]
    configs = [
        AgentConfig(bundle=str(bundle), name=f"a{n}", experts=e, provider="cpu", threads=1, **more)
        for n, (e, more) in enumerate(zip(HOSTED, known, strict=True))
    ]
    agents = [agent.wait() for agent in [spawn(config) for config in configs]]
    yield [agent.endpoint for agent in agents]
    stop_all([agent.process for agent in agents])


class Watch:
    """A dispatcher that remembers what really travelled."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher, self.done = dispatcher, []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dispatcher, name)

    def attempt(self, *args: Any, **options: Any) -> Any:
        self.done.append(self._dispatcher.attempt(*args, **options))
        return self.done[-1]


@contextlib.contextmanager
def running(
    addresses: list[str],
    bundle: Path,
    folder: Path,
    policy: str,
    *,
    slots: int = 0,
    control: bool = False,
    downlink_price: float | None = None,
) -> Iterator[tuple[Coordinator, Watch, Ledger]]:
    entries = [AgentEntry(name=f"a{n}", address=address) for n, address in enumerate(addresses)]
    fleet = Fleet(entries, shape=SHAPE, model_hash=Manifest.load(bundle).model_hash)
    prepared = prepare_policy(PolicySpec.parse(policy), shape=SHAPE, profile=profile_of(2))
    links = FixedLinks(gain=GAINS, noise_psd=4e-21, bandwidth_hz=2e6)
    radio = RadioEntry(deadline_s=4e-4, control=control, downlink_price=downlink_price)
    air = air_interface(radio, SHAPE, prepared.widths)
    if slots:  # at a price of outage that lets nothing be lost
        fading = {"mean": links.states(0.0), "rng": np.random.default_rng(7)}
        air = SlottedAir.over(air, slots=slots, outage_price=1e4, **fading)
    with Client(fleet) as client, Ledger.create(folder / "ledger.sqlite") as ledger:
        client.connect(timeout_s=60.0)
        watch = Watch(Dispatcher(client, deadline_s=60.0))
        coordinator = Coordinator(
            fleet=fleet,
            dispatcher=watch,
            links=links,
            air=air,
            policy=prepared.select,
            tables=prepared.tables,
            ledger=ledger,
        )
        yield coordinator, watch, ledger


def serve(
    coordinator: Coordinator, *, tokens: int = TOKENS, seed: int = 5
) -> list[tuple[Any, ...]]:
    """One step over all layers: hidden states, routing and output of each."""
    rng = np.random.default_rng(seed)
    served = []
    coordinator.begin_step(tokens=tokens, prefill=tokens > 1)
    for layer in range(LAYERS):
        hidden = rng.standard_normal((tokens, D)).astype(np.float32)
        routed = np.array([rng.permutation(EXPERTS)[:2] for _ in range(tokens)])
        gates = rng.dirichlet((2.0, 2.0), tokens)
        output = coordinator.run_layer(layer, hidden, routed_experts=routed, gate_weights=gates)
        served.append((layer, hidden, routed, gates, output))
    coordinator.end_step(failed=False)
    return served


@pytest.mark.parametrize("slots", [0, 4], ids=["slow", "fast"])
# prices high enough that nothing is skipped: random profiles know no cheap stand-ins
@pytest.mark.parametrize(
    "policy",
    [
        "siftmoe:price=1e-10:bits=auto",
        "siftmoe:price=1e-10:bits=auto:downlink_bits=5",
        "skip-only:price=1e-9:bits=auto",
        "channel-width:price=1e-10:bits=auto",
        "topk:bits=8",
    ],
)
def test_the_ledger_has_the_bits_that_travelled(
    addresses: list[str], bundle: Path, tmp_path: Path, policy: str, slots: int
) -> None:
    with running(addresses, bundle, tmp_path, policy, slots=slots) as (coordinator, watch, ledger):
        serve(coordinator)
        rows = list(ledger.rows(TransmissionRow))
        selections = list(ledger.rows(SelectionRow))
    assert len(watch.done) == LAYERS
    sent = 0
    for layer, done in enumerate(watch.done):
        for direction, travelled in (("up", done.uplink_bits), ("down", done.downlink_bits)):
            booked = {r.agent: r for r in rows if (r.layer, r.direction) == (layer, direction)}
            assert {f"a{n}": bits for n, bits in travelled.items()} == {
                agent: row.payload_bits for agent, row in booked.items()
            }
            for agent, row in booked.items():
                parts = [tuple(map(int, part.split(":"))) for part in row.widths.split()]
                assert sum(count for _, count in parts) == row.tokens
                assert sum(count * row_bits(D, width) for width, count in parts) == row.payload_bits
                if agent == "a2":
                    assert all(width >= 8 for width, _ in parts) or direction == "down"
            sent += sum(row.tokens for row in booked.values())
    assert sent > 0
    up = [row for row in rows if row.direction == "up"]
    if policy.startswith("siftmoe:price=1e-10:bits=auto"):
        assert len({part.split(":")[0] for row in up for part in row.widths.split()}) > 1
    for layer, selection in enumerate(selections):
        energy = sum(row.energy_j for row in rows if row.layer == layer)  # both directions
        # Over a channel that changes it is foreseen on average.
        assert selection.predicted_energy_j == pytest.approx(energy, rel=0.5 if slots else 1e-9)


def test_control_is_booked_beside_the_vectors_and_pays_its_share(
    addresses: list[str], bundle: Path, tmp_path: Path
) -> None:
    policy = "siftmoe:price=1e-9:bits=auto"
    with running(addresses, bundle, tmp_path, policy, control=True) as (coordinator, watch, ledger):
        serve(coordinator)
        rows = list(ledger.rows(TransmissionRow))
        summary = ledger.summary()
    for layer, done in enumerate(watch.done):
        for direction, travelled in (("up", done.uplink_bits), ("down", done.downlink_bits)):
            booked = {r.agent: r for r in rows if (r.layer, r.direction) == (layer, direction)}
            assert {f"a{n}": bits for n, bits in travelled.items()} == {
                agent: row.payload_bits - row.control_bits for agent, row in booked.items()
            }
            for row in booked.values():
                least = 80 if direction == "up" else 72
                assert row.control_bits >= least
                share = row.control_bits / row.payload_bits
                assert row.control_j == pytest.approx(share * row.energy_j)
    assert summary.joule(use=Use.CONTROL).value == pytest.approx(sum(r.control_j for r in rows))


def test_a_single_token_on_its_way_is_booked_with_all_that_it_was_sent(
    addresses: list[str], bundle: Path, tmp_path: Path
) -> None:
    """Under fast fading it is selected for again in every block, and changes helpers and widths."""
    policy, steps = "siftmoe:price=1e-9:bits=auto", 40
    with running(addresses, bundle, tmp_path, policy, slots=6, downlink_price=0.0) as (
        coordinator,
        watch,
        ledger,
    ):  # only the uplink counts, so that tokens move more often
        for seed in range(steps):
            serve(coordinator, tokens=1, seed=seed)
        rows = [row for row in ledger.rows(TransmissionRow) if row.direction == "up"]
        selections = list(ledger.rows(SelectionRow))
    assert len(watch.done) == len(selections) == steps * LAYERS
    left = 0
    for place, done in enumerate(watch.done):
        booked = {row.agent: row for row in rows if (row.step, row.layer) == divmod(place, LAYERS)}
        for n, bits in done.uplink_bits.items():
            assert booked[f"a{n}"].payload_bits >= bits  # and what it had got at another width
        for agent, row in booked.items():
            parts = [tuple(map(int, part.split(":"))) for part in row.widths.split()]
            most = sum(count * row_bits(D, width) for width, count in parts)
            assert sum(count for _, count in parts) == row.tokens
            assert 0.0 < row.payload_bits <= most
            assert row.missed == row.tokens - (int(agent[1]) in done.uplink_bits)
            if not row.missed:
                assert row.payload_bits == most == done.uplink_bits[int(agent[1])]
            left += row.missed
    assert left > 0


@pytest.mark.parametrize("policy", ["topk:bits=4", "topk:bits=8:downlink_bits=4"])
def test_an_agent_that_knows_too_little_is_not_asked(
    addresses: list[str], bundle: Path, tmp_path: Path, policy: str
) -> None:
    with running(addresses, bundle, tmp_path, policy) as (coordinator, watch, ledger):
        served = serve(coordinator)
        rows, selections = list(ledger.rows(TransmissionRow)), list(ledger.rows(SelectionRow))
    assert {row.agent for row in rows} == {"a0", "a1"}
    assert all(not done.failures for done in watch.done)
    assert all("a2: knows not both" in row.excluded for row in selections)
    for layer, hidden, routed, gates, output in served:  # a0 and a1 host everything together
        experts = np.stack(
            [reference(SHAPE, layer, e, hidden.astype(float)) for e in range(EXPERTS)]
        )
        whole = (gates[..., None] * experts[routed, np.arange(TOKENS)[:, None]]).sum(axis=1)
        error = np.linalg.norm(output - whole, axis=1) / np.linalg.norm(whole, axis=1)
        assert 0.005 < np.median(error) < 0.3  # four bits, and no more than that

"""From a profile, a testbed's air and a ledger's pilots to a placement problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from profiles import EXPERTS, LAYERS, profile_of

from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.errors import PlacementError
from siftmoe.coordinator.ledger.store import Ledger, SoundingRow
from siftmoe.coordinator.placing.sounded import sounded_states
from siftmoe.coordinator.placing.testbed import (
    demand_of,
    drawn_states,
    link_prices,
    memories_of,
    placement_problem,
)
from siftmoe.models.shape import ModelShape
from siftmoe.models.vectors.packing import row_bits
from siftmoe.radio.channel.link import Source, transmit_energy

SHAPE = ModelShape(
    num_layers=LAYERS,
    num_experts=EXPERTS,
    top_k=2,
    hidden_size=16,
    intermediate_size=24,
    activation="silu",
)
RADIO = RadioEntry(deadline_s=1e-3)


def test_demand_is_the_profiles() -> None:
    profile = profile_of(0)
    counts = np.array([[1, 2, 3, 4], [0, 0, 5, 5], [7, 0, 0, 0]])
    profile = type(profile)(
        **{n: getattr(profile, n) for n in profile.__slots__} | {"counts": counts}
    )
    demand = demand_of(profile, SHAPE, price_j_per_nat=None)
    assert demand.slots[0].tolist() == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert demand.slots.sum(axis=1).tolist() == pytest.approx([2.0] * LAYERS)
    own = np.isfinite(demand.loss_j[0])
    assert own[:, :-1].tolist() == np.eye(EXPERTS, dtype=bool).tolist()
    assert not own[:, -1].any()
    priced = demand_of(profile, SHAPE, price_j_per_nat=3.0)
    nats = profile.price().value
    weight = profile.gate_weight.value
    assert priced.loss_j[1, 2, 0] == pytest.approx(3.0 * weight[1, 2] ** 2 * nats[1, 2, 0])
    assert (priced.loss_j[:, range(EXPERTS), range(EXPERTS)] == 0.0).all()
    with pytest.raises(ValueError, match="must be positive and finite"):
        demand_of(profile, SHAPE, price_j_per_nat=float("nan"))


def test_prices_are_those_of_a_token_on_the_air() -> None:
    states = drawn_states(RADIO, [10.0, 40.0], count=8)
    mine = msgspec.structs.replace(RADIO, control=False, minimise="user")
    prices = link_prices(air_interface(mine, SHAPE), states)
    assert prices.shape == (8, 2)
    wanted = transmit_energy(
        payload_bits=float(row_bits(16, 16)),
        airtime_s=1e-3,
        bandwidth_hz=states[3].bandwidth_hz[1],
        gain=states[3].uplink_gain[1],
        noise_psd=states[3].noise_psd[1],
    )
    assert prices[3, 1] == pytest.approx(float(wanted))
    total = msgspec.structs.replace(mine, minimise="total")  # reciprocal: the answers cost as much
    both = link_prices(air_interface(total, SHAPE), states)
    assert both[3, 1] == pytest.approx(2 * prices[3, 1])


def test_states_are_independent_and_of_no_run() -> None:
    first = drawn_states(RADIO, [10.0], count=4)
    later = drawn_states(RADIO, [10.0], count=4, first=4)
    gains = {float(s.uplink_gain[0]) for s in [*first, *later]}
    assert len(gains) == 8
    still = drawn_states(msgspec.structs.replace(RADIO, fading="none"), [10.0], count=4)
    assert len(still) == 1


def test_a_helper_out_of_reach_is_named() -> None:
    weak = msgspec.structs.replace(RADIO, tx_power_limit_w=1e-12)
    prices = link_prices(air_interface(weak, SHAPE), drawn_states(weak, [10.0, 1e4], count=2))
    with pytest.raises(PlacementError, match="agent number 0 is out of reach in all 2"):
        placement_problem(
            demand_of(profile_of(0), SHAPE, price_j_per_nat=None),
            prices,
            num_bytes=np.ones((LAYERS, EXPERTS), dtype=np.int64),
            capacity_bytes=np.array([99, 99]),
        )


def test_memory_is_the_agents_or_the_default() -> None:
    agents = [
        AgentEntry(name="a", address="tcp://h:1", memory_bytes=5),
        AgentEntry(name="b", address="tcp://h:2"),
    ]
    assert memories_of(agents, default=7).tolist() == [5, 7]
    with pytest.raises(PlacementError, match="'b' states no memory_bytes; add it"):
        memories_of(agents, default=None)


def pilot(agent: str, direction: Any, gain: float, noise: float, now_s: float) -> SoundingRow:
    return SoundingRow(
        time_s=now_s,
        agent=agent,
        direction=direction,
        tx_power_w=1e-3,
        tx_power_std_w=0.0,
        power_source=Source.DERIVED,
        airtime_s=1e-3,
        airtime_source=Source.MEASURED,
        energy_j=1e-6,
        energy_std_j=0.0,
        carrier_hz=2.4e9,
        detected=True,
        channel_gain=gain,
        noise_psd=noise,
    )


def test_states_come_from_the_pilots_of_a_run(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    with Ledger.create(path) as ledger:
        for k in range(3):
            ledger.record(pilot("a", "up", 1e-8 + k * 1e-9, 2e-20, k))
            ledger.record(pilot("a", "down", 3e-8, 4e-20, k))
            ledger.record(pilot("b", "up", 5e-8, 6e-20, k))
    states = sounded_states(path, ["b", "a"], bandwidth_hz=1e6)
    assert len(states) == 3
    assert states[2].uplink_gain.tolist() == pytest.approx([5e-8, 1.2e-8])
    assert states[2].downlink_gain.tolist() == [5e-8, 3e-8]  # b only upwards: reciprocal
    assert states[0].downlink_noise_psd.tolist() == [6e-20, 4e-20]
    with pytest.raises(PlacementError, match="no pilots of agent 'c'"):
        sounded_states(path, ["a", "c"], bandwidth_hz=1e6)

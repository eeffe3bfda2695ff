from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from siftmoe.agent.wire.protocol import HelloReply
from siftmoe.coordinator.config.entries import AgentEntry
from siftmoe.coordinator.errors import ConfigError, PlacementError
from siftmoe.coordinator.fleet.agents import Fleet
from siftmoe.coordinator.fleet.placement import Placement, place
from siftmoe.coordinator.fleet.status import AgentState
from siftmoe.models.shape import ModelShape

SHAPE = ModelShape(
    num_layers=2,
    num_experts=4,
    top_k=2,
    hidden_size=8,
    intermediate_size=16,
    activation="silu",
)
EVERY = {(layer, expert) for layer in range(2) for expert in range(4)}
SIZES = dict.fromkeys(EVERY, 100)


def agents(count: int, **options: Any) -> list[AgentEntry]:
    return [
        AgentEntry(name=f"a{n}", address=f"tcp://10.0.0.{n}:5555", **options) for n in range(count)
    ]


def hello(**changes: Any) -> HelloReply:
    fields: dict[str, Any] = {
        "id": 1,
        "name": "a0",
        "version": "0.1",
        "model_hash": "m" * 64,
        "residents": ((0, 1), (1, 1), (1, 3)),
        "provider": "CPUExecutionProvider",
        "hidden_size": 8,
    }
    return HelloReply(**{**fields, **changes})


def fleet(count: int = 2, placement: Placement | None = None) -> Fleet:
    return Fleet(agents(count), shape=SHAPE, model_hash="m" * 64, placement=placement)


def test_only_the_experts_of_ready_helpers_count() -> None:
    two = fleet()
    assert not two.hosts(0).any()
    assert len(two.orphans()) == 8
    assert two.welcome(0, hello(), now_s=1.0)
    assert two.welcome(1, hello(residents=tuple(sorted(EVERY))), now_s=1.0)
    assert two.hosts(0).tolist() == [[False, True, False, False], [True] * 4]
    assert two.hosts(1)[0].tolist() == [False, True, False, True]
    assert two.orphans() == []
    assert two.excluded() == ""
    two.set_state(1, AgentState.DEAD, reason="its process is gone", now_s=2.0)
    assert not two.hosts(0)[1].any()
    assert two.ready().tolist() == [True, False]
    assert two.orphans() == [(0, 0), (0, 2), (0, 3), (1, 0), (1, 2)]
    assert two.excluded() == "a1: dead: its process is gone"
    assert (two[1].since_s, str(two[1])) == (
        2.0,
        "agent 'a1' (tcp://10.0.0.1:5555) is dead: its process is gone",
    )
    assert two.welcome(1, hello(), now_s=3.0)
    assert two.hosts(0)[1].any()


def test_who_knows_which_widths_is_what_each_last_said() -> None:
    three = fleet(3)
    three.welcome(0, hello(widths=(4, 8, 16, 32)), now_s=0.0)
    three.welcome(1, hello(), now_s=0.0)  # an older agent, which does not say
    assert three.knows((2, 4, 8, 16)).tolist() == [
        [False, True, True, True],
        [False, False, False, True],
        [False, False, False, False],  # it has said nothing yet
    ]
    three.set_state(0, AgentState.WEDGED, reason="silent", now_s=1.0)
    assert three.knows((8,)).tolist() == [[True], [False], [False]]
    three.welcome(0, hello(widths=(16, 32)), now_s=2.0)
    assert not three.knows((8,)).any()
    assert three.knows(()).shape == (3, 0)


def test_hosts_are_a_copy_that_later_events_do_not_change() -> None:
    one = fleet(1)
    one.welcome(0, hello(), now_s=0.0)
    before = one.hosts(0)
    one.set_state(0, AgentState.WEDGED, reason="silent", now_s=1.0)
    assert before[0, 1]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model_hash": "x" * 64}, r"serves model xxxxxxxxxxxx…, this testbed's is mmmmmmmmmmmm…"),
        ({"hidden_size": 16}, "has hidden size 16, the model's is 8"),
        ({"residents": ((2, 0),)}, "expert 0 of layer 2; the model has 2 layers of 4 experts"),
        ({"residents": ((0, 4),)}, "expert 4 of layer 0; the model has 2 layers of 4 experts"),
        ({"residents": ((0, 1),)}, r"hosts 1 experts, but not expert 1 of layer 1 (1 missing)"),
    ],
)
def test_an_agent_that_is_not_what_it_must_be_is_refused(
    changes: dict[str, Any], expected: str
) -> None:
    one = fleet(1, Placement.explicit([[(0, 1), (1, 1)]]))
    assert one.welcome(0, hello(), now_s=0.0)
    assert not one.welcome(0, hello(**changes), now_s=1.0)
    assert one[0].state is AgentState.REFUSED
    assert expected in one[0].reason
    assert not one.hosts(0).any()


def test_agents_are_found_by_name() -> None:
    assert fleet().index("a1") == 1
    with pytest.raises(ValueError, match="no agent is called 'zz'; there are a0, a1"):
        fleet().index("zz")


def test_mistakes_of_the_caller_are_named() -> None:
    with pytest.raises(ValueError, match="at least one agent"):
        fleet(0)
    with pytest.raises(ValueError, match="placement is for 1 helpers, the fleet has 2"):
        fleet(2, Placement.explicit([[(0, 0)]]))
    with pytest.raises(ValueError, match="becomes ready by its hello"):
        fleet().set_state(0, AgentState.READY, reason="", now_s=0.0)


def test_round_robin_puts_an_expert_of_every_layer_on_one_helper() -> None:
    placement = Placement.round_robin(SHAPE, num_helpers=3)
    assert placement.experts[0] == ((0, 0), (0, 3), (1, 0), (1, 3))
    assert placement.experts[1] == ((0, 1), (1, 1))
    assert placement.selection(2) == "0:2,1:2"
    twice = Placement.round_robin(SHAPE, num_helpers=4, replicas=2)
    assert all(sum(pair in given for given in twice.experts) == 2 for pair in EVERY)
    with pytest.raises(ValueError, match="3 replicas on 2 helpers"):
        Placement.round_robin(SHAPE, num_helpers=2, replicas=3)


def test_more_helpers_than_experts_leaves_some_without() -> None:
    placement = Placement.round_robin(SHAPE, num_helpers=6)
    assert placement.experts[4:] == ((), ())
    placement.check(SHAPE)


def test_an_expert_without_a_host_is_named() -> None:
    with pytest.raises(PlacementError, match=r"no agent hosts 0:2, 0:3, 1:0, 1:1, 1:2 and 1 more"):
        Placement.explicit([[(0, 0), (0, 1)]]).check(SHAPE)
    with pytest.raises(ValueError, match="no expert 9 of layer 0"):
        Placement.explicit([[(0, 9)]]).check(SHAPE)


def test_by_memory_balances_helpers_and_respects_their_room() -> None:
    placement = Placement.by_memory(SIZES, capacity_bytes=[400, 400])
    assert [len(given) for given in placement.experts] == [4, 4]
    uneven = Placement.by_memory(SIZES, capacity_bytes=[700, 100, 50])
    assert [len(given) for given in uneven.experts] == [7, 1, 0]


def test_by_memory_finds_room_where_balancing_would_strand_it() -> None:
    sizes = {(0, 0): 60, (0, 1): 50, (0, 2): 40, (0, 3): 50}
    placement = Placement.by_memory(sizes, capacity_bytes=[100, 100])
    loads = [sum(sizes[pair] for pair in given) for given in placement.experts]
    assert loads == [100, 100]


def test_experts_that_do_not_fit_say_how_many_bytes_are_missing() -> None:
    with pytest.raises(PlacementError, match="need 800 bytes and 2 agents offer 700: 100 bytes"):
        Placement.by_memory(SIZES, capacity_bytes=[350, 350])
    with pytest.raises(PlacementError, match=r"\(90 bytes\) fits on no agent: .* 10 bytes are mi"):
        Placement.by_memory({(0, 0): 90, (0, 1): 90}, capacity_bytes=[100, 80])


@given(
    sizes=st.lists(st.integers(1, 50), min_size=1, max_size=12),
    capacity=st.lists(st.integers(0, 200), min_size=1, max_size=5),
)
def test_by_memory_places_each_expert_once_and_overfills_nobody(
    sizes: list[int], capacity: list[int]
) -> None:
    num_bytes = {(0, expert): size for expert, size in enumerate(sizes)}
    try:
        placement = Placement.by_memory(num_bytes, capacity_bytes=capacity)
    except PlacementError:
        # First fit fails only where no helper is left with room for the largest expert.
        assert sum(sizes) + len(capacity) * max(sizes) > sum(capacity)
        return
    assert sorted(pair for given in placement.experts for pair in given) == sorted(num_bytes)
    for experts, room in zip(placement.experts, capacity, strict=True):
        assert sum(num_bytes[pair] for pair in experts) <= room


def test_a_testbed_is_placed_as_its_file_says() -> None:
    plain = place(agents(2), SHAPE, num_bytes=SIZES)
    assert plain == Placement.round_robin(SHAPE, num_helpers=2)
    listed = [AgentEntry(name="big", address="tcp://a:1", experts="*:0-2"), *agents(1)]
    assert place(listed, SHAPE, num_bytes=SIZES).experts[1] == ((0, 3), (1, 3))
    roomy = place(agents(2, memory_bytes=400), SHAPE, num_bytes=SIZES)
    assert [len(given) for given in roomy.experts] == [4, 4]


def test_a_testbed_that_cannot_be_placed_says_why() -> None:
    with pytest.raises(PlacementError, match="100 bytes are missing"):
        place(agents(2, memory_bytes=350), SHAPE, num_bytes=SIZES)
    with pytest.raises(PlacementError, match="'a0': its experts need 800 bytes, memory_bytes is 7"):
        place(agents(1, memory_bytes=700, experts="*:*"), SHAPE, num_bytes=SIZES)
    with pytest.raises(PlacementError, match="'a0': its experts need 400 bytes"):
        place([*agents(1, memory_bytes=300), *agents(2)[1:]], SHAPE, num_bytes=SIZES)
    with pytest.raises(PlacementError, match="no agent hosts 0:1"):
        place(agents(1, experts="*:0"), SHAPE, num_bytes=SIZES)
    with pytest.raises(ConfigError, match="agent 'a0'"):
        place(agents(1, experts="7:0"), SHAPE, num_bytes=SIZES)


def test_hosts_has_the_shape_that_the_selection_problem_wants() -> None:
    assert fleet(3).hosts(1).shape == (3, 4)
    assert fleet(3).hosts(1).dtype == np.bool_

"""Placements of a cell: in turn as before, with replicas, and chosen for the cell's links."""

from __future__ import annotations

import numpy as np
import pytest
from profiles import EXPERTS, LAYERS, profile_of

from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.models.shape import ModelShape
from siftmoe.tools.comparing.inprocess import AllReady
from siftmoe.tools.experiments.cells.placing import in_turn, placed_hosts
from siftmoe.tools.experiments.cells.records import Setting
from siftmoe.tools.experiments.studies.definition import Ask
from siftmoe.tools.experiments.studies.placement import PLACEMENT

SHAPE = ModelShape(
    num_layers=LAYERS,
    num_experts=EXPERTS,
    top_k=2,
    hidden_size=16,
    intermediate_size=24,
    activation="silu",
)
RADIO = RadioEntry(deadline_s=1e-3)


def placed(**changes):
    setting = Setting(num_helpers=3, distances_m=(40.0, 5.0, 20.0), memory_experts=8, **changes)
    return placed_hosts(
        setting,
        shape=SHAPE,
        profile=profile_of(0),
        air=air_interface(RADIO, SHAPE),
        radio=RADIO,
        price_j_per_nat=1e-6,
    )


@pytest.mark.parametrize("helpers", [1, 3, 4])
def test_in_turn_is_where_experts_always_lay(helpers):
    before = AllReady(SHAPE, helpers)
    after = AllReady(SHAPE, helpers, placed=in_turn(SHAPE, helpers=helpers, hosts=1))
    for layer in range(LAYERS):
        assert np.array_equal(before.hosts(layer), after.hosts(layer))


def test_replicas_in_turn_are_on_the_next_helpers():
    hosts = placed(most_hosts=2)
    assert hosts[:, 0].astype(int).T.tolist() == [[1, 1, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]]


@pytest.mark.parametrize("placement", ["energy", "loss"])
def test_chosen_hosts_are_near_and_within_memory(placement):
    hosts = placed(placement=placement, most_hosts=3)
    assert hosts.any(axis=0).all()
    held = hosts.sum(axis=(1, 2))
    assert held.max() <= 8
    assert held[1] == 8  # 5 m
    alone = placed(placement=placement)
    assert (alone.sum(axis=0) == 1).all()
    assert alone.sum(axis=(1, 2))[[1, 2]].sum() == LAYERS * EXPERTS  # none at 40 m


def test_distances_are_one_for_each_helper():
    assert Setting(num_helpers=2).where_m() == [20.0, 20.0]
    near, far = Setting(num_helpers=2, distance_spread=4.0).where_m()
    assert (near, far) == pytest.approx((10.0, 40.0))
    with pytest.raises(ValueError, match="2 distances for 3 helpers; name one for each"):
        Setting(num_helpers=3, distances_m=(1.0, 2.0)).where_m()


def test_every_placement_has_the_reference_air_and_one_label_is_the_reference():
    ask = Ask(models=("a",), seeds=2, tasks=("perplexity",), quick=False, shared_window=True)
    cells = PLACEMENT.cells(ask)
    assert len({cell.setting.distances_m for cell in cells}) == 1
    reference = [cell for cell in cells if cell.curve == "topk"]
    assert len(reference) == 1
    assert reference[0].setting.placement == "round-robin"
    assert len({cell.curve for cell in cells}) == len(cells) == 15

"""The paper's two settings, and deadlines of a token or of a layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from siftmoe.coordinator.air.assembly import air_interface, token_deadline_s
from siftmoe.coordinator.air.operating_points import MIXTRAL_CSQA, SWITCH_XSUM, point_near
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.states import Direction
from siftmoe.models.shape import ModelShape

SHAPE = ModelShape(
    num_layers=1,
    num_experts=4,
    top_k=2,
    hidden_size=128,
    intermediate_size=256,
    activation="silu",
)


def test_efficiencies_of_a_token_are_25_times_apart() -> None:
    assert MIXTRAL_CSQA.bits_per_hertz == pytest.approx(0.443, abs=1e-3)
    assert SWITCH_XSUM.bits_per_hertz == pytest.approx(0.0176, abs=1e-4)


@pytest.mark.parametrize("point", [MIXTRAL_CSQA, SWITCH_XSUM])
def test_the_papers_own_model_gets_the_papers_deadline(point) -> None:
    radio = RadioEntry(operating_point=point.name, bandwidth_hz=point.bandwidth_hz)
    assert token_deadline_s(radio, point.hidden_size) == pytest.approx(point.deadline_s)
    assert point_near(point.bits_per_hertz) is point
    assert point_near(2.0 * point.bits_per_hertz) is None


def test_a_deadline_per_layer_is_the_window_whatever_the_batch() -> None:
    radio = RadioEntry(deadline_s=0.1)
    token = air_interface(radio, SHAPE)
    layer = air_interface(RadioEntry(deadline_s=0.1, deadline_per="layer"), SHAPE)
    assert [token.window_s(count) for count in (1, 7)] == pytest.approx([0.1, 0.7])
    assert [layer.window_s(count) for count in (1, 7)] == pytest.approx([0.1, 0.1])


def test_energies_per_layer_are_those_of_the_shorter_window() -> None:
    links = FixedLinks(gain=[1e-9, 2e-9], noise_psd=1e-20, bandwidth_hz=2e6).states(0.0)
    layer = air_interface(RadioEntry(deadline_s=0.01, deadline_per="layer"), SHAPE)
    token = air_interface(RadioEntry(deadline_s=0.01 / 5), SHAPE)
    tables = [air.energy_table(links, 5) for air in (layer, token)]
    assert np.array_equal(*tables)
    load = layer.load_of(np.array([2, 3]), Direction.UP)
    bursts = layer.bursts(load, links, tokens=5, direction=Direction.UP)
    assert bursts.airtime_s == pytest.approx([0.01, 0.01])


def test_a_deadline_per_layer_refuses_windows_of_single_tokens() -> None:
    air = air_interface(RadioEntry(deadline_per="layer"), SHAPE)
    with pytest.raises(ValueError, match=r"deadline per layer is one window.*leave out"):
        replace(air, shared_window=False)

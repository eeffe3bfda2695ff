"""Policies and links that users add to a study."""

from __future__ import annotations

import pytest

from siftmoe.tools.experiments.captions import channel_of
from siftmoe.tools.experiments.cells.records import Cell, Setting
from siftmoe.tools.experiments.studies.asked import (
    with_air,
    with_links,
    with_policies,
    with_uplink,
)
from siftmoe.tools.experiments.studies.broadcast import MEDIA, OWN_WINDOWS
from siftmoe.tools.experiments.studies.catalogue import STUDIES
from siftmoe.tools.experiments.studies.definition import Ask

CELLS = [
    Cell(model=model, setting=Setting(bandwidth_hz=band), curve="topk", template="topk")
    for model in ("a", "b")
    for band in (1e6, 2e6)
]


def test_a_policy_is_added_under_every_setting_of_every_model() -> None:
    cells = with_policies([*CELLS, *CELLS], ["+topk-1:rescale=true"])[2 * len(CELLS) :]
    assert {cell.template for cell in cells} == {"topk-1:rescale=true"}
    assert [(c.model, c.setting.bandwidth_hz) for c in cells] == [
        (c.model, c.setting.bandwidth_hz) for c in CELLS
    ]


@pytest.mark.parametrize(
    ("text", "template", "loss"),
    [
        ("+siftmoe", "siftmoe:price={}", 0.025),
        ("+siftmoe:loss=0.01:bits=auto", "siftmoe:bits=auto:price={}", 0.01),
        ("+siftmoe:tolerance=0.2", "siftmoe:tolerance=0.2", None),
        ("+wdmoe", "wdmoe", None),
    ],
)
def test_a_price_is_set_to_a_loss_unless_a_budget_is_named(text, template, loss) -> None:
    cell = with_policies(CELLS[:1], [text])[-1]
    assert (cell.template, cell.loss, cell.curve) == (template, loss, text[1:])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("siftmoe", r"write \+NAME"),
        ("+", r"write \+NAME"),
        ("+nonsense", "no policy is named 'nonsense'"),
        ("+topk:loss=0.1", "a loss sets a price"),
    ],
)
def test_what_cannot_be_added_is_named(text, message) -> None:
    with pytest.raises(ValueError, match=message):
        with_policies(CELLS, [text])


def test_links_go_into_every_setting_and_not_into_fast_fading() -> None:
    assert {cell.setting.links for cell in with_links(CELLS, "corridor")} == {"corridor"}
    fast = [Cell(model="a", setting=Setting(slots=2), curve="topk", template="topk")]
    with pytest.raises(ValueError, match="simulates fast fading"):
        with_links(fast, "corridor")


def test_a_medium_goes_into_every_setting_and_not_into_fast_fading() -> None:
    assert {cell.setting.uplink for cell in with_uplink(CELLS, "tdma")} == {"tdma"}
    fast = [Cell(model="a", setting=Setting(slots=2), curve="topk", template="topk")]
    with pytest.raises(ValueError, match="fast fading"):
        with_uplink(fast, "broadcast")


def test_the_study_of_media_has_one_reference_and_all_media_in_every_case() -> None:
    ask = Ask(models=("a",), seeds=1, tasks=("perplexity",), quick=False, shared_window=True)
    cells = STUDIES["broadcast"].cells(ask)
    for case in {cell.case for cell in cells}:
        here = [cell for cell in cells if cell.case == case]
        assert [c.setting.uplink for c in here if c.curve == "topk"] == ["unicast"]
        assert {c.setting.uplink for c in here if c.curve.startswith("siftmoe")} == set(MEDIA)
        assert {c.setting.shared_window for c in here} == {case != OWN_WINDOWS}
    with pytest.raises(ValueError, match="compares the media"):
        with_uplink(cells, "broadcast")


def test_a_channel_holds_in_every_cell() -> None:
    cells = with_air(CELLS, {"gain_floor": 0.2, "distances_m": (10.0,) * 8}, study="helpers")
    assert {cell.setting.gain_floor for cell in cells} == {0.2}
    assert "gain floor 0.2" in channel_of(cells)
    assert "helpers at 10 m" in channel_of(cells)


def test_what_a_study_varies_is_no_option_and_distances_are_one_per_helper() -> None:
    with pytest.raises(ValueError, match="bandwidth_hz: study 'bandwidth' compares 2 values"):
        with_air(CELLS, {"bandwidth_hz": 3e6}, study="bandwidth")
    with pytest.raises(ValueError, match="2 distances for 8 helpers"):
        with_air(CELLS, {"distances_m": (10.0, 20.0)}, study="bits")


def test_a_caption_names_floor_coherence_distances_and_reading() -> None:
    text = channel_of(CELLS)
    assert "Rayleigh fading, gain floor 0.05 (-13 dB of the mean)" in text
    assert "constant over a layer and redrawn per layer" in text
    assert "0.44 bit/s/Hz for a token, deadline per token, our reading of the paper's" in text
    spread = Cell(model="a", setting=Setting(distance_spread=4.0), curve="t", template="topk")
    assert "helpers at 20 m or helpers at 10 to 40 m" in channel_of([*CELLS, spread])


def test_a_spread_keeps_the_middle_of_the_distances() -> None:
    where = Setting(distance_spread=4.0, num_helpers=3).where_m()
    assert where == pytest.approx([10.0, 20.0, 40.0])
    assert Setting(distances_m=(10.0, 40.0), num_helpers=2).middle_m == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("name", "column"), [("floor", "gain_floor"), ("distances", "distance_spread")]
)
def test_the_channel_is_varied_in_its_own_studies(name: str, column: str) -> None:
    ask = Ask(models=("a",), seeds=1, tasks=("perplexity",), quick=True, shared_window=True)
    cells = STUDIES[name].cells(ask)
    assert len({getattr(cell.setting, column) for cell in cells}) >= 2
    assert {"topk", "siftmoe price", "siftmoe, joint"} <= {cell.curve for cell in cells}

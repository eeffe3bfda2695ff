"""Wrong options of a policy: the error lists those that exist."""

from __future__ import annotations

import pytest

from siftmoe.coordinator.config.radio import RadioEntry, SoundingEntry
from siftmoe.coordinator.policies.setup import check_options
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.tools.comparing.job import LOSS, simulated_radio, with_options


@pytest.mark.parametrize(
    ("text", "also", "listed"),
    [
        (
            "siftmoe:los=0.1",
            (LOSS,),
            "no option los; it has loss, tolerance, average, final, price",
        ),
        ("skip-only:x=1", (), "no option x; it has tolerance, average, final, price"),
        ("topk:foo=1", (), "no option foo; it has bits, downlink_bits, rescale"),
        ("des:treshold=1", (), "no option treshold; it has bits, downlink_bits, "),
    ],
)
def test_the_options_that_exist_are_listed(text: str, also: tuple[str, ...], listed: str) -> None:
    with pytest.raises(ValueError, match=listed):
        check_options(PolicySpec.parse(text), also=also)


@pytest.mark.parametrize("text", ["siftmoe:price=1", "siftmoe:bits=auto:rescale=false", "topk"])
def test_known_options_pass(text: str) -> None:
    check_options(PolicySpec.parse(text))


def test_an_occupied_band_beyond_the_allowed_one_is_told() -> None:
    sounding = SoundingEntry(uri="ip:192.168.2.1")
    assert sounding.outside_band(RadioEntry().carrier_hz) == ""
    assert "2399.22 to 2400.78 MHz, which leaves band_hz" in sounding.outside_band(2.4e9)
    assert sounding.outside_band(2.483e9)
    with pytest.raises(ValueError, match=r"band_hz must be \[lowest, highest\]"):
        SoundingEntry(uri="ip:192.168.2.1", band_hz=(2.5e9, 2.4e9))


def test_simulations_have_the_carrier_and_the_point_of_a_testbed() -> None:
    radio = simulated_radio(128, deadline_s=None, bandwidth_hz=2e6)
    assert radio.carrier_hz == RadioEntry().carrier_hz == 2.45e9
    assert radio.deadline_s == 128 * 16 / (2e6 * 4096 * 16 / (2e6 * 0.074))


def test_an_operating_point_takes_the_place_of_a_files_deadline() -> None:
    radio = with_options(RadioEntry(deadline_s=0.5), operating_point="switch-xsum", gain_floor=None)
    assert (radio.deadline_s, radio.operating_point, radio.gain_floor) == (
        None,
        "switch-xsum",
        RadioEntry().gain_floor,
    )
    assert with_options(RadioEntry(), gain_floor=0.2, deadline_per="layer").deadline_per == "layer"

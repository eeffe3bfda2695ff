"""Sources of links by name, and what they must give."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.links.assembly import simulated_links
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.sources import links_of


def still(radio, distances_m, *, gain=1e-8):
    return FixedLinks(gain=np.full(len(distances_m), gain), noise_psd=4e-21, bandwidth_hz=2e6)


def test_the_default_is_the_simulation() -> None:
    radio = RadioEntry(seed=3)
    expected = simulated_links(radio, [5.0, 9.0]).states(0.3).uplink_gain
    assert np.array_equal(links_of(radio, [5.0, 9.0]).states(0.3).uplink_gain, expected)


def test_a_source_from_outside_gets_settings_distances_and_options(tmp_path, monkeypatch) -> None:
    (tmp_path / "my_links.py").write_text(
        "from siftmoe.coordinator.links.fixed import FixedLinks\n"
        "def corridor(radio, distances_m, *, loss=1.0):\n"
        "    gains = [loss / d for d in distances_m]\n"
        "    return FixedLinks(gain=gains, noise_psd=4e-21, bandwidth_hz=radio.bandwidth_hz)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    states = links_of(RadioEntry(links="my_links:corridor:loss=0.5"), [2.0, 4.0]).states(0.0)
    assert states.uplink_gain.tolist() == [0.25, 0.125]
    with pytest.raises(ValueError, match="unexpected keyword argument 'los'"):
        links_of(RadioEntry(links="my_links:corridor:los=0.5"), [2.0, 4.0])


def test_a_source_as_an_object_goes_before_the_name() -> None:
    states = links_of(RadioEntry(), [1.0], source=still).states(0.0)
    assert states.uplink_gain.tolist() == [1e-8]


def test_what_a_source_must_give_is_said() -> None:
    with pytest.raises(ValueError, match="no source of links is named 'nonsense'"):
        links_of(RadioEntry(links="nonsense"), [1.0])
    with pytest.raises(ValueError, match=r"has no num_links and states\(now_s\)"):
        links_of(RadioEntry(), [1.0], source=lambda radio, distances: 3)
    with pytest.raises(ValueError, match="'short': 1 links for 2 helpers"):
        links_of(RadioEntry(), [1.0, 2.0], source=short)


def short(radio, distances_m):
    return still(radio, distances_m[:1])


def test_fast_fading_is_of_simulated_links() -> None:
    with pytest.raises(ValueError, match=r"fading_slots: .* got links 'corridor'"):
        RadioEntry(links="corridor", fading_slots=3)

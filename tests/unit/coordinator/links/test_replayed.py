"""Links that were sounded before, replayed."""

from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.replayed import ReplayedLinks
from siftmoe.coordinator.links.states import LinkStates


def observed(*gains: float) -> list[LinkStates]:
    return [
        FixedLinks(gain=[gain, 2 * gain], noise_psd=1e-20, bandwidth_hz=1e6).states(0.0)
        for gain in gains
    ]


def test_every_state_is_used_alike_and_kept_for_a_period():
    links = ReplayedLinks(observed(1e-7, 2e-7, 3e-7), period_s=0.5, seed=4)
    seen = [float(links.states(0.5 * block + 0.01).uplink_gain[0]) for block in range(30)]
    assert [seen.count(gain) for gain in (1e-7, 2e-7, 3e-7)] == [10, 10, 10]
    assert links.states(0.01).uplink_gain[0] == links.states(0.49).uplink_gain[0]
    assert links.states(7.3).time_s.tolist() == [7.3, 7.3]
    assert links.num_links == 2


def test_the_seed_alone_decides():
    states = observed(*np.linspace(1e-7, 9e-7, 9))
    at = np.arange(0.0, 20.0, 0.7)

    def replayed(seed: int) -> list[float]:
        links = ReplayedLinks(states, period_s=0.5, seed=seed)
        return [float(links.states(t).uplink_gain[0]) for t in at]

    assert replayed(1) == replayed(1) != replayed(2)


@pytest.mark.parametrize("now_s", [-0.1, float("nan"), float("inf")])
def test_impossible_times_and_settings_are_refused(now_s):
    links = ReplayedLinks(observed(1e-7), period_s=0.5, seed=0)
    with pytest.raises(ValueError, match="now_s"):
        links.states(now_s)
    with pytest.raises(ValueError, match="no states"):
        ReplayedLinks([], period_s=0.5, seed=0)
    with pytest.raises(ValueError, match="period_s"):
        ReplayedLinks(observed(1e-7), period_s=0.0, seed=0)

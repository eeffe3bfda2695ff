from __future__ import annotations

import numpy as np
import pytest

from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.links.simulated import SimulatedLinks
from siftmoe.coordinator.links.states import Direction, Links, LinkStates
from siftmoe.radio.channel.fading import FadingKind, FadingModel
from siftmoe.radio.channel.link import ChannelOrigin
from siftmoe.radio.channel.pathloss import path_gain
from siftmoe.radio.units import thermal_noise_psd

BLOCK = FadingModel(kind=FadingKind.BLOCK, coherence_time_s=0.1)
KINDS = list(FadingKind)


def _links(count: int = 4, *, seed: int = 0, fading: FadingModel = BLOCK, **options: object):
    return SimulatedLinks(
        mean_gain=np.full(count, 1e-7),
        noise_psd=4e-21,
        bandwidth_hz=2e6,
        fading=fading,
        seed=seed,
        **options,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_states_depend_on_time_and_seed_alone(kind):
    fading = FadingModel(kind=kind, coherence_time_s=0.1)
    times = [0.31, 0.0, 2.5, 0.31]
    once = [_links(seed=5, fading=fading).states(t).uplink_gain for t in times]
    links = _links(seed=5, fading=fading)
    again = [links.states(t).uplink_gain for t in reversed(times)]
    np.testing.assert_array_equal(once, again[::-1])


def test_another_seed_is_another_world():
    assert not np.any(
        _links(seed=1).states(0.0).uplink_gain == _links(seed=2).states(0.0).uplink_gain
    )


def test_a_link_fades_the_same_however_many_there_are():
    few, many = _links(3).states(0.7), _links(9).states(0.7)
    np.testing.assert_array_equal(few.uplink_gain, many.uplink_gain[:3])


def test_reciprocal_directions_share_the_response():
    states = _links().states(0.2)
    np.testing.assert_array_equal(states.uplink_gain, states.downlink_gain)


def test_directions_on_two_carriers_fade_independently():
    links = _links(reciprocal=False)
    gains = np.array([(s.uplink_gain, s.downlink_gain) for s in map(links.states, range(500))])
    up, down = gains.transpose(1, 0, 2).reshape(2, -1)  # [2, 500 * N]
    # five standard errors of a sample correlation of independent draws
    assert abs(np.corrcoef(up, down)[0, 1]) < 5 / np.sqrt(up.size)


def test_block_fading_holds_for_its_coherence_time():
    links = _links()
    np.testing.assert_array_equal(links.states(0.51).uplink_gain, links.states(0.59).uplink_gain)
    assert not np.any(links.states(0.59).uplink_gain == links.states(0.61).uplink_gain)


def test_distance_sets_the_mean_gain():
    distance = np.array([2.0, 5.0, 20.0])
    links = SimulatedLinks.at_distances(
        distance, carrier_hz=2.4e9, bandwidth_hz=2e6, fading=BLOCK, seed=0, noise_figure_db=5.0
    )
    gains = np.array([links.states(0.1 * k + 0.05).uplink_gain for k in range(2000)])
    ratio = gains.mean(axis=0) / path_gain(distance_m=distance, carrier_hz=2.4e9)
    # unit-mean exponential: five standard errors
    np.testing.assert_allclose(ratio, 1.0, atol=5 / np.sqrt(2000))
    np.testing.assert_allclose(links.states(0.0).noise_psd, thermal_noise_psd(noise_figure_db=5.0))


def test_state_of_one_direction():
    states = LinkStates(
        uplink_gain=np.array([1e-7, 2e-7]),
        downlink_gain=np.array([3e-7, 4e-7]),
        noise_psd=np.full(2, 4e-21),
        bandwidth_hz=np.array([1e6, 2e6]),
        time_s=np.array([0.5, 0.25]),
        origin=(ChannelOrigin.SIMULATED, ChannelOrigin.SOUNDED),
        downlink_gain_std=np.array([0.0, 1e-9]),
    )
    up, down = (states.channel_state(1, d) for d in (Direction.UP, Direction.DOWN))
    assert (up.gain, down.gain) == (2e-7, 4e-7)
    assert (up.gain_std, down.gain_std) == (0.0, 1e-9)
    assert up.origin is ChannelOrigin.SOUNDED
    assert up.bandwidth_hz == 2e6
    assert up.age_s(1.0) == 0.75


def test_simulated_states_say_what_they_are():
    states = _links(2).states(1.5)
    assert states.num_links == 2
    assert states.origin == (ChannelOrigin.SIMULATED,) * 2
    np.testing.assert_array_equal(states.time_s, [1.5, 1.5])


def test_fixed_links_stay():
    links: Links = FixedLinks(gain=[1e-7, 2e-7], noise_psd=4e-21, bandwidth_hz=2e6)
    early, late = links.states(0.0), links.states(9.0)
    np.testing.assert_array_equal(early.uplink_gain, late.downlink_gain)
    assert late.origin == (ChannelOrigin.FIXED,) * 2
    one_way = FixedLinks(gain=[1.0], downlink_gain=[0.5], noise_psd=1.0, bandwidth_hz=1.0)
    assert one_way.states(0.0).channel_state(0, Direction.DOWN).gain == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gain": [1.0, -1.0]}, "gain must be positive"),
        ({"noise_psd": 0.0}, "noise_psd must be positive"),
        ({"bandwidth_hz": [1e6, 1e6, 1e6]}, "bandwidth_hz must be a number or 2 numbers"),
        ({"downlink_gain": [1.0]}, "downlink_gain must be a number or 2 numbers"),
    ],
)
def test_bad_links_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FixedLinks(**{"gain": [1.0, 1.0], "noise_psd": 1.0, "bandwidth_hz": 1.0, **options})


def test_bad_states_are_refused():
    good = {
        "uplink_gain": np.ones(2),
        "downlink_gain": np.ones(2),
        "noise_psd": np.ones(2),
        "bandwidth_hz": np.ones(2),
        "time_s": np.zeros(2),
        "origin": (ChannelOrigin.FIXED,) * 2,
    }
    LinkStates(**good)
    with pytest.raises(ValueError, match=r"downlink_gain must have shape \(2,\), got \(3,\)"):
        LinkStates(**{**good, "downlink_gain": np.ones(3)})
    with pytest.raises(ValueError, match="uplink_gain must be positive"):
        LinkStates(**{**good, "uplink_gain": np.array([1.0, np.nan])})
    with pytest.raises(ValueError, match="now_s must be finite"):
        _links().states(float("nan"))

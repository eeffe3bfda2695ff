"""Inputs of WDMoE's latency model from a run's links and air interface."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.policies.wdmoe.policy import WdmoeLinks

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.air.interface import AirInterface
    from siftmoe.coordinator.links.states import LinkStates

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


def wdmoe_links(states: LinkStates, air: AirInterface) -> WdmoeLinks:
    """Devices of WDMoE: the helpers share the sum of their bands, all at the power limit.

    Parameters
    ----------
    states : LinkStates
    air : AirInterface
    """
    power = np.full(states.num_links, air.tx_power_limit_w)
    return WdmoeLinks(
        compute_s=np.full(states.num_links, air.compute_s_per_token),
        downlink_bits=float(air.bits(Direction.UP)),  # WDMoE's downlink leaves the base station
        uplink_bits=float(air.bits(Direction.DOWN)),
        downlink_power_w=power,
        downlink_gain=states.uplink_gain,
        uplink_power_w=power,
        uplink_gain=states.downlink_gain,
        noise_psd=states.noise_psd,
        bandwidth_hz=float(states.bandwidth_hz.sum()),
    )

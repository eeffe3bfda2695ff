"""Devices of WDMoE's latency model, made from the links and air of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.policies.wdmoe.bandwidth import allocate_bandwidth, token_latency

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.selection.policy import PolicyAir

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class WdmoeLinks:
    """What the latency model needs to know of the devices.

    Parameters
    ----------
    compute_s : (N,) float64, s
        Compute time of one token.
    downlink_bits, uplink_bits : float, bit
        Payload of a token towards a device and back.
    downlink_power_w, uplink_power_w : (N,) float64, W
        Transmit power towards each device, and of each device.
    downlink_gain, uplink_gain : (N,) float64
    noise_psd : (N,) float64, W/Hz
    bandwidth_hz : float, Hz
        The band that all devices share.
    """

    compute_s: FloatArray
    downlink_bits: float
    uplink_bits: float
    downlink_power_w: FloatArray
    downlink_gain: FloatArray
    uplink_power_w: FloatArray
    uplink_gain: FloatArray
    noise_psd: FloatArray
    bandwidth_hz: float

    def allocate(self, loads: FloatArray) -> tuple[float, FloatArray]:
        """Latency and bandwidths of least latency, see `allocate_bandwidth`."""
        return allocate_bandwidth(
            tokens=loads, bandwidth_hz=self.bandwidth_hz, **self._per_device()
        )

    def token_latency(self, bandwidth_hz: FloatArray) -> FloatArray:
        """Time of one token on each device, (N,) s."""
        return token_latency(bandwidth_hz=bandwidth_hz, **self._per_device())

    def _per_device(self) -> dict[str, Any]:
        names = [name for name in self.__slots__ if name != "bandwidth_hz"]
        return {name: getattr(self, name) for name in names}


def wdmoe_links(states: LinkStates, air: PolicyAir) -> WdmoeLinks:
    """Let the helpers of a run share the sum of their bands, every side at its power limit.

    Parameters
    ----------
    states : LinkStates
    air : PolicyAir
    """
    power = np.full(states.num_links, air.tx_power_limit_w)
    return WdmoeLinks(
        compute_s=np.full(states.num_links, air.compute_s_per_token),
        downlink_bits=float(air.bits(Direction.UP)),  # WDMoE looks from the base station
        uplink_bits=float(air.bits(Direction.DOWN)),
        downlink_power_w=power,
        downlink_gain=states.uplink_gain,
        uplink_power_w=power,
        uplink_gain=states.downlink_gain,
        noise_psd=states.noise_psd,
        bandwidth_hz=float(states.bandwidth_hz.sum()),
    )

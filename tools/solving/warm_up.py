"""Loads compiled code before instances are timed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from siftmoe.tools.solving.broadcast import broadcast_problem
from siftmoe.tools.solving.instance_file import (
    BandwidthInstance,
    CappedBroadcast,
    PricedBroadcast,
    SelectionInstance,
    selection_problem,
)
from siftmoe.tools.solving.solver import divide_band

if TYPE_CHECKING:
    from siftmoe.tools.solving.policy import Policy


def warm_up(policy: Policy) -> None:
    """Solve toy instances (one token and many, one slot and two), so that all code is loaded."""
    for tokens, slots in ((1, 2), (2, 1), (2, 2)):
        toy = _toy(tokens, slots)
        unicast = SelectionInstance(family="b2", bandwidth_hz=[1e6, 1e6], cap=0.5, **toy)
        policy(selection_problem(unicast))
    policy(broadcast_problem(CappedBroadcast(family="bc", bandwidth_hz=1e6, cap=0.5, **toy)))
    # a price at which tokens are tied, so that the gap is closed too
    policy(broadcast_problem(PricedBroadcast(family="bp", bandwidth_hz=1e6, price=1.4e-8, **toy)))
    divide_band(
        BandwidthInstance(
            family="w",
            bandwidth_hz=1e6,
            tokens=[1.0, 2.0],
            compute_s=[1e-3, 1e-3],
            downlink_bits=1e3,
            uplink_bits=1e3,
            downlink_power_w=[1.0, 1.0],
            downlink_gain=[1e-9, 1e-9],
            uplink_power_w=[1.0, 1.0],
            uplink_gain=[1e-9, 1e-9],
            noise_psd=1e-20,
        )
    )


def _toy(tokens: int, slots: int) -> dict[str, Any]:
    """Fields that all families of sets have in common."""
    return {
        "num_experts": 2,
        "top_k": slots,
        "num_helpers": 2,
        "num_tokens": tokens,
        "noise_psd": 1e-20,
        "payload_bits": 1e3,
        "deadline_s": 1e-3,
        "gain": [1e-9, 1e-9],
        "tx_power_limit_w": 1.0,
        "hosts": [[0], [1]],
        "routed_experts": [[0, 1][:slots]] * tokens,
        "gate_weights": [[0.6, 0.4][:slots]] * tokens,
        "skip": [1.0, 1.0],
        "deviation": [[0.0, 0.9], [0.9, 0.0]],
    }

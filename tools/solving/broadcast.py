"""States instances of a broadcast, families bc and bp, as selection problems."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.energy.medium import Medium
from siftmoe.coordinator.energy.one_band import OneBand
from siftmoe.coordinator.selection.problem import Budget, BudgetKind, SelectionProblem
from siftmoe.tools.solving.instance_file import CappedBroadcast, arrays_of

if TYPE_CHECKING:
    from siftmoe.tools.solving.instance_file import Broadcast

#: Width that instances, which state bits, are called by.
_WIDTH = 16


def broadcast_problem(r: Broadcast) -> SelectionProblem:
    """Arrays of an instance, and its medium from the raw radio figures; answers are free."""
    band = OneBand(
        bandwidth_hz=r.bandwidth_hz,
        window_s=r.deadline_s,
        noise_w=r.noise_psd * r.bandwidth_hz / np.array(r.gain),
        tx_power_limit_w=r.tx_power_limit_w,
        circuit_w=np.zeros(r.num_helpers),
    )
    medium = Medium(
        broadcast=True,
        up=band,
        down=None,
        bits={_WIDTH: r.payload_bits},
        reply_bits={_WIDTH: r.payload_bits},
    )
    if isinstance(r, CappedBroadcast):
        budget = Budget(kind=BudgetKind.PER_TOKEN, value=r.cap)
    else:
        budget = Budget(kind=BudgetKind.PRICE, value=r.price)
    return SelectionProblem(
        **arrays_of(r),
        energy=medium.linear_table(r.num_tokens),
        budget=budget,
        width=_WIDTH,
        medium=medium,
    )

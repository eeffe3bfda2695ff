"""Builds the air interface of a run from the testbed's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.air.one_band import OneBandAir
from siftmoe.coordinator.air.operating_points import (
    MIXTRAL_CSQA,
    OPERATING_POINTS,
    REFERENCE_WIDTH,
)
from siftmoe.coordinator.air.slotted import SlottedAir
from siftmoe.coordinator.energy.circuit import CircuitPower
from siftmoe.coordinator.energy.objective import Objective
from siftmoe.coordinator.links.assembly import simulated_links
from siftmoe.coordinator.selection.widths import AUTO, Widths
from siftmoe.models.vectors.packing import row_bits

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.models.shape import ModelShape

#: Nominal compute rate of a helper, for the latency on the virtual clock: an Orin Nano's six cores
#: at single precision. Nominal, so that a run is the same on every machine.
NOMINAL_FLOPS_PER_S = 100e9

#: One of the paper's settings read per token: a Mixtral token, 4096 x 16 bit, 2 MHz, 0.074 s.
PAPER_BITS_PER_HERTZ = MIXTRAL_CSQA.bits_per_hertz


def token_deadline_s(radio: RadioEntry, hidden_size: int) -> float:
    """Airtime of a token, or of a layer, in one direction: as set, or by the operating point."""
    if radio.deadline_s is not None:
        return radio.deadline_s
    density = OPERATING_POINTS[radio.operating_point].bits_per_hertz
    return row_bits(hidden_size, REFERENCE_WIDTH) / (radio.bandwidth_hz * density)


def air_interface(
    radio: RadioEntry,
    shape: ModelShape,
    widths: Widths | None = None,
    *,
    distances_m: Sequence[float] = (),
) -> AirInterface:
    """Air interface for the hidden states of a model under these settings.

    Parameters
    ----------
    radio : RadioEntry
    shape : ModelShape
    widths : Widths or None
        Of the policy's vectors; by default those of the settings, 16 bits where they leave them
        to the policy.
    distances_m : sequence of float, m
        Of the helpers; only fast fading needs them, for the mean gains.

    Raises
    ------
    ValueError
        If it is fast fading and the distances are missing.
    """
    if widths is None:
        bits = REFERENCE_WIDTH if radio.bits == AUTO else radio.bits
        back = None if radio.downlink_bits == AUTO else radio.downlink_bits
        widths = Widths.of((bits,), back)
    objective = Objective.named(
        radio.minimise, uplink_price=radio.uplink_price, downlink_price=radio.downlink_price
    )
    # Three matrices of d x I, a multiplication and an addition per entry.
    flops_per_token = 6.0 * shape.hidden_size * shape.intermediate_size
    air = AirInterface(
        **payload_of(shape.hidden_size, widths),
        token_deadline_s=token_deadline_s(radio, shape.hidden_size),
        deadline_per_layer=radio.deadline_per == "layer",
        tx_power_limit_w=radio.tx_power_limit_w,
        compute_s_per_token=flops_per_token / NOMINAL_FLOPS_PER_S,
        uplink_price=objective.uplink_price,
        downlink_price=objective.downlink_price,
        price_circuits=objective.circuits,
        deadline_shared=radio.deadline_shared,
        circuit=CircuitPower(
            user_tx_w=radio.user_tx_w,
            user_rx_w=radio.user_rx_w,
            helper_tx_w=radio.helper_tx_w,
            helper_rx_w=radio.helper_rx_w,
        ),
        control=radio.control and not radio.fading_slots,
    )
    if radio.uplink != "unicast":
        return OneBandAir.over(air, broadcast=radio.uplink == "broadcast")
    if not radio.fading_slots:
        return air
    if not distances_m:
        raise ValueError("fast fading (fading_slots) needs the helpers' distances")
    still = msgspec.structs.replace(radio, fading="none", fading_slots=0)
    return SlottedAir.over(
        air,
        slots=radio.fading_slots,
        outage_price=radio.outage_price,
        mean=simulated_links(still, distances_m).states(0.0),
        rng=np.random.default_rng((radio.seed, radio.fading_slots)),
    )


def payload_of(hidden_size: int, widths: Widths) -> dict[str, Any]:
    """Payload arguments of `AirInterface` for vectors of ``hidden_size`` entries."""
    up = REFERENCE_WIDTH if len(widths.up) > 1 else widths.up[0]
    down = REFERENCE_WIDTH if len(widths.down) > 1 else widths.down[0]
    return {
        "payload_bits": row_bits(hidden_size, up),
        "reply_bits": row_bits(hidden_size, down),
        "width": up,
        "reply_width": down,
        "width_bits": _several(hidden_size, widths.up),
        "reply_width_bits": _several(hidden_size, widths.down),
    }


def _several(hidden_size: int, widths: Sequence[int]) -> dict[int, int]:
    """Bits of a vector by the widths to choose from; empty where there is one."""
    return {b: row_bits(hidden_size, b) for b in widths} if len(widths) > 1 else {}

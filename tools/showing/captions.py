"""Says in words what an operating point, a channel and its fading are.

Whatever shows an energy shows these sentences too: a saving on Rayleigh fading depends on how deep
fades may be, on how long a gain lasts, and on where the helpers stand.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from siftmoe.coordinator.air.assembly import token_deadline_s
from siftmoe.coordinator.air.operating_points import REFERENCE_WIDTH, point_near
from siftmoe.coordinator.links.sources import SIMULATED as SOURCE
from siftmoe.models.vectors.packing import row_bits
from siftmoe.tools.showing.quantities import si

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.coordinator.config.radio import RadioEntry

SIMULATED = "Simulated links, no radio was used: every energy and airtime here is modelled."

_DISTRIBUTIONS = {"rayleigh": "Rayleigh", "rician": "Rician"}
_PROCESSES = {"block": "in blocks", "jakes": "with Clarke's spectrum", "gauss-markov": "Markov"}


#: What the operating point says of the medium.
_MEDIA = {
    "unicast": "",
    "tdma": "; one band for all helpers, one after the other",
    "broadcast": "; one band for all helpers, requests are broadcast",
}


def operating_point_text(radio: RadioEntry, hidden_size: int) -> str:
    """Describe payload, band, deadline and what the deadline is of.

    Parameters
    ----------
    radio : RadioEntry
    hidden_size : int
        d.
    """
    bits = row_bits(hidden_size, REFERENCE_WIDTH)
    deadline_s = token_deadline_s(radio, hidden_size)
    density = bits / (radio.bandwidth_hz * deadline_s)
    digits = 2 if density >= 0.1 else 4
    each = "for uplink, compute and downlink" if radio.deadline_shared else "each way"
    return (
        f"{bits} bit per token at {REFERENCE_WIDTH} bits an entry over "
        f"{radio.bandwidth_hz / 1e6:g} MHz at {radio.carrier_hz / 1e9:g} GHz in "
        f"{si(deadline_s, 's')} {each}: {density:.{digits}f} bit/s/Hz ({_setting(density)}; "
        f"{_sharing(radio)}{_MEDIA[radio.uplink]})"
    )


def _setting(density: float) -> str:
    """Name the paper's setting with this spectral efficiency, always as a reading of it."""
    point = point_near(density)
    if point is None:
        return "neither of the paper's settings"
    return (
        f"our reading of the paper's {point.words}: {point.bandwidth_hz / 1e6:g} MHz, "
        f"{point.deadline_s:g} s"
    )


def _sharing(radio: RadioEntry) -> str:
    if radio.deadline_per == "layer":
        return "deadline read per layer: one for the whole batch"
    return "deadline read per token: a batch shares its tokens' deadlines"


def fading_text(radio: RadioEntry) -> str:
    """Describe the fading of simulated links; empty where links come from elsewhere."""
    if radio.links != SOURCE:
        return ""
    if radio.fading == "none":
        return "no fading"
    factor = f" (K = {radio.rician_k_db:g} dB)" if radio.fading == "rician" else ""
    fading, floor = f"{_DISTRIBUTIONS[radio.fading]} fading{factor}", floor_text(radio.gain_floor)
    if not radio.fading_slots:
        return f"{fading}, {floor}"
    blocks = f"in {radio.fading_slots} blocks of an uplink's window"
    return f"{fading} {blocks}, {floor}" + (" in the first" if radio.gain_floor else "")


def floor_text(gain_floor: float) -> str:
    """Say how deep fades may be."""
    if not gain_floor:
        return "no gain floor"
    return f"gain floor {gain_floor:g} ({10.0 * math.log10(gain_floor):.0f} dB of the mean)"


def channel_text(radio: RadioEntry, distances_m: Sequence[float] = ()) -> str:
    """Describe fading, its change in time and the distances of simulated links.

    Empty where links come from elsewhere.
    """
    if radio.links != SOURCE:
        return ""
    parts = [fading_text(radio), coherence_text(radio), distances_text(distances_m)]
    return "Channel: " + "; ".join(part for part in parts if part) + "."


def coherence_text(radio: RadioEntry) -> str:
    """Say for how long a gain lasts; empty without fading."""
    if radio.fading == "none":
        return ""
    if radio.fading_slots:
        return f"each window has {radio.fading_slots} blocks of independent gain"
    return (
        f"{_PROCESSES[radio.fading_process]}, coherence time {si(radio.coherence_time_s, 's')}; "
        "the gain is taken at the start of a layer's window, constant over it, and taken anew "
        "for the next layer"
    )


def distances_text(distances_m: Sequence[float]) -> str:
    """Say where the helpers stand."""
    if not distances_m:
        return ""
    low, high = min(distances_m), max(distances_m)
    if low == high:
        return f"every helper at {low:g} m"
    return f"helpers at {', '.join(f'{distance:.3g}' for distance in distances_m)} m"


def note_of(radio: RadioEntry) -> str:
    """Say where the states of links come from where there is no radio."""
    if radio.links == SOURCE:
        return SIMULATED
    return f"Links from {radio.links}, no radio was used: every energy and airtime is modelled."

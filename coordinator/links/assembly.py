"""Builds simulated links from a testbed's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.coordinator.links.simulated import SimulatedLinks
from siftmoe.radio.channel.fading import FadingKind, FadingModel
from siftmoe.radio.units import db_to_linear

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.coordinator.config.radio import RadioEntry


def simulated_links(radio: RadioEntry, distances_m: Sequence[float]) -> SimulatedLinks:
    """Fading links as the settings describe them, one per helper.

    Parameters
    ----------
    radio : RadioEntry
    distances_m : sequence of float, m
    """
    fading = FadingModel(
        kind=FadingKind.STATIC if radio.fading == "none" else FadingKind(radio.fading_process),
        coherence_time_s=radio.coherence_time_s,
        rician_k=db_to_linear(radio.rician_k_db) if radio.fading == "rician" else 0.0,
        gain_floor=radio.gain_floor,
    )
    return SimulatedLinks.at_distances(
        distances_m,
        carrier_hz=radio.carrier_hz,
        bandwidth_hz=radio.bandwidth_hz,
        fading=fading,
        seed=radio.seed,
        path_loss_exponent=radio.path_loss_exponent,
        noise_figure_db=radio.noise_figure_db,
    )

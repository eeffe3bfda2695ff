"""Calibrates a pair of radios over a cable with an attenuator."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.radio.opening import open_radio
from siftmoe.radio.power.calibrating import cabled_settings, hear_cabled, pair_entry
from siftmoe.tools.radios.entries import measured_now

if TYPE_CHECKING:
    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.pluto.radio import PlutoRadio
    from siftmoe.radio.power.calibration import PairEntry
    from siftmoe.radio.power.store import CalibrationStore


def measure_pair(
    uris: tuple[str, str],
    settings: RadioSettings,
    *,
    attenuator_db: float,
    attenuator_std_db: float,
    store: CalibrationStore,
) -> PairEntry:
    """Measure C_tx - C_rx of a transmitter and a receiver.

    Parameters
    ----------
    uris : (str, str)
        Transmitter and receiver.
    settings : RadioSettings
        Of the transmitter; the receiver's follow from the attenuator.
    attenuator_db, attenuator_std_db : float, dB
    store : CalibrationStore

    Raises
    ------
    RadioError
        If a radio is missing or does not hear the tone as expected.
    """
    listening = cabled_settings(settings, attenuator_db)  # refused before anything transmits
    radios: list[PlutoRadio] = []
    try:
        radios.extend(open_radio(uri, calibrations=store) for uri in uris)
        heard = hear_cabled(radios[0], radios[1], settings=settings, listening=listening)
        return pair_entry(
            heard,
            serials=(radios[0].info.serial, radios[1].info.serial),
            settings=settings,
            listening=listening,
            attenuator_db=attenuator_db,
            attenuator_std_db=attenuator_std_db,
            temperatures_c=(radios[0].info.temperature_c, radios[1].info.temperature_c),
            measured_at=measured_now(),
        )
    finally:
        for radio in radios:
            radio.close()

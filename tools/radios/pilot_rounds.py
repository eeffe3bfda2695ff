"""Repeated pilot exchanges between two radios, each as the fields that are printed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from siftmoe.radio.errors import Overload, RadioError, SyncFailed
from siftmoe.radio.opening import open_radio
from siftmoe.radio.sounding.sounder import sound
from siftmoe.radio.units import linear_to_db, watt_to_dbm

if TYPE_CHECKING:
    from collections.abc import Generator

    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.pluto.radio import PlutoRadio
    from siftmoe.radio.power.store import CalibrationStore
    from siftmoe.radio.sounding.sounder import Sounding

#: Fields that are null where no burst was found.
_MEASURED = (
    "path_gain_db",
    "path_gain_std_db",
    "path_gain_repeat_std_db",
    "path_gain_source",
    "snr_db",
    "cfo_hz",
    "cfo_std_hz",
    "noise_dbm",
    "noise_std_db",
    "noise_source",
    "timing_samples",
    "tx_power_dbm",
    "tx_power_std_db",
    "tx_power_source",
)
_DB_PER_NEPER = 10.0 / math.log(10.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class PilotRounds:
    """Rounds of pilot exchanges between two radios.

    Parameters
    ----------
    uris : (str, str)
        Radio that transmits first, and the other one.
    both : bool
        Sound both directions in each round.
    settings : RadioSettings
    store : CalibrationStore
    bursts : int
        To average over.
    cfo_hz : float or None, Hz
        Carrier offset of the first direction, if known.
    count : int or None
        Rounds; None for no end.
    interval_s : float, s
        Pause between rounds.
    tolerant : bool
        Go on while a radio is lost.
    """

    uris: tuple[str, str]
    both: bool
    settings: RadioSettings
    store: CalibrationStore
    bursts: int
    cfo_hz: float | None
    count: int | None
    interval_s: float
    tolerant: bool

    def exchanges(self) -> Generator[list[dict[str, Any]], None, None]:
        """Sound all directions repeatedly; each round is a list of exchanges as printed."""
        opened: list[PlutoRadio] = []
        try:
            opened.extend(open_radio(uri, calibrations=self.store) for uri in self.uris)
            pairs = [(opened[0], opened[1]), (opened[1], opened[0])][: 1 + self.both]
            offsets = [self.cfo_hz, None if self.cfo_hz is None else -self.cfo_hz]
            left = self.count
            while True:
                results = []
                for index, pair in enumerate(pairs):
                    result = self._exchange(pair, cfo_hz=offsets[index])
                    offsets[index] = result["cfo_hz"]
                    results.append(result)
                yield results
                left = None if left is None else left - 1
                if left == 0:
                    return
                time.sleep(self.interval_s)
        finally:
            for radio in opened:
                radio.close()

    def _exchange(
        self, pair: tuple[PlutoRadio, PlutoRadio], *, cfo_hz: float | None
    ) -> dict[str, Any]:
        """Sound one direction; with ``tolerant`` a lost radio is an exchange without a burst."""
        settings, begun_s = self.settings, time.time()
        exchange: dict[str, Any] = {
            "tx": pair[0].name,
            "rx": pair[1].name,
            "time_s": begun_s,
            "carrier_hz": settings.carrier_hz,
            "sample_rate_hz": settings.sample_rate_hz,
            "tx_attenuation_db": settings.tx_attenuation_db,
            "rx_gain_db": settings.rx_gain_db,
        }
        try:
            got = sound(*pair, settings=settings, now_s=begun_s, bursts=self.bursts, cfo_hz=cfo_hz)
        except RadioError as error:
            if not (self.tolerant or isinstance(error, (SyncFailed, Overload))):
                raise
            return {**exchange, **dict.fromkeys(_MEASURED), "detected": False, "reason": str(error)}
        measured = _measured(got, pair, self.store)
        return {**exchange, **measured, "detected": True, "reason": got.checks.reason}


def _measured(
    got: Sounding, pair: tuple[PlutoRadio, PlutoRadio], store: CalibrationStore
) -> dict[str, Any]:
    channel, estimates = got.channel, got.estimate
    spread = math.sqrt(float((estimates.gain_std**2).sum())) / float(estimates.gain.sum())
    repeat_db = _DB_PER_NEPER * spread
    # A calibration of the pair is more accurate than those of its two radios.
    path = store.pair(
        pair[0].info.serial,
        pair[1].info.serial,
        carrier_hz=got.carrier_hz,
        sample_rate_hz=got.channel.bandwidth_hz,
        transmitter_c=pair[0].temperature_c,
        receiver_c=pair[1].temperature_c,
    )
    assumed_db = pair[0].reference.tx_full_scale_dbm - pair[1].reference.rx_full_scale_dbm
    values = (
        linear_to_db(channel.gain) + assumed_db - path.difference_db,
        math.hypot(repeat_db, path.std_db, _DB_PER_NEPER * got.checks.relative_std),
        repeat_db,
        path.source.value,
        linear_to_db(got.snr),
        got.cfo_hz,
        got.cfo_std_hz,
        watt_to_dbm(channel.noise_psd * channel.bandwidth_hz),
        _DB_PER_NEPER * channel.noise_psd_std / channel.noise_psd,
        channel.noise_source.value,
        got.detection.start,
        watt_to_dbm(got.tx_power_w),
        _DB_PER_NEPER * got.tx_power_std_w / got.tx_power_w,
        got.tx_power_source.value,
    )
    return dict(zip(_MEASURED, values, strict=True))


def describe(exchange: dict[str, Any]) -> str:
    """Describe one exchange in a sentence."""
    way = f"{exchange['tx']} -> {exchange['rx']}: "
    if not exchange["detected"]:
        return f"{way}nothing; {exchange['reason']}"
    return way + (
        f"path gain {exchange['path_gain_db']:.2f} ± {exchange['path_gain_std_db']:.2f} dB "
        f"({exchange['path_gain_source']}; repeats within "
        f"{exchange['path_gain_repeat_std_db']:.2f} dB), SNR {exchange['snr_db']:.1f} dB, "
        f"CFO {exchange['cfo_hz']:.1f} ± {exchange['cfo_std_hz']:.1f} Hz, noise "
        f"{exchange['noise_dbm']:.1f} ± {exchange['noise_std_db']:.1f} dBm "
        f"({exchange['noise_source']})"
        f"{'; uncertain: ' if exchange['reason'] else ''}{exchange['reason']}"
    )

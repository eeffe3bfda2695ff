"""Calibrations of a unit and of a machine: which entry holds, and what pairs tell of units."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from siftmoe.radio.channel.link import Source
from siftmoe.radio.device import PowerReference
from siftmoe.radio.power import calibration_file
from siftmoe.radio.power.calibration import LevelEntry, PairEntry
from siftmoe.radio.power.conversion import (
    TYPICAL_RX_DBM,
    TYPICAL_STD_DB,
    PathReference,
    typical_tx_dbm,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from siftmoe.radio.power.calibration import Side

_Entry = TypeVar("_Entry", bound=LevelEntry | PairEntry)


@dataclass(frozen=True, slots=True)
class UnitCalibration:
    """Calibration entries of one unit; there may be none."""

    serial: str
    entries: tuple[LevelEntry, ...] = ()

    def reference(
        self, *, carrier_hz: float, sample_rate_hz: float, temperature_c: float | None = None
    ) -> PowerReference:
        """Full-scale powers at a carrier and temperature.

        Of several entries that hold there, the one with the least uncertainty there is used. If
        none holds, the figure is typical of the sample rate and *derived*.
        """
        level = partial(self._level, carrier_hz, temperature_c, sample_rate_hz=sample_rate_hz)
        sent = level(path="transmit", typical=typical_tx_dbm(sample_rate_hz))
        heard = level(path="receive", typical=TYPICAL_RX_DBM)
        return PowerReference(
            tx_full_scale_dbm=sent[0],
            std_db=sent[1],
            source=sent[2],
            rx_full_scale_dbm=heard[0],
            rx_std_db=heard[1],
            rx_source=heard[2],
        )

    def with_entry(self, entry: LevelEntry) -> UnitCalibration:
        """Add an entry; it replaces an earlier entry of the same quantity.

        Raises
        ------
        ValueError
            If it is of another unit.
        """
        if entry.serial != self.serial:
            raise ValueError(f"calibration of {self.serial!r}: the entry is of {entry.serial!r}")
        return replace(self, entries=_with(self.entries, entry))

    def _level(
        self,
        carrier_hz: float,
        temperature_c: float | None,
        *,
        sample_rate_hz: float,
        path: Side,
        typical: float,
    ) -> tuple[float, float, Source]:
        best = _best(
            (
                entry.std_at(carrier_hz, temperature_c, sample_rate_hz=sample_rate_hz),
                entry.full_scale_dbm,
            )
            for entry in self.entries
            if entry.path == path
        )
        if best is not None:
            return best[1], best[0], Source.MEASURED
        return typical, TYPICAL_STD_DB, Source.DERIVED


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationStore:
    """All calibrations of a machine, and their file.

    Parameters
    ----------
    path : Path
        Where ``save`` writes.
    levels : tuple of LevelEntry
    pairs : tuple of PairEntry
    """

    path: Path
    levels: tuple[LevelEntry, ...] = ()
    pairs: tuple[PairEntry, ...] = ()

    @classmethod
    def load(cls, path: str | Path | None = None) -> CalibrationStore:
        """Read the store; a missing file is an empty one.

        Parameters
        ----------
        path : str, Path or None
            None: ``$XDG_CONFIG_HOME/siftmoe/calibration.toml``.

        Raises
        ------
        CalibrationError
            If the file cannot be read or a value in it is not valid.
        """
        path = calibration_file.default_path() if path is None else Path(path)
        levels, pairs = calibration_file.read(path)
        return cls(path=path, levels=levels, pairs=pairs)

    def save(self) -> None:
        """Write the file, all of it or nothing; a CalibrationError if it cannot be written."""
        calibration_file.write(self.path, self.levels, self.pairs)

    def with_entry(self, entry: LevelEntry | PairEntry) -> CalibrationStore:
        """Add an entry; it replaces an earlier entry of the same quantity."""
        if isinstance(entry, LevelEntry):
            return replace(self, levels=_with(self.levels, entry))
        return replace(self, pairs=_with(self.pairs, entry))

    def unit(self, serial: str) -> UnitCalibration:
        """Collect a unit's own entries and those that follow from pairs with a known unit."""
        own = [entry for entry in self.levels if entry.serial == serial]
        deduced = [entry for pair in self.pairs for entry in self._deduced_from(pair, serial)]
        return UnitCalibration(serial, (*own, *deduced))

    def pair(
        self,
        transmitter: str,
        receiver: str,
        *,
        carrier_hz: float,
        sample_rate_hz: float,
        transmitter_c: float | None = None,
        receiver_c: float | None = None,
    ) -> PathReference:
        """C_tx - C_rx of two units, from a cabled measurement of them or from each one's own.

        Parameters
        ----------
        transmitter, receiver : str
            Serial numbers.
        carrier_hz, sample_rate_hz : float, Hz
        transmitter_c, receiver_c : float or None, °C
        """
        sent, heard = (
            self.unit(serial).reference(
                carrier_hz=carrier_hz, sample_rate_hz=sample_rate_hz, temperature_c=temperature_c
            )
            for serial, temperature_c in ((transmitter, transmitter_c), (receiver, receiver_c))
        )
        std_db = math.hypot(sent.std_db, heard.receiver_std_db)
        best = _best(
            (
                entry.std_at(carrier_hz, transmitter_c, receiver_c, sample_rate_hz=sample_rate_hz),
                entry.difference_db,
            )
            for entry in self.pairs
            if (entry.transmitter, entry.receiver) == (transmitter, receiver)
        )
        if best is not None and best[0] <= std_db:
            return PathReference(difference_db=best[1], std_db=best[0], source=Source.MEASURED)
        measured = sent.source is heard.receiver_source is Source.MEASURED
        return PathReference(
            difference_db=sent.tx_full_scale_dbm - heard.rx_full_scale_dbm,
            std_db=std_db,
            source=Source.MEASURED if measured else Source.DERIVED,
        )

    def _deduced_from(self, pair: PairEntry, serial: str) -> Iterator[LevelEntry]:
        """Deduce entries of one unit from a pair and a measured level of the other unit."""
        if pair.receiver == serial:
            for level_dbm, std_db in self._known(pair.transmitter, "transmit", pair):
                yield _deduced(pair, "receive", level_dbm - pair.difference_db, std_db)
        if pair.transmitter == serial:
            for level_dbm, std_db in self._known(pair.receiver, "receive", pair):
                yield _deduced(pair, "transmit", level_dbm + pair.difference_db, std_db)

    def _known(self, serial: str, path: Side, pair: PairEntry) -> Iterator[tuple[float, float]]:
        """Measured levels of a unit, with their uncertainty at the pair's conditions."""
        temperature_c = pair.transmitter_c if path == "transmit" else pair.receiver_c
        for entry in self.levels:
            if (entry.serial, entry.path) == (serial, path):
                std_db = entry.std_at(
                    pair.carrier_hz, temperature_c, sample_rate_hz=pair.sample_rate_hz
                )
                if std_db is not None:
                    yield entry.full_scale_dbm, std_db


def _deduced(pair: PairEntry, path: Side, level_dbm: float, known_std_db: float) -> LevelEntry:
    receiving = path == "receive"
    return LevelEntry(
        serial=pair.receiver if receiving else pair.transmitter,
        path=path,
        carrier_hz=pair.carrier_hz,
        full_scale_dbm=level_dbm,
        std_db=math.hypot(pair.std_db, known_std_db),
        temperature_c=pair.receiver_c if receiving else pair.transmitter_c,
        sample_rate_hz=pair.sample_rate_hz,
        measured_at=pair.measured_at,
        method=f"pair with {pair.transmitter if receiving else pair.receiver}",
    )


def _best(found: Iterable[tuple[float | None, float]]) -> tuple[float, float] | None:
    """(std, value) of the valid entry with the least uncertainty."""
    holding = [(std, value) for std, value in found if std is not None]
    return min(holding, default=None)


def _with(entries: tuple[_Entry, ...], entry: _Entry) -> tuple[_Entry, ...]:
    return (*(old for old in entries if not entry.replaces(old)), entry)

"""Two radios: emulated ones, or with ``--bench FILE`` those of a bench file.

A bench file caps the power at the antenna ports::

    max_tx_power_dbm = -20.0
    uris = ["ip:192.168.2.1", "ip:192.168.3.1"]
    carrier_hz = 2.45e9
    sample_rate_hz = 2e6
    tx_attenuation_db = 20.0
    rx_gain_db = 40.0
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import pytest
from msgspec import Meta

from siftmoe.radio.device import RadioSettings
from siftmoe.radio.emulator.launch import EmulatedPlutos
from siftmoe.radio.errors import RadioError, SyncFailed
from siftmoe.radio.opening import open_radio
from siftmoe.radio.pluto.library import silence_device
from siftmoe.radio.power.conversion import mean_square
from siftmoe.radio.power.store import CalibrationStore
from siftmoe.radio.sounding import sounder
from siftmoe.radio.units import watt_to_dbm

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np

    from siftmoe.radio.device import PowerReference
    from siftmoe.radio.pluto.radio import PlutoRadio
    from siftmoe.radio.sounding.sounder import Sounding


class BenchFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    max_tx_power_dbm: Annotated[float, Meta(le=0.0)]
    uris: Annotated[list[str], Meta(min_length=2, max_length=2)]
    carrier_hz: float = 2.45e9
    sample_rate_hz: float = 2e6
    tx_attenuation_db: float = 20.0
    rx_gain_db: float = 40.0


class CappedRadio:
    """A radio that refuses to transmit more than a bench allows."""

    def __init__(self, radio: PlutoRadio, *, max_tx_power_dbm: float) -> None:
        self.radio = radio
        self._max_dbm = max_tx_power_dbm
        self._settings: RadioSettings | None = None

    @property
    def name(self) -> str:
        return self.radio.name

    @property
    def reference(self) -> PowerReference:
        return self.radio.reference

    @property
    def serial(self) -> str:
        return self.radio.serial

    def tune(self, settings: RadioSettings, *, clamp_gain: bool = False) -> RadioSettings:
        self._settings = self.radio.tune(settings, clamp_gain=clamp_gain)
        return self._settings

    def transmit(self, samples: np.ndarray) -> None:
        assert self._settings is not None
        power_w = self.reference.tx_power_w(mean_square(samples), self._settings)
        if watt_to_dbm(power_w) > self._max_dbm:
            raise ValueError(f"{watt_to_dbm(power_w):.1f} dBm; the bench allows {self._max_dbm}")
        self.radio.transmit(samples)

    def silence(self) -> None:
        self.radio.silence()

    def receive(self, count: int) -> np.ndarray:
        return self.radio.receive(count)

    def close(self) -> None:
        self.radio.close()


class Bench:
    def __init__(self, file: BenchFile, emulated: EmulatedPlutos | None) -> None:
        self.file, self.emulated = file, emulated
        self.uris = file.uris
        self.settings = RadioSettings(
            carrier_hz=file.carrier_hz,
            sample_rate_hz=file.sample_rate_hz,
            tx_attenuation_db=file.tx_attenuation_db,
            rx_gain_db=file.rx_gain_db,
        )
        self._opened: dict[int, CappedRadio] = {}

    def radio(self, index: int) -> CappedRadio:
        """A radio that stays open from test to test, tuned and silent."""
        radio = self._opened.get(index)
        if radio is None:
            radio = self._opened[index] = self.open(index)
        radio.tune(self.settings)
        return radio

    def forget(self, index: int) -> None:
        """Close a radio that a test leaves in an unknown state."""
        self._opened.pop(index).close()

    def open(self, index: int, **options: float) -> CappedRadio:
        store = CalibrationStore(path=Path("unused.toml"))
        radio = open_radio(self.uris[index], calibrations=store, **options)
        return CappedRadio(radio, max_tx_power_dbm=self.file.max_tx_power_dbm)

    def hear(self, receiver: CappedRadio, pilot: sounder.Pilot) -> Sounding:
        return sounder.hear(receiver, pilot, settings=self.settings, now_s=0.0)

    def assert_silent(self, receiver: CappedRadio, pilot: sounder.Pilot) -> None:
        """The receiver finds no burst, and an emulator knows of no transmission."""
        with pytest.raises(SyncFailed):
            self.hear(receiver, pilot)
        if self.emulated is not None:
            assert self.emulated.transmitting() == []

    def close(self) -> None:
        """Close what is open, and make sure of silence over another connection."""
        for index in list(self._opened):
            self.forget(index)
        for uri in self.uris:
            silence_device(uri)


@pytest.fixture(scope="module")
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    given = request.config.getoption("--bench")
    with contextlib.ExitStack() as stack:
        if given is None:
            emulated = stack.enter_context(EmulatedPlutos(2))
            bench = Bench(BenchFile(max_tx_power_dbm=0.0, uris=list(emulated.uris)), emulated)
        else:
            bench = Bench(msgspec.toml.decode(Path(given).read_bytes(), type=BenchFile), None)
        stack.callback(bench.close)
        yield bench


@pytest.fixture
def pair(bench: Bench) -> Iterator[tuple[CappedRadio, CappedRadio]]:
    """Two open radios, tuned; silent afterwards."""
    radios = bench.radio(0), bench.radio(1)
    yield radios
    for index, radio in enumerate(radios):
        try:
            radio.silence()
        except RadioError:  # the test closed it
            bench.forget(index)

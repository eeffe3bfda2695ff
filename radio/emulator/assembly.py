"""Builds the emulated Plutos of a configuration and serves them on loopback."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from siftmoe.radio.channel.fading import FadingKind, FadingModel
from siftmoe.radio.channel.link import Source
from siftmoe.radio.channel.multipath import AirPath
from siftmoe.radio.channel.pathloss import path_gain
from siftmoe.radio.device import PowerReference
from siftmoe.radio.emulator.device.identity import Identity
from siftmoe.radio.emulator.device.medium import Medium
from siftmoe.radio.emulator.device.pluto import EmulatedPluto
from siftmoe.radio.emulator.iiod.server import IIOD_PORT, PlutoServer
from siftmoe.radio.errors import DeviceNotFound
from siftmoe.radio.simulated.air import Air
from siftmoe.radio.simulated.front_end import DeviceModel
from siftmoe.radio.simulated.impairments import Impairments, Interferer
from siftmoe.radio.sounding.pilots import FFT_SIZE, carriers
from siftmoe.radio.units import db_to_linear

if TYPE_CHECKING:
    from siftmoe.radio.emulator.config import AirConfig, DeviceEntry, LinkEntry


class Emulation:
    """All devices of an air, each served at its own address.

    Parameters
    ----------
    config : AirConfig
    port : int
        Of every device; 0 takes free ones.

    Raises
    ------
    OSError
        If an address is taken.
    """

    def __init__(self, config: AirConfig, *, port: int = IIOD_PORT) -> None:
        self._entries = list(config.device)
        models = {entry.name: _model(entry) for entry in config.device}
        air = Air(models, sample_rate_hz=config.sample_rate_hz, seed=config.seed)
        self.medium = Medium(air, clock=time.monotonic, sleep=time.sleep)
        self._links: dict[tuple[str, str], LinkEntry] = {}
        for link in config.link:
            self.set_link(link)
        self.servers: dict[str, PlutoServer] = {}
        try:
            for index, entry in enumerate(config.device):
                rng = np.random.default_rng((config.seed, index))
                pluto = EmulatedPluto(self.medium, _identity(entry, index), rng=rng)
                host = entry.address or _address(index)
                self.servers[entry.name] = PlutoServer(pluto, host=host, port=port)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Stop serving."""
        for server in self.servers.values():
            server.close()

    def server(self, name: str) -> PlutoServer:
        """Return the server of a device; ``DeviceNotFound`` if no device has that name."""
        self.medium.air.device(name)
        return self.servers[name]

    def link(self, transmitter: str, receiver: str) -> LinkEntry:
        """Return the configuration entry of a direction."""
        if (transmitter, receiver) not in self._links:
            raise DeviceNotFound(f"no link from {transmitter!r} to {receiver!r} on this air")
        return self._links[transmitter, receiver]

    def set_link(self, entry: LinkEntry) -> None:
        """Set or replace a link while everything runs."""
        path = self._path(entry)
        for transmitter, receiver in entry.directions:
            self.medium.connect(transmitter, receiver, path)
            self._links[transmitter, receiver] = entry

    def gain(self, transmitter: str, receiver: str) -> float:
        """Return the true power gain now, mean over the carriers that a sounding burst occupies."""
        spacing_hz = self.medium.sample_rate_hz / FFT_SIZE
        return self.medium.gain(transmitter, receiver, np.asarray(carriers() * spacing_hz))

    def _path(self, entry: LinkEntry) -> AirPath:
        spacing_s = entry.tap_spacing_s or 1.0 / self.medium.sample_rate_hz
        k_db = entry.rician_k_db
        return AirPath(
            gain=_mean_gain(entry),
            delay_s=entry.delay_s,
            tap_powers=tuple(db_to_linear(tap) for tap in entry.taps_db),
            tap_spacing_s=spacing_s,
            fading=FadingModel(
                kind=FadingKind(entry.fading),
                coherence_time_s=entry.coherence_time_s,
                rician_k=0.0 if k_db is None else db_to_linear(k_db),
            ),
            stream=self._stream(entry),
        )

    def _stream(self, entry: LinkEntry) -> int:
        """Return a number of the link that depends on its two devices only."""
        names = [device.name for device in self._entries]
        first, second = (names.index(name) for name in entry.directions[0])
        if entry.between is not None:
            first, second = sorted((first, second))
        return first * 64 + second


def _mean_gain(entry: LinkEntry) -> float:
    if entry.gain_db is not None:
        return db_to_linear(entry.gain_db)
    distance_m = math.inf if entry.distance_m is None else entry.distance_m
    gain = path_gain(
        distance_m=distance_m, carrier_hz=entry.carrier_hz, exponent=entry.path_loss_exponent
    )
    return float(gain)


def _model(entry: DeviceEntry) -> DeviceModel:
    return DeviceModel(
        ppm=entry.ppm,
        noise_figure_db=entry.noise_figure_db,
        reference=PowerReference(
            tx_full_scale_dbm=entry.tx_full_scale_dbm,
            rx_full_scale_dbm=entry.rx_full_scale_dbm,
            std_db=0.0,
            source=Source.MODELLED,
        ),
        impairments=Impairments(
            dc_dbfs=entry.dc_dbfs,
            image_db=entry.image_db,
            phase_noise_deg=entry.phase_noise_deg,
            clock_ppm=entry.clock_ppm,
            saturation_dbfs=entry.saturation_dbfs,
            interferers=tuple(
                Interferer(**msgspec.structs.asdict(interferer)) for interferer in entry.interferer
            ),
        ),
    )


def _identity(entry: DeviceEntry, index: int) -> Identity:
    return Identity(
        name=entry.name,
        serial=entry.serial or f"10447354119600{index:04x}",
        temperature_c=entry.temperature_c,
        extended_tuning=entry.extended_tuning,
        fir_step_db=entry.fir_step_db,
        temperature_reading=entry.temperature_reading,
        lo_powerdown=entry.lo_powerdown,
        rate_error_hz=entry.rate_error_hz,
    )


def _address(index: int) -> str:
    return f"127.0.1.{index + 1}"

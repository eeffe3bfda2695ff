"""The file that describes an emulated air: its devices, and the paths between them.

.. code-block:: toml

    seed = 1
    sample_rate_hz = 2e6

    [[device]]
    name = "user"
    ppm = 4.0

    [[device]]
    name = "helper"
    ppm = -7.5
    noise_figure_db = 6.0

    [[link]]
    between = ["user", "helper"]      # both directions alike; or transmitter = …, receiver = …
    gain_db = -72.0                   # or distance_m = 4.0
    taps_db = [0.0, -3.0, -6.0]
    fading = "jakes"
    coherence_time_s = 0.5

A wrong key, value or name is a ``ValueError`` that names its place. Without a file, each device
has its own oscillator error, and all pairs have static paths of the same gain.
"""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

#: Frequency of the free-space part of a path given by its distance.
DEFAULT_CARRIER_HZ = 2.4e9
#: Spread of the oscillators without a file, ppm; Plutos are specified at 25.
_SPREAD_PPM = 10.0

#: Of pyadi-iio's filter: 20 log10 (2 / 4).
FIR_STEP_DB = -6.02

Name: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Decibel: TypeAlias = Annotated[float, Meta(ge=-200.0, le=60.0)]
#: Loopback only: an emulated radio has no authentication, like a real one.
Loopback: TypeAlias = Annotated[str, Meta(pattern=r"^127\.\d{1,3}\.\d{1,3}\.\d{1,3}$")]


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A TOML table that refuses unknown keys."""


class DeviceEntry(_Table, frozen=True, kw_only=True):
    """``[[device]]``: one emulated Pluto.

    Parameters
    ----------
    name : str
    address : str or None
        Loopback address; None counts from 127.0.1.1.
    serial : str or None
        None derives one from the device's position.
    ppm : float
        Error of its oscillator.
    noise_figure_db : float, dB
    tx_full_scale_dbm : float, dBm
        True power of a full-scale carrier at 0 dB attenuation, which a calibration measures.
    rx_full_scale_dbm : float, dBm
        Input power of a full-scale carrier at 0 dB gain.
    temperature_c : float, degrees Celsius
    extended_tuning : bool
        Tunes from 70 MHz to 6 GHz, like a Pluto that is configured as an AD9364.
    dc_dbfs : float or None, dB
        DC offset of the receiver's converter relative to full scale.
    image_db : float or None, dB
        Level of the receiver's I/Q image relative to the signal.
    phase_noise_deg : float, degrees
        RMS phase noise of the oscillator.
    clock_ppm : float
        Error of the receiver's sample clock.
    saturation_dbfs : float or None, dB
        Level relative to full scale at which the receiver saturates softly.
    interferer : tuple of InterfererEntry
    fir_step_db : float, dB
        Change of the transmitter's level while its FIR filter interpolates by 4, as pyadi-iio loads
        it up to 20 MS/s: its taps sum to 2 instead of 4.
    temperature_reading : str
        ``number``; or what some firmware does: ``text`` ("n/a"), ``error``, ``absent``.
    lo_powerdown : bool
        Whether the oscillators have the attribute ``powerdown``.
    rate_error_hz : int, Hz
        How far the sample rate reads back from what was written.
    """

    name: Name
    address: Loopback | None = None
    serial: Annotated[str, Meta(pattern=r"^[0-9A-Za-z]{1,64}$")] | None = None
    ppm: Annotated[float, Meta(ge=-100.0, le=100.0)] = 0.0
    noise_figure_db: Annotated[float, Meta(ge=0.0, le=40.0)] = 5.0
    tx_full_scale_dbm: Annotated[float, Meta(ge=-40.0, le=40.0)] = 7.0
    rx_full_scale_dbm: Annotated[float, Meta(ge=-40.0, le=40.0)] = 0.0
    temperature_c: Annotated[float, Meta(ge=-40.0, le=125.0)] = 36.0
    extended_tuning: bool = False
    dc_dbfs: Annotated[float, Meta(ge=-100.0, le=0.0)] | None = None
    image_db: Annotated[float, Meta(ge=-100.0, le=0.0)] | None = None
    phase_noise_deg: Annotated[float, Meta(ge=0.0, le=60.0)] = 0.0
    clock_ppm: Annotated[float, Meta(ge=-100.0, le=100.0)] = 0.0
    saturation_dbfs: Annotated[float, Meta(ge=-60.0, le=20.0)] | None = None
    interferer: Annotated[tuple[InterfererEntry, ...], Meta(max_length=16)] = ()
    fir_step_db: Annotated[float, Meta(ge=-20.0, le=0.0)] = FIR_STEP_DB
    temperature_reading: Literal["number", "text", "error", "absent"] = "number"
    lo_powerdown: bool = True
    rate_error_hz: Annotated[int, Meta(ge=-1000, le=1000)] = 0


class InterfererEntry(_Table, frozen=True, kw_only=True):
    """``[[device.interferer]]``: a signal at a device's port that no device sends.

    Parameters
    ----------
    carrier_hz : float, Hz
    power_dbm : float, dBm
        At the port, while it is on.
    bandwidth_hz : float, Hz
        0 is an unmodulated carrier.
    period_s : float, s
        Of its pulses; 0 is a continuous signal.
    duty : float
        Share of a period that it is on.
    """

    carrier_hz: Annotated[float, Meta(ge=1e6, le=1e11)]
    power_dbm: Annotated[float, Meta(ge=-174.0, le=20.0)]
    bandwidth_hz: Annotated[float, Meta(ge=0.0, le=1e8)] = 0.0
    period_s: Annotated[float, Meta(ge=0.0, le=1e3)] = 0.0
    duty: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.5


class LinkEntry(_Table, frozen=True, kw_only=True):
    """``[[link]]``: a path of one direction, or the same path of both.

    Parameters
    ----------
    between : pair of str
        Both directions, reciprocal; or ``transmitter`` and ``receiver``.
    gain_db : float, dB
        Mean power gain; or ``distance_m``, by free space to 1 m and ``path_loss_exponent`` beyond.
    delay_s : float, s
    taps_db : tuple of float, dB
        Relative mean powers.
    tap_spacing_s : float, s
        None is one sample.
    fading : str
    coherence_time_s : float, s
        Lag of gain correlation one half, or length of a block.
    rician_k_db : float or None, dB
        Power of the direct path over that of the scattered ones; None is Rayleigh.
    """

    between: tuple[Name, Name] | None = None
    transmitter: Name | None = None
    receiver: Name | None = None
    gain_db: Decibel | None = None
    distance_m: Annotated[float, Meta(ge=1.0, le=1e5)] | None = None
    carrier_hz: Annotated[float, Meta(ge=70e6, le=6e9)] = DEFAULT_CARRIER_HZ
    path_loss_exponent: Annotated[float, Meta(ge=1.0, le=8.0)] = 3.0
    delay_s: Annotated[float, Meta(ge=0.0, le=1e-3)] = 0.0
    taps_db: Annotated[tuple[Decibel, ...], Meta(min_length=1, max_length=64)] = (0.0,)
    tap_spacing_s: Annotated[float, Meta(gt=0.0, le=1e-4)] | None = None
    fading: Literal["static", "block", "jakes", "gauss-markov"] = "static"
    coherence_time_s: Annotated[float, Meta(ge=1e-4, le=1e6)] = 1.0
    rician_k_db: Annotated[float, Meta(ge=-60.0, le=60.0)] | None = None

    def __post_init__(self) -> None:
        ends = self.transmitter is not None and self.receiver is not None
        if ends == (self.between is not None) or (self.transmitter is None) != (
            self.receiver is None
        ):
            raise ValueError("a link has either 'between' or 'transmitter' and 'receiver'")
        if (self.gain_db is None) == (self.distance_m is None):
            raise ValueError("a link has either 'gain_db' or 'distance_m'")
        if len({*self.directions[0]}) != 2:
            raise ValueError(f"a link needs two devices, got {self.directions[0]}")

    @property
    def directions(self) -> tuple[tuple[str, str], ...]:
        """The directions of the link, (transmitter, receiver)."""
        if self.between is not None:
            first, second = self.between
            return ((first, second), (second, first))
        return ((self.transmitter or "", self.receiver or ""),)


class AirConfig(_Table, frozen=True, kw_only=True):
    """The configuration file of an air."""

    device: Annotated[tuple[DeviceEntry, ...], Meta(min_length=1, max_length=64)]
    link: tuple[LinkEntry, ...] = ()
    seed: Annotated[int, Meta(ge=0, lt=2**32)] = 0
    sample_rate_hz: Annotated[float, Meta(ge=521e3, le=20e6)] = 2e6

    def __post_init__(self) -> None:
        for key in ("name", "address", "serial"):
            values = [v for entry in self.device if (v := getattr(entry, key)) is not None]
            if twice := sorted({v for v in values if values.count(v) > 1}):
                raise ValueError(f"{key} of more than one [[device]]: {', '.join(twice)}")
        names = {entry.name for entry in self.device}
        for entry in self.link:
            if unknown := {*entry.directions[0]} - names:
                raise ValueError(f"[[link]] names no [[device]]: {', '.join(sorted(unknown))}")


def default_air(count: int, *, gain_db: float = -70.0, seed: int = 0) -> AirConfig:
    """Devices ``pluto-0`` … with different oscillators and the same static gain between all."""
    if not 1 <= count <= 64:
        raise ValueError(f"emulated Plutos: from 1 to 64, got {count}")
    ppm = np.random.default_rng(seed).uniform(-_SPREAD_PPM, _SPREAD_PPM, count)
    devices = tuple(
        DeviceEntry(name=f"pluto-{index}", ppm=round(float(error), 2))
        for index, error in enumerate(ppm)
    )
    links = tuple(
        LinkEntry(between=(a.name, b.name), gain_db=gain_db) for a, b in combinations(devices, 2)
    )
    return AirConfig(device=devices, link=links, seed=seed)


def load_air(path: str | Path) -> AirConfig:
    """Read a file.

    Raises
    ------
    ValueError
        If the file is no TOML, or a key or value is not valid.
    OSError
        If the file cannot be read.
    """
    text = Path(path).read_bytes()
    try:
        return msgspec.toml.decode(text, type=AirConfig)
    except msgspec.DecodeError as error:
        raise ValueError(f"air {str(path)!r}: {error}") from error

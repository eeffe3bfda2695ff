r"""A shared simulated medium: several radios, directed fading links, one sample clock.

What device r receives from all who transmit, at its antenna port:

.. math:: y_r[n] = \sum_s \sqrt{P_s g_{sr}} \sum_l \sqrt{p_l}\, h_l(n)\, x_s(n - d - d_l)\,
                   e^{j 2 \pi \Delta_{sr} n / f_s} + w[n], \qquad w \sim CN(0, k T_0 F f_s)

and then receiver gain, clipping and conversion to 12 bits. The offset :math:`\Delta` follows from
both carriers and oscillator errors. Delays may be fractions of a sample.

Left out, on purpose: the sample clock's own error (0.04 samples in a burst at 25 ppm), phase
noise, IQ imbalance, what of a neighbouring carrier falls into the band (a transmission is heard if
its carrier lies within half the sample rate, else not), and a device's own transmission in its own
receiver. Time stands still except when somebody receives, or by ``advance``. Not thread-safe.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.device import PowerReference, RadioSettings
from siftmoe.radio.errors import DeviceNotFound, SettingRejected
from siftmoe.radio.fading import stream_generator
from siftmoe.radio.link import Source
from siftmoe.radio.multipath import AirPath, PathResponse
from siftmoe.radio.units import thermal_noise_psd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]

CONVERTER_BITS = 12
#: Fading is held for so many samples: 32 us at 2 MS/s.
FADING_HOLD = 64
#: Receiver gains of the AD936x.
_GAIN_RANGE_DB = (-3.0, 71.0)
_NOISE_STREAM = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceModel:
    """Properties of one simulated radio.

    Parameters
    ----------
    ppm : float
        Error of its oscillator, parts per million.
    noise_figure_db : float, dB
    reference : PowerReference
        True full-scale powers, hence known without uncertainty by default.
    """

    ppm: float = 0.0
    noise_figure_db: float = 5.0
    reference: PowerReference = field(
        default_factory=lambda: PowerReference(std_db=0.0, source=Source.MODELLED)
    )


@dataclass(frozen=True, slots=True)
class _Transmission:
    settings: RadioSettings
    samples: ComplexArray
    start: int


def quantise(samples: ComplexArray) -> ComplexArray:
    """Clip to full scale and round to the converter's steps, I and Q on their own."""
    levels = 2 ** (CONVERTER_BITS - 1)
    parts = np.ascontiguousarray(samples, dtype=np.complex128).view(np.float64) * levels
    steps = np.clip(np.round(parts), -levels, levels - 1) / levels
    return np.asarray(steps.view(np.complex128))


class Air:
    """The medium that simulated radios share.

    Parameters
    ----------
    devices : dict of str to DeviceModel
    sample_rate_hz : float, Hz
        The one rate that all radios use.
    seed : int
    """

    def __init__(
        self, devices: dict[str, DeviceModel], *, sample_rate_hz: float, seed: int
    ) -> None:
        if not sample_rate_hz > 0.0:
            raise ValueError(f"air: sample_rate_hz must be positive, got {sample_rate_hz}")
        self.sample_rate_hz = sample_rate_hz
        self._devices = dict(devices)
        self._seed = seed
        self._paths: dict[tuple[str, str], PathResponse] = {}
        self._active: dict[str, _Transmission] = {}
        self._clock = 0

    @property
    def now_s(self) -> float:
        """Time on the air's clock."""
        return self._clock / self.sample_rate_hz

    def advance(self, duration_s: float) -> None:
        """Let time pass; by whole samples."""
        if not duration_s >= 0.0:
            raise ValueError(f"air: time cannot run backwards, got {duration_s} s")
        self._clock += round(duration_s * self.sample_rate_hz)

    def device(self, name: str) -> DeviceModel:
        """Properties of a device; ``DeviceNotFound`` if there is none of that name."""
        if name not in self._devices:
            known = ", ".join(sorted(self._devices)) or "none"
            raise DeviceNotFound(f"no device {name!r} on this air; there are: {known}")
        return self._devices[name]

    def connect(self, transmitter: str, receiver: str, path: AirPath) -> None:
        """Set or replace the path of one direction; unconnected devices do not hear each other."""
        self.device(transmitter), self.device(receiver)
        if transmitter == receiver:
            raise ValueError(f"air: device {transmitter!r} cannot be connected to itself")
        self._paths[transmitter, receiver] = PathResponse(
            path, seed=self._seed, sample_rate_hz=self.sample_rate_hz
        )

    def check(self, name: str, settings: RadioSettings) -> None:
        """Refuse settings that a device on this air cannot take.

        Raises
        ------
        SettingRejected
        """
        low, high = _GAIN_RANGE_DB
        if settings.sample_rate_hz != self.sample_rate_hz:
            raise SettingRejected(
                f"device {name!r}: sample rate {settings.sample_rate_hz} Hz; this air runs at "
                f"{self.sample_rate_hz} Hz"
            )
        if not low <= settings.rx_gain_db <= high:
            raise SettingRejected(
                f"device {name!r}: rx gain {settings.rx_gain_db} dB is not in {low}..{high} dB"
            )

    def begin(self, name: str, settings: RadioSettings, samples: ComplexArray) -> None:
        """Start to repeat samples from a device's antenna."""
        self.device(name)
        peak = np.abs(np.asarray(samples).view(np.float64)).max() if len(samples) else math.inf
        if not peak <= 1.0:
            raise ValueError(
                f"device {name!r}: samples to transmit must exist and stay within full scale 1, "
                f"got {len(samples)} with peak {peak}"
            )
        self._active[name] = _Transmission(settings, quantise(samples), self._clock)

    def end(self, name: str) -> None:
        """Silence a device."""
        self._active.pop(name, None)

    def transmitting(self) -> list[str]:
        """Names of the devices that transmit now."""
        return sorted(self._active)

    def receive(self, name: str, settings: RadioSettings, count: int) -> ComplexArray:
        """Return the samples at a device's converter; the clock advances by as many."""
        if count < 1:
            raise ValueError(f"device {name!r}: count of samples must be positive, got {count}")
        model = self.device(name)
        field_v = self._noise(name, model, count)
        for source, transmission in self._active.items():
            path = self._paths.get((source, name))
            if source != name and path is not None:
                offset = self._offset_hz(source, transmission, name, settings)
                if abs(offset) <= 0.5 * self.sample_rate_hz:
                    field_v += self._arriving(source, transmission, path, count, offset)
        self._clock += count
        full_scale_w = model.reference.rx_power_w(1.0, settings)
        return quantise(field_v / math.sqrt(full_scale_w))

    def gain(self, transmitter: str, receiver: str, frequencies_hz: FloatArray) -> float:
        """Return the true power gain now, mean over frequencies relative to the carrier."""
        response = self._path(transmitter, receiver).response(self.now_s, frequencies_hz)
        return float(np.mean(np.abs(response) ** 2))

    def cfo_hz(self, transmitter: str, receiver: str, carrier_hz: float) -> float:
        """Return the true carrier offset between two devices tuned to the same carrier."""
        return carrier_hz * 1e-6 * (self.device(transmitter).ppm - self.device(receiver).ppm)

    def _path(self, transmitter: str, receiver: str) -> PathResponse:
        if (transmitter, receiver) not in self._paths:
            raise ValueError(f"air: {transmitter!r} is not connected to {receiver!r}")
        return self._paths[transmitter, receiver]

    def _offset_hz(
        self, source: str, transmission: _Transmission, name: str, settings: RadioSettings
    ) -> float:
        sent = transmission.settings.carrier_hz * (1.0 + 1e-6 * self.device(source).ppm)
        return sent - settings.carrier_hz * (1.0 + 1e-6 * self.device(name).ppm)

    def _noise(self, name: str, model: DeviceModel, count: int) -> ComplexArray:
        index = list(self._devices).index(name)
        rng = stream_generator(seed=self._seed, link=index, stream=_NOISE_STREAM, block=self._clock)
        power = thermal_noise_psd(noise_figure_db=model.noise_figure_db) * self.sample_rate_hz
        pairs = rng.standard_normal((count, 2)) * math.sqrt(power / 2.0)
        return np.asarray(pairs.view(np.complex128)[:, 0])

    def _arriving(
        self,
        source: str,
        transmission: _Transmission,
        path: PathResponse,
        count: int,
        offset_hz: float,
    ) -> ComplexArray:
        # Fading is held on a grid of the air's clock, not of the capture's.
        first = self._clock - self._clock % FADING_HOLD
        holds = -(-(self._clock + count - first) // FADING_HOLD)
        grid = first + FADING_HOLD * np.arange(holds)
        impulse = path.impulse(grid / self.sample_rate_hz)  # [holds, J]
        total = np.zeros((holds, FADING_HOLD), dtype=np.complex128)
        for column, lag in enumerate(path.lags):
            emitted = _emitted(transmission, first - int(lag), holds * FADING_HOLD)
            total += impulse[:, column, np.newaxis] * emitted.reshape(holds, FADING_HOLD)
        skip = self._clock - first
        times = self._clock + np.arange(count, dtype=np.float64)
        turns = np.mod(offset_hz / self.sample_rate_hz * times, 1.0)
        power = self.device(source).reference.tx_power_w(1.0, transmission.settings)
        arriving = total.reshape(-1)[skip : skip + count] * np.exp(2j * math.pi * turns)
        return np.asarray(math.sqrt(power) * arriving)


def _emitted(transmission: _Transmission, first: int, count: int) -> ComplexArray:
    """Return the samples that leave the antenna from clock ``first`` on; none before the start."""
    index = np.arange(first, first + count) - transmission.start
    looped = transmission.samples[index % len(transmission.samples)]
    return np.asarray(np.where(index >= 0, looped, 0.0))

r"""A shared simulated medium: several radios, directed fading links, one sample clock.

Device r receives the sum of all transmissions at its antenna port:

.. math:: y_r[n] = \sum_s \sqrt{P_s g_{sr}} \sum_l \sqrt{p_l}\, h_l(n)\, x_s(n - d - d_l)\,
                   e^{j 2 \pi \Delta_{sr} n / f_s} + w[n], \qquad w \sim CN(0, k T_0 F f_s)

and then receiver gain, clipping and conversion to 12 bits. The offset :math:`\Delta` follows from
both carriers and oscillator errors. Delays may be fractions of a sample.

Sample clock error, phase noise, I/Q image, saturation, DC offset and interferers: `impairments`.
Not modelled: the part of a neighbouring carrier's spectrum that falls into the band (a transmission
is received if its carrier lies within half the sample rate, else not), and a device's own
transmission in its own receiver. The clock advances with ``receive`` and ``advance`` only; or the
caller keeps the clock and passes it in every call. Not thread-safe.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.channel.fading import stream_generator
from siftmoe.radio.channel.multipath import PathResponse
from siftmoe.radio.errors import DeviceNotFound, SettingRejected
from siftmoe.radio.simulated.front_end import RX_GAIN_RANGE_DB, convert
from siftmoe.radio.simulated.impairments import interpolated, needed, sampling_times
from siftmoe.radio.simulated.propagation import Span, emissions, propagated
from siftmoe.radio.simulated.timeline import Timeline
from siftmoe.radio.simulated.transmission import Transmission, quantise
from siftmoe.radio.units import thermal_noise_psd

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.channel.multipath import AirPath
    from siftmoe.radio.device import RadioSettings
    from siftmoe.radio.simulated.front_end import DeviceModel

    ComplexArray = NDArray[np.complex128]
    FloatArray = NDArray[np.float64]

_NOISE_STREAM = 2
#: Transmissions are kept for so long after their end: longer than any delay of a path.
_MEMORY_S = 0.1


class Air:
    """The medium that simulated radios share.

    Parameters
    ----------
    devices : dict of str to DeviceModel
    sample_rate_hz : float, Hz
        Of all radios.
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
        self._sent: dict[str, Timeline[Transmission | None]] = {
            name: Timeline(None) for name in devices
        }
        self._clock = 0

    @property
    def now_s(self) -> float:
        """Time on the air's clock."""
        return self._clock / self.sample_rate_hz

    def advance(self, duration_s: float) -> None:
        """Advance the clock, by whole samples."""
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
        """Refuse settings that a device of this air does not support.

        Raises
        ------
        SettingRejected
        """
        low, high = RX_GAIN_RANGE_DB
        if settings.sample_rate_hz != self.sample_rate_hz:
            raise SettingRejected(
                f"device {name!r}: sample rate {settings.sample_rate_hz} Hz; this air runs at "
                f"{self.sample_rate_hz} Hz"
            )
        if not low <= settings.rx_gain_db <= high:
            raise SettingRejected(
                f"device {name!r}: rx gain {settings.rx_gain_db} dB is not in {low}..{high} dB"
            )

    def begin(
        self,
        name: str,
        settings: RadioSettings,
        samples: ComplexArray,
        *,
        at: int | None = None,
        phase: complex = 1.0,
    ) -> None:
        """Start to repeat samples from a device's antenna, now or at clock ``at``.

        ``phase``, of modulus 1, is that of its oscillator.

        Raises
        ------
        ValueError
            If there are no samples, or one exceeds full scale.
        """
        self.device(name)
        peak = np.abs(np.asarray(samples).view(np.float64)).max() if len(samples) else math.inf
        if not peak <= 1.0:
            raise ValueError(
                f"device {name!r}: samples to transmit must exist and stay within full scale 1, "
                f"got {len(samples)} with peak {peak}"
            )
        clock = self._clock if at is None else at
        self._sent[name].set(clock, Transmission(settings, quantise(samples), clock, phase))

    def retune(
        self, name: str, settings: RadioSettings, *, at: int | None = None, phase: complex = 1.0
    ) -> None:
        """Change the settings of a running transmission, now or at clock ``at``."""
        self.device(name)

        def edit(sent: Transmission | None) -> Transmission | None:
            return None if sent is None else replace(sent, settings=settings, phase=phase)

        self._sent[name].change(self._clock if at is None else at, edit)

    def end(self, name: str, *, at: int | None = None) -> None:
        """Silence a device, now or at clock ``at``."""
        self.device(name)
        self._sent[name].set(self._clock if at is None else at, None)

    def transmitting(self, *, at: int | None = None) -> list[str]:
        """Names of the devices that transmit, now or at clock ``at``."""
        clock = self._clock if at is None else at
        return sorted(name for name, sent in self._sent.items() if sent.at(clock) is not None)

    def radiated_w(self, name: str, *, at: int | None = None) -> float:
        """Mean transmit power of a device, now or at clock ``at``, W; 0 if it is silent."""
        sent = self._sent[name].at(self._clock if at is None else at)
        if sent is None:
            return 0.0
        mean_square = float(np.mean(np.abs(sent.samples) ** 2))
        return self.device(name).reference.tx_power_w(mean_square, sent.settings)

    def forget(self, before: int) -> None:
        """Drop transmissions that ended before a clock."""
        for sent in self._sent.values():
            sent.forget(before)

    def receive(self, name: str, settings: RadioSettings, count: int) -> ComplexArray:
        """Return samples of a device's converter; the clock advances by as many."""
        field_v = self.field(name, settings, start=self._clock, count=count)
        self._clock += count
        self.forget(self._clock - round(_MEMORY_S * self.sample_rate_hz))
        return convert(field_v, self.device(name), settings)

    def field(
        self,
        name: str,
        settings: RadioSettings,
        *,
        start: int,
        count: int,
        origin: int | None = None,
    ) -> ComplexArray:
        """Return the field at a device's port, noise included, in sqrt(W)."""
        if count < 1:
            raise ValueError(f"device {name!r}: count of samples must be positive, got {count}")
        clock_ppm = self.device(name).impairments.clock_ppm
        if not clock_ppm:
            return self._field(name, settings, start, count)
        since = start if origin is None else origin
        times = sampling_times(start, count, origin=since, ppm=clock_ppm)
        first, last = needed(times)
        return interpolated(self._field(name, settings, first, last - first), times)

    def _field(self, name: str, settings: RadioSettings, start: int, count: int) -> ComplexArray:
        field_v = self._noise(name, start, count)
        for source in self._sent:
            path = self._paths.get((source, name))
            if path is not None:
                self._add(field_v, source=source, name=name, settings=settings, start=start)
        model, clocks = self.device(name), start + np.arange(count)
        if (phasors := self._phasors_of(name, clocks)) is not None:
            field_v *= phasors
        interference = model.impairments.interference(
            clocks,
            carrier_hz=settings.carrier_hz * (1.0 + 1e-6 * model.ppm),
            sample_rate_hz=self.sample_rate_hz,
            seed=self._seed,
            device=self._number(name),
        )
        return field_v if interference is None else field_v + interference

    def _number(self, name: str) -> int:
        return list(self._devices).index(name)

    def _phasors_of(self, name: str, clocks: NDArray[np.int64]) -> ComplexArray | None:
        """Phase noise of a device's oscillator."""
        return self.device(name).impairments.phasors(
            clocks,
            sample_rate_hz=self.sample_rate_hz,
            seed=self._seed,
            device=self._number(name),
        )

    def gain(
        self,
        transmitter: str,
        receiver: str,
        frequencies_hz: FloatArray,
        *,
        at: int | None = None,
    ) -> float:
        """Return the true power gain now, mean over frequencies relative to the carrier."""
        time_s = self.now_s if at is None else at / self.sample_rate_hz
        response = self._path(transmitter, receiver).response(time_s, frequencies_hz)
        return float(np.mean(np.abs(response) ** 2))

    def cfo_hz(self, transmitter: str, receiver: str, carrier_hz: float) -> float:
        """Return the true carrier offset between two devices tuned to the same carrier."""
        return carrier_hz * 1e-6 * (self.device(transmitter).ppm - self.device(receiver).ppm)

    def _path(self, transmitter: str, receiver: str) -> PathResponse:
        if (transmitter, receiver) not in self._paths:
            raise ValueError(f"air: {transmitter!r} is not connected to {receiver!r}")
        return self._paths[transmitter, receiver]

    def _noise(self, name: str, start: int, count: int) -> ComplexArray:
        rng = stream_generator(
            seed=self._seed, link=self._number(name), stream=_NOISE_STREAM, block=start
        )
        psd = thermal_noise_psd(noise_figure_db=self.device(name).noise_figure_db)
        pairs = rng.standard_normal((count, 2)) * math.sqrt(psd * self.sample_rate_hz / 2.0)
        return np.asarray(pairs.view(np.complex128)[:, 0])

    def _add(
        self, field_v: ComplexArray, *, source: str, name: str, settings: RadioSettings, start: int
    ) -> None:
        """Add one source's contribution to a field."""
        path, reference = self._paths[source, name], self.device(source).reference
        span = Span.around(path, start=start, count=len(field_v))
        phasors: ComplexArray | None = None
        for (sent, phase), emitted in emissions(self._sent[source], span).items():
            offset_hz = self._offset_hz(source, sent, name, settings)
            if abs(offset_hz) > 0.5 * self.sample_rate_hz:
                continue
            if phasors is None:
                phasors = self._phasors_of(source, np.arange(span.since, span.until))
            field_v += propagated(
                emitted if phasors is None else emitted * phasors,
                path,
                span,
                scale=phase * math.sqrt(reference.tx_power_w(1.0, sent)),
                turn=offset_hz / self.sample_rate_hz,
                sample_rate_hz=self.sample_rate_hz,
            )

    def _offset_hz(
        self, source: str, sent: RadioSettings, name: str, settings: RadioSettings
    ) -> float:
        arriving = sent.carrier_hz * (1.0 + 1e-6 * self.device(source).ppm)
        return arriving - settings.carrier_hz * (1.0 + 1e-6 * self.device(name).ppm)

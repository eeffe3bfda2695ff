"""One emulated Pluto: transceiver, tone generators and buffers on the shared air."""

from __future__ import annotations

import errno
import math
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.radio.device import RadioSettings
from siftmoe.radio.emulator.device.converters import converter_devices
from siftmoe.radio.emulator.device.identity import Identity
from siftmoe.radio.emulator.device.medium import slices
from siftmoe.radio.emulator.device.phy import phy_device
from siftmoe.radio.emulator.device.streams import DEFAULT_BLOCKS, ReceiveStream, TransmitStream
from siftmoe.radio.emulator.device.tones import Tones
from siftmoe.radio.emulator.device.transceiver import AGC_TARGET_DB, XO_HZ, Transceiver
from siftmoe.radio.emulator.device.tree import Context, IioError
from siftmoe.radio.simulated.front_end import convert
from siftmoe.radio.simulated.timeline import Timeline

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.radio.emulator.device.medium import Medium
    from siftmoe.radio.emulator.device.tree import Device

    ComplexArray = NDArray[np.complex128]

#: Samples of a block at most: 16 MiB, the kernel's limit for a DMA block.
MAX_BLOCK = 1 << 22
MAX_KERNEL_BUFFERS = 64
#: A new client may arrive before the old one's CLOSE, since each uses its own connection.
_BUSY_PATIENCE_S = 0.05
_BUSY_POLL_S = 1e-3


@dataclass(frozen=True, slots=True)
class _Listening:
    """Settings of the receiver in a span of time."""

    settings: RadioSettings
    mode: str
    on: bool
    phase: complex


class EmulatedPluto:
    """A device of the air behind the attributes and buffers of a Pluto.

    Thread-safe: every connection has its own thread.

    Parameters
    ----------
    medium : Medium
    identity : Identity
    rng : numpy.random.Generator
        Draws the phase of an oscillator when it locks to another frequency.
    """

    def __init__(self, medium: Medium, identity: Identity, *, rng: np.random.Generator) -> None:
        self.medium, self.identity = medium, identity
        self.lock = threading.RLock()
        self._model = medium.air.device(identity.name)
        self._rng = rng
        self._boot()

    def _boot(self) -> None:
        rate = round(self.medium.sample_rate_hz)
        self.chip = Transceiver(
            rate,
            self.identity.extended_tuning,
            self._changed,
            rate_error_hz=self.identity.rate_error_hz,
        )
        self.tones = Tones(rate_hz=lambda: self.chip.rate_hz, changed=self._changed)
        self._buffers = {"rx": DEFAULT_BLOCKS, "tx": DEFAULT_BLOCKS}
        self._decimation = {"rx": 1, "tx": 1}
        self._rssi_db = 119.0
        self._feeding: TransmitStream | None = None
        self._played: ComplexArray | None = None
        self._locked: dict[str, tuple[int, complex]] = {}
        self._listening = Timeline(self._listens())
        self.context = self._describe()

    def power_cycle(self) -> None:
        """Reset every setting, as a loss of power does."""
        with self.lock:
            self.medium.end(self.identity.name)
            self._boot()

    def open(
        self, device: Device, *, count: int, columns: tuple[int, ...], cyclic: bool
    ) -> ReceiveStream | TransmitStream:
        """Open a buffer of a device.

        Raises
        ------
        IioError
            EINVAL for a size that does not fit, no channels, or a rate that is not the air's;
            EBUSY if another client transmits.
        """
        if not device.scan_channels:
            raise IioError(errno.EINVAL)
        side = self._side(device)
        rate = self.chip.rate_hz // self._decimation[side]
        if not (1 <= count <= MAX_BLOCK and columns and rate == self.medium.sample_rate_hz):
            raise IioError(errno.EINVAL)
        if side == "rx":
            return ReceiveStream(
                self, self.medium, count=count, columns=columns, blocks=self._buffers["rx"]
            )
        stream = TransmitStream(
            self,
            self.medium,
            count=count,
            columns=columns,
            cyclic=cyclic,
            blocks=self._buffers["tx"],
        )
        deadline = time.monotonic() + _BUSY_PATIENCE_S
        while not self._take_transmitter(stream):
            if time.monotonic() > deadline:
                raise IioError(errno.EBUSY)
            time.sleep(_BUSY_POLL_S)
        return stream

    def set_buffers_count(self, device: Device, count: int) -> None:
        """Set the number of blocks of the buffers opened from now on."""
        if not 1 <= count <= MAX_KERNEL_BUFFERS:
            raise IioError(errno.EINVAL)
        self._buffers[self._side(device)] = count

    def capture(self, start: int, stop: int) -> ComplexArray:
        """Return samples of the converter in a range of the clock, full scale 1."""
        with self.lock:
            pieces = list(self._listening.pieces(start, stop))
            self._listening.forget(min(start, self.medium.now()))
        parts = [
            self._convert(since, until, heard, origin=start)
            for begin, end, heard in pieces
            for since, until in slices(begin, end)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def play(self, samples: ComplexArray, *, at: int) -> None:
        """Feed the transmitter with repeated samples from a clock on."""
        with self.lock:
            self._played = samples
            if self.chip.transmits:
                self._begin(samples, at=at)

    def stop_playing(self, *, at: int) -> None:
        """Stop feeding the transmitter at a clock."""
        self.medium.end(self.identity.name, at=at)

    def closed(self, stream: object) -> None:
        """Handle the end of a stream: the tone generators feed the transmitter."""
        with self.lock:
            if stream is self._feeding:
                self._feeding = None
                self._played = None
                self._play_tones()

    def radiated_dbm(self) -> float | None:
        """Power at the antenna port now, dBm; None if there is none."""
        power = self.medium.radiated_w(self.identity.name)
        return 10.0 * math.log10(power) + 30.0 if power > 0.0 else None

    def _take_transmitter(self, stream: TransmitStream) -> bool:
        with self.lock:
            if self._feeding is not None:
                return False
            self._feeding = stream
            # the buffer feeds the converter from now on, and it is still empty
            self.medium.end(self.identity.name)
            return True

    def _changed(self) -> None:
        """Apply a changed setting to the air."""
        with self.lock:
            self._listening.set(self.medium.now(), self._listens())
            name, feeding = self.identity.name, self._feeding
            if not self.chip.transmits:
                self.medium.end(name)
            elif feeding is None:
                self._play_tones()
            elif feeding.cyclic and self._played is not None and not self._on_air():
                self._begin(self._played)
            else:
                phase = self._phase("tx", self.chip.tx_lo_hz)
                self.medium.retune(name, self._sends(), phase=phase)

    def _begin(self, samples: ComplexArray, *, at: int | None = None) -> None:
        phase = self._phase("tx", self.chip.tx_lo_hz)
        # A filter below unity gain scales the samples and not the converter's full scale.
        step_db = self.identity.fir_step_db if self.chip.interpolates_by_4 else 0.0
        scaled = samples * 10.0 ** (step_db / 20.0)
        self.medium.begin(self.identity.name, self._sends(), scaled, at=at, phase=phase)

    def _phase(self, side: str, lo_hz: int) -> complex:
        """Phase of an oscillator: drawn anew when it locks to another frequency."""
        if self._locked.get(side, (0,))[0] != lo_hz:
            turn = 2j * math.pi * self._rng.random()
            self._locked[side] = (lo_hz, complex(np.exp(turn)))
        return self._locked[side][1]

    def _on_air(self) -> bool:
        return self.identity.name in self.medium.transmitting()

    def _play_tones(self) -> None:
        if self.tones.audible and self.chip.transmits:
            self._begin(self.tones.waveform())
        else:
            self.medium.end(self.identity.name)

    def _convert(self, start: int, stop: int, heard: _Listening, *, origin: int) -> ComplexArray:
        settings = heard.settings
        field = self.medium.hear(
            self.identity.name, settings, start=start, count=stop - start, origin=origin
        )
        if not heard.on:
            return np.zeros(stop - start, dtype=np.complex128)
        power_w = float(np.mean(np.abs(field) ** 2))
        at_zero_gain = self._model.reference.rx_power_w(1.0, self._settings(gain_db=0.0))
        level_db = 10.0 * math.log10(power_w / at_zero_gain)
        self._rssi_db = -level_db
        if heard.mode != "manual":
            low, high = self.chip.gain_range
            self.chip.gain_db = int(min(max(AGC_TARGET_DB - level_db, low), high))
            settings = self._settings(gain_db=self.chip.gain_db)
        return convert(field * heard.phase, self._model, settings)

    def _listens(self) -> _Listening:
        settings = self._settings(gain_db=self.chip.gain_db)
        phase = self._phase("rx", self.chip.rx_lo_hz)
        return _Listening(settings, self.chip.gain_mode, self.chip.receives, phase)

    def _sends(self) -> RadioSettings:
        return RadioSettings(
            carrier_hz=self.chip.tx_lo_hz * XO_HZ / self.chip.xo_correction_hz,
            sample_rate_hz=self.medium.sample_rate_hz,
            tx_attenuation_db=self.chip.attenuation_mdb / 1000.0,
            rx_gain_db=0.0,
        )

    def _settings(self, *, gain_db: float) -> RadioSettings:
        return RadioSettings(
            carrier_hz=self.chip.rx_lo_hz * XO_HZ / self.chip.xo_correction_hz,
            sample_rate_hz=self.medium.sample_rate_hz,
            tx_attenuation_db=0.0,
            rx_gain_db=gain_db,
        )

    @staticmethod
    def _side(device: Device) -> str:
        channels = device.scan_channels
        if not channels:
            raise IioError(errno.ENOSYS)
        return "tx" if channels[0].output else "rx"

    def _describe(self) -> Context:
        phy = phy_device(
            self.chip,
            identity=lambda: self.identity,
            rssi_db=lambda: self._rssi_db,
        )
        extended = self.identity.extended_tuning
        return Context(
            name="network",
            description="127.0.0.1 Linux pluto (emulated by siftmoe) armv7l",
            attributes={
                "hw_model": "Analog Devices PlutoSDR Rev.C (Z7010-AD9363A)",
                "hw_model_variant": "0",
                "hw_serial": self.identity.serial,
                "fw_version": "v0.38",
                "ad9361-phy,xo_correction": str(XO_HZ),
                "ad9361-phy,model": "ad9364" if extended else "ad9363a",
                "local,kernel": "5.15.0-emulated",
            },
            devices=(phy, *converter_devices(self.chip, self.tones, self._decimation)),
        )

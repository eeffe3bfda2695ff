"""State of an AD9363 as its Linux driver keeps it: ranges, steps and refusals.

Values are those of the driver's attributes. ``changed`` is called after every change that affects
the air. Not modelled: tracking loops, filters (bandwidths are stored but filter nothing), the RF
synthesiser's grid of about 2 Hz, and the gain tables' uneven steps.
"""

from __future__ import annotations

import errno
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from siftmoe.radio.emulator.device.tree import IioError

if TYPE_CHECKING:
    from collections.abc import Callable

XO_HZ = 40_000_000
GAIN_MODES = ("manual", "fast_attack", "slow_attack", "hybrid")
#: An attack mode holds the signal's mean power at this level relative to full scale.
AGC_TARGET_DB = -12.0
#: Receiver gain of the default tables: (up to this LO, least, most).
_GAIN_TABLES = ((1_300_000_000, -1, 73), (4_000_000_000, -3, 71), (6_000_000_000, -10, 62))
_LO_RANGES = {False: (325_000_000, 3_800_000_000), True: (70_000_000, 6_000_000_000)}
_RX_BANDWIDTH = (200_000, 56_000_000)
_TX_BANDWIDTH = (200_000, 40_000_000)
_MAX_RATE_HZ = 61_440_000
#: The converters run at 25 MHz at least, and their half-band filters divide by 12 at most.
_MIN_CONVERTER_HZ, _HALF_BAND = 25_000_000, 12
_FIXPOINT = re.compile(r"[+-]?\d+(\.\d{1,9})?( dB)?")


def _parse_int(text: str) -> int:
    try:
        return int(text.strip(), 10)
    except ValueError:
        raise IioError(errno.EINVAL) from None


def parse_fixed(text: str) -> float:
    """Parse the kernel's fixed-point numbers; a unit of dB may follow."""
    if not _FIXPOINT.fullmatch(text.strip()):
        raise IioError(errno.EINVAL)
    return float(text.strip().removesuffix(" dB"))


def parse_flag(text: str) -> bool:
    """Parse the kernel's booleans."""
    value = text.strip().lower()
    if value in ("1", "y", "yes", "on"):
        return True
    if value in ("0", "n", "no", "off"):
        return False
    raise IioError(errno.EINVAL)


def parse_range(text: str, low: int, high: int) -> int:
    """Parse a whole number within bounds."""
    value = _parse_int(text)
    if not low <= value <= high:
        raise IioError(errno.EINVAL)
    return value


@dataclass(slots=True)
class Transceiver:
    """Settings of the chip.

    Parameters
    ----------
    rate_hz : int
        Baseband rate at the start.
    extended_tuning : bool
        Tunes from 70 MHz to 6 GHz, like a Pluto that is configured as an AD9364.
    changed : callable
        Called after a change.
    """

    rate_hz: int
    extended_tuning: bool
    changed: Callable[[], None]
    rx_lo_hz: int = 2_400_000_000
    tx_lo_hz: int = 2_450_000_000
    rx_off: bool = False
    tx_off: bool = False
    attenuation_mdb: int = 10_000
    gain_db: int = 71
    gain_mode: str = "slow_attack"
    rx_bandwidth_hz: int = 18_000_000
    tx_bandwidth_hz: int = 18_000_000
    fir_enabled: bool = False
    fir_taps: int = 0
    fir_factor: int = 1
    ensm_mode: str = "fdd"
    xo_correction_hz: int = XO_HZ
    governor: str = "nominal"
    calib_mode: str = "auto"
    rate_error_hz: int = 0
    _flags: dict[str, bool] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rate_hz < self._least_rate(1):
            self.fir_enabled, self.fir_taps, self.fir_factor = True, 128, 4

    @property
    def interpolates_by_4(self) -> bool:
        """Whether the transmitter's FIR filter is on and interpolates by 4."""
        return self.fir_enabled and self.fir_factor == 4

    @property
    def read_rate_hz(self) -> int:
        """Baseband rate as its attribute reads."""
        return self.rate_hz + self.rate_error_hz

    @property
    def lo_range(self) -> tuple[int, int]:
        """Least and greatest LO frequency, Hz."""
        return _LO_RANGES[self.extended_tuning]

    @property
    def gain_range(self) -> tuple[int, int]:
        """Least and greatest receiver gain at the present LO, dB."""
        for limit, low, high in _GAIN_TABLES:
            if self.rx_lo_hz <= limit:
                return low, high
        raise IioError(errno.EINVAL)

    @property
    def rate_range(self) -> tuple[int, int]:
        """Least and greatest baseband rate with the present filter, Hz."""
        return self._least_rate(self.fir_factor if self.fir_enabled else 1), _MAX_RATE_HZ

    def set_lo(self, text: str, *, transmit: bool) -> None:
        """Tune one of the two synthesisers."""
        value = parse_range(text, *self.lo_range)
        if transmit:
            self.tx_lo_hz = value
        else:
            self.rx_lo_hz = value
            low, high = self.gain_range
            self.gain_db = min(max(self.gain_db, low), high)
        self.changed()

    def set_powerdown(self, text: str, *, transmit: bool) -> None:
        """Switch a synthesiser off or on."""
        if transmit:
            self.tx_off = parse_flag(text)
        else:
            self.rx_off = parse_flag(text)
        self.changed()

    def set_attenuation(self, text: str) -> None:
        """Set a gain of -89.75 to 0 dB, truncated to steps of 0.25 dB."""
        value_mdb = round(parse_fixed(text) * 1000.0)
        if not -89_750 <= value_mdb <= 0:
            raise IioError(errno.EINVAL)
        self.attenuation_mdb = -value_mdb // 250 * 250
        self.changed()

    def set_gain(self, text: str) -> None:
        """Set the receiver gain; without effect unless the mode is manual, as in the driver."""
        value = int(parse_fixed(text))
        if self.gain_mode != "manual":
            return
        low, high = self.gain_range
        if not low <= value <= high:
            raise IioError(errno.EINVAL)
        self.gain_db = value
        self.changed()

    def set_gain_mode(self, text: str) -> None:
        """Set the mode of the gain control."""
        self.gain_mode = self._one_of(text, GAIN_MODES)
        self.changed()

    def set_bandwidth(self, text: str, *, transmit: bool) -> None:
        """Set the corner of an analog filter."""
        if transmit:
            self.tx_bandwidth_hz = parse_range(text, *_TX_BANDWIDTH)
        else:
            self.rx_bandwidth_hz = parse_range(text, *_RX_BANDWIDTH)

    def set_rate(self, text: str) -> None:
        """Set the baseband rate; below 2.083 MS/s the FIR filter has to divide."""
        self.rate_hz = parse_range(text, *self.rate_range)

    def set_fir_enabled(self, text: str) -> None:
        """Switch the FIR filters; refused if the rate would then be impossible."""
        enable = parse_flag(text)
        if enable and not self.fir_taps:
            raise IioError(errno.EINVAL)
        if not enable and self.rate_hz < self._least_rate(1):
            raise IioError(errno.EINVAL)
        self.fir_enabled = enable

    def load_fir(self, text: str) -> None:
        """Load a filter file: a line ``RX 3 GAIN -6 DEC 4``, one for TX, and pairs of taps."""
        factor = re.search(r"^RX\s+\d+\s+GAIN\s+-?\d+\s+DEC\s+([124])\s*$", text, re.MULTILINE)
        other = re.search(r"^TX\s+\d+\s+GAIN\s+-?\d+\s+INT\s+([124])\s*$", text, re.MULTILINE)
        taps = re.findall(r"^\s*-?\d+\s*,\s*-?\d+\s*$", text, re.MULTILINE)
        if not factor or not other or len(taps) % 16 or not 16 <= len(taps) <= 128:
            raise IioError(errno.EINVAL)
        self.fir_factor, self.fir_taps = int(factor.group(1)), len(taps)

    def fir_summary(self) -> str:
        """Return the value of ``filter_fir_config``."""
        taps, factor = self.fir_taps, self.fir_factor if self.fir_taps else 0
        return f"FIR Rx: {taps},{factor} Tx: {taps},{factor}"

    def path_rates(self, *, transmit: bool) -> str:
        """Rates along one path, in the driver's form."""
        fir = self.fir_factor if self.fir_enabled else 1
        converter = self.rate_hz * fir * self._half_band(fir)
        pll = converter
        while pll < 715_000_000:
            pll *= 2
        half = self.rate_hz * fir
        names = ("ADC", "R2", "R1", "RF", "RXSAMP")
        if transmit:
            names = ("DAC", "T2", "T1", "TF", "TXSAMP")
        second = max(converter // 3, half) if self._half_band(fir) % 3 == 0 else converter // 2
        rates = (converter, max(second, half), max(second // 2, half), half, self.rate_hz)
        return " ".join([f"BBPLL:{pll}", *(f"{n}:{r}" for n, r in zip(names, rates, strict=True))])

    def set_ensm(self, text: str) -> None:
        """Set the state machine; only ``fdd`` transmits and receives."""
        self.ensm_mode = self._one_of(text, ("sleep", "wait", "alert", "fdd"))
        self.changed()

    def set_xo_correction(self, text: str) -> None:
        """Set the oscillator frequency that the driver assumes, Hz."""
        self.xo_correction_hz = parse_range(text, 39_992_000, 40_008_000)
        self.changed()

    def flag(self, name: str) -> str:
        """Value of a switch that has no effect in the emulator."""
        return "1" if self._flags.get(name, True) else "0"

    def set_flag(self, name: str, text: str) -> None:
        """Store a switch that has no effect in the emulator."""
        self._flags[name] = parse_flag(text)

    @property
    def transmits(self) -> bool:
        """Whether the converter's samples reach the antenna."""
        return self.ensm_mode == "fdd" and not self.tx_off

    @property
    def receives(self) -> bool:
        """Whether the antenna's signal reaches the converter."""
        return self.ensm_mode == "fdd" and not self.rx_off

    def _half_band(self, fir: int) -> int:
        for factor in (12, 8, 6, 4, 3, 2):
            if self.rate_hz * fir * factor <= 336_000_000:
                return factor
        return 1

    @staticmethod
    def _least_rate(fir: int) -> int:
        return _MIN_CONVERTER_HZ // (_HALF_BAND * fir)

    @staticmethod
    def _one_of(text: str, values: tuple[str, ...]) -> str:
        if text.strip() not in values:
            raise IioError(errno.EINVAL)
        return text.strip()

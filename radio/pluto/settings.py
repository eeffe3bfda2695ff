"""Settings of a Pluto: every value is written, read back and compared.

pyadi-iio silently ignores some values (a gain while the gain control is automatic), and the
hardware rounds others.
"""

from __future__ import annotations

import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from siftmoe.radio.errors import SettingRejected
from siftmoe.radio.pluto.library import gain_range, lo_range

if TYPE_CHECKING:
    from siftmoe.radio.device import RadioSettings

#: Errors of a refused value, as opposed to those of a failed connection.
REFUSALS: Final = (errno.EINVAL, errno.ERANGE, errno.EOPNOTSUPP)
#: Attribute of pyadi-iio -> name, unit, tolerance, tolerance relative to the value. The
#: synthesiser's step at 2.4 GHz is 2.4 Hz, and doubles with its divider; the sample rate's dividers
#: leave a hertz or two in two million. Both are far below the oscillator's 25 ppm.
_ATTRIBUTES: Final = {
    "sample_rate": ("sample rate", "Hz", 1.0, 5e-6),
    "rx_lo": ("carrier", "Hz", 5.0, 1e-8),
    "tx_lo": ("carrier", "Hz", 5.0, 1e-8),
    "rx_hardwaregain_chan0": ("rx gain", "dB", 0.01, 0.0),
    "tx_hardwaregain_chan0": ("gain of the output", "dB", 0.01, 0.0),
}
_OSCILLATORS: Final = ("rx_lo", "tx_lo")


def apply_rate(pluto: Any, sample_rate_hz: float, *, name: str) -> None:
    """Set the sample rate with its filter, and the analog bandwidth.

    Raises
    ------
    SettingRejected
    """
    rate = round(sample_rate_hz)
    _set(pluto, "sample_rate", rate, name=name, always=True)  # loads the filter in any case
    pluto.rx_rf_bandwidth = pluto.tx_rf_bandwidth = rate


def is_on(pluto: Any, settings: RadioSettings) -> bool:
    """Whether both oscillators are on the carrier already."""
    return all(_near(lo, getattr(pluto, lo), settings.carrier_hz) for lo in _OSCILLATORS)


def apply_settings(
    pluto: Any, settings: RadioSettings, *, name: str, clamp_gain: bool = False
) -> RadioSettings:
    """Set carriers and the receiver's gain, whose range depends on the carrier.

    Returns
    -------
    RadioSettings
        With ``clamp_gain`` the gain is the nearest one in that range.

    Raises
    ------
    SettingRejected
    """
    for lo in _OSCILLATORS:
        limits_hz = lo_range(pluto._ctrl)
        _set(pluto, lo, round(settings.carrier_hz), name=name, limits=limits_hz)  # a float raises
    # In any other mode the gain is ignored.
    if pluto.gain_control_mode_chan0 != "manual":
        pluto.gain_control_mode_chan0 = "manual"
    if (mode := pluto.gain_control_mode_chan0) != "manual":
        raise SettingRejected(f"radio {name!r}: gain control stays in mode {mode!r}")
    limits_db = gain_range(pluto._ctrl)
    if clamp_gain and limits_db is not None:
        low, high = limits_db
        settings = replace(settings, rx_gain_db=min(max(settings.rx_gain_db, low), high))
    _set(pluto, "rx_hardwaregain_chan0", settings.rx_gain_db, name=name, limits=limits_db)
    return settings


def apply_attenuation(pluto: Any, settings: RadioSettings, *, name: str) -> None:
    """Set the transmitter's attenuation.

    Raises
    ------
    SettingRejected
    """
    _set(pluto, "tx_hardwaregain_chan0", -settings.tx_attenuation_db, name=name)


def _set(
    pluto: Any,
    attribute: str,
    value: float,
    *,
    name: str,
    limits: tuple[float, float] | None = None,
    always: bool = False,
) -> None:
    """Write a value unless it is set already, and read it back."""
    label, unit, *_ = _ATTRIBUTES[attribute]
    if not always and _near(attribute, getattr(pluto, attribute), value):
        return
    refused = ""
    try:
        setattr(pluto, attribute, value)
        got = getattr(pluto, attribute)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        refused = error.strerror or str(error)
    if not refused and not _near(attribute, got, value):
        refused = f"it reads back {got}"
    if refused:
        wanted = f"; it takes {limits[0]:.0f}..{limits[1]:.0f} {unit}" if limits else ""
        raise SettingRejected(
            f"radio {name!r}: {label} {value} {unit} was not taken: {refused}{wanted}"
        )


def _near(attribute: str, got: Any, value: float) -> bool:
    """Compare a value of pyadi-iio, which is a list where it found no single number."""
    _, _, absolute, relative = _ATTRIBUTES[attribute]
    tolerance = max(absolute, relative * abs(value))
    return isinstance(got, (int, float)) and abs(got - value) <= tolerance

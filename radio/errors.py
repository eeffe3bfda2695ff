"""Errors of the radio package.

::

    RadioError
    ├── DeviceNotFound      no radio answers at the address
    │   └── DeviceBusy      another program holds the radio
    ├── SettingRejected     a radio read back another value than was written
    ├── SyncFailed          no burst found where one was expected
    ├── BufferOverrun       samples were lost
    ├── Overload            a receiver clipped, so its level is not usable
    ├── CalibrationError    a calibration file or reading cannot be used
    ├── LinkOutage          a link cannot carry the payload within its power limit
    └── ModemError          what the modem receives cannot be used
        ├── BadSamples      samples are no finite numbers
        ├── HeaderInvalid   a header is damaged, or says what is impossible
        └── PayloadLost     blocks of a payload are missing
"""

from __future__ import annotations


class RadioError(Exception):
    """Root of the errors of channels and radios."""


class DeviceNotFound(RadioError):
    """No radio answers at the address."""


class DeviceBusy(DeviceNotFound):
    """Another program holds the radio at the address."""


class SettingRejected(RadioError):
    """A radio read back another value than was written."""


class SyncFailed(RadioError):
    """No burst was found where one was expected."""


class BufferOverrun(RadioError):
    """Samples were lost between radio and program."""


class Overload(RadioError):
    """A receiver clipped, so its level is not usable."""


class CalibrationError(RadioError):
    """A calibration file or a reading for it cannot be used."""


class LinkOutage(RadioError):
    """A link cannot carry the payload within its power limit."""


class ModemError(RadioError):
    """What the modem receives cannot be used."""


class BadSamples(ModemError):
    """Received samples are no finite complex numbers."""


class HeaderInvalid(ModemError):
    """A header is damaged, or says what is impossible."""


class PayloadLost(ModemError):
    """Blocks of a payload are missing."""

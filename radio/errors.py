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
    └── LinkOutage          a link cannot carry the payload within its power limit
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

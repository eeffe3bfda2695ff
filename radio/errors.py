"""Errors of the radio package.

::

    RadioError
    ├── DeviceNotFound      no radio answers at the address
    │   └── DeviceBusy      there is one, and another program holds it
    ├── SettingRejected     a radio read back another value than was written
    ├── SyncFailed          no burst found where one was expected
    ├── BufferOverrun       samples were lost
    ├── Overload            a receiver clipped, so that its level means nothing
    ├── CalibrationError    a calibration file or reading cannot be used
    └── LinkOutage          a link cannot carry the payload within its power limit
"""

from __future__ import annotations


class RadioError(Exception):
    """Root of what can go wrong on the air or at a radio."""


class DeviceNotFound(RadioError):
    """No radio answers at the address."""


class DeviceBusy(DeviceNotFound):
    """There is a radio at the address, and another program holds it."""


class SettingRejected(RadioError):
    """A radio read back another value than was written."""


class SyncFailed(RadioError):
    """No burst was found where one was expected."""


class BufferOverrun(RadioError):
    """Samples were lost between radio and program."""


class Overload(RadioError):
    """A receiver clipped, so that its level means nothing."""


class CalibrationError(RadioError):
    """A calibration file or a reading for it cannot be used."""


class LinkOutage(RadioError):
    """A link cannot carry the payload within its power limit."""

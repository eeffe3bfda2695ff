"""All uses of libiio and pyadi-iio; no other module imports them.

Both are imported when a radio is opened and not before. libiio crashes when a context is destroyed
before its buffers, which Python's garbage collection can cause (a stored exception can keep a
buffer alive longer than its context), so buffers and contexts are destroyed here explicitly.
"""

from __future__ import annotations

import errno
from typing import Any, Final

from siftmoe.radio.device import MAX_ATTENUATION_DB
from siftmoe.radio.errors import DeviceBusy, DeviceNotFound, RadioError
from siftmoe.radio.pluto.address import Address, require_answer
from siftmoe.radio.pluto.values import PlutoInfo, Range, parse_range

#: A Pluto answers in milliseconds, over a crowded network in tens of them.
DEFAULT_TIMEOUT_S: Final = 1.0
#: Errors of an attribute that are those of the connection.
_CONNECTION_ERRORS: Final = (
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ECONNREFUSED,
    errno.ECONNABORTED,
    errno.ENOTCONN,
    errno.EHOSTUNREACH,
    errno.ENETUNREACH,
    errno.ETIMEDOUT,
    errno.EBADF,
)
_PHY: Final = "ad9361-phy"
_DAC: Final = "cf-ad9361-dds-core-lpc"


def silence_device(uri: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    """Silence a Pluto over a separate connection; this ends another client's transmission.

    Raises
    ------
    DeviceNotFound
        If no Pluto answers.
    """
    address = Address.parse(uri)
    context = connect(address, timeout_s=timeout_s)
    try:
        silence_context(context)
    except OSError as error:
        raise DeviceNotFound(f"radio {uri!r}: not silenced: {error.strerror or error}") from None
    finally:
        destroy_context(context)


def look_at(address: Address, *, timeout_s: float) -> PlutoInfo:
    """Read identity and ranges of a Pluto and change nothing.

    Raises
    ------
    DeviceNotFound
        If no Pluto answers.
    """
    context = connect(address, timeout_s=timeout_s)
    try:
        phy = context.find_device(_PHY)
        if phy is None:
            raise DeviceNotFound(f"radio {address.uri!r} has no {_PHY}: it is no Pluto")
        return describe(context, phy)
    except OSError as error:
        raise DeviceNotFound(f"radio {address.uri!r}: {error.strerror or error}") from None
    finally:
        destroy_context(context)


def scan_usb() -> dict[str, str]:
    """URIs and descriptions of the Plutos on USB.

    Raises
    ------
    RadioError
        If libiio is missing.
    """
    iio = _iio()
    # The public scan also asks Avahi and fails as a whole where Avahi does not run.
    found = iio._POINTER(iio._ContextInfoPtr)()
    scan = iio._create_scan_context(b"usb", 0)
    try:
        count = iio._get_context_info_list(scan, iio._byref(found))
        uris = [iio._context_info_get_uri(found[i]).decode("ascii") for i in range(count)]
        texts = [iio._context_info_get_description(found[i]).decode() for i in range(count)]
        iio._context_info_list_free(found)
    finally:
        iio._destroy_scan_context(scan)
    return dict(zip(uris, texts, strict=True))


def _iio() -> Any:
    """Import libiio's binding; a RadioError names what is missing."""
    try:
        import iio
    except ModuleNotFoundError:
        raise RadioError(
            "a Pluto needs pylibiio and pyadi-iio: pip install 'siftmoe[pluto]'"
        ) from None
    # Without the library the binding looks for its functions in Python itself.
    except (AttributeError, OSError, ImportError) as error:
        raise RadioError(
            f"a Pluto needs the system library libiio 0.24 ({error}); on Debian and Ubuntu: "
            "apt-get install libiio0"
        ) from None
    return iio


def connect(address: Address, *, timeout_s: float) -> Any:
    """Connect a context; the caller destroys it. ``DeviceNotFound`` if no radio answers."""
    iio = _iio()
    require_answer(address, timeout_s=timeout_s)
    try:
        context = iio.Context(address.uri)
        context.set_timeout(max(1, round(1000 * timeout_s)))  # before any buffer exists
    except OSError as error:
        kind = DeviceBusy if error.errno == errno.EBUSY else DeviceNotFound
        raise kind(f"radio {address.uri!r}: {error.strerror or error}{_way_out(error)}") from None
    return context


def _way_out(error: OSError) -> str:
    if error.errno == errno.EBUSY:
        return "; another program uses it"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "; add a udev rule for vendor 0456, products b673 and b674"
    return "; check cable and address ('siftmoe radio probe' lists what is there)"


def open_pluto(context: Any, name: str) -> Any:
    """Open pyadi-iio's Pluto on a context; ``DeviceNotFound`` if it is another device."""
    try:
        import adi
    except ImportError as error:
        raise RadioError(
            f"a Pluto needs pyadi-iio ({error}): pip install 'siftmoe[pluto]'"
        ) from None
    try:
        return adi.Pluto(context)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  pyadi-iio raises nothing more specific
        raise DeviceNotFound(f"radio {name!r} is no Pluto: {error}") from None


def silence_context(context: Any) -> None:
    """Silence a Pluto, including the tones that it falls back to when a buffer closes."""
    phy, dac = context.find_device(_PHY), context.find_device(_DAC)
    if phy is None or dac is None:
        raise DeviceNotFound(f"the IIO context has no {_PHY} and {_DAC}: it is no Pluto")
    quieten(phy)
    for channel in dac.channels:
        if channel.output and "scale" in channel.attrs:
            channel.attrs["scale"].value = "0"


def quieten(phy: Any) -> None:
    """Set full attenuation, then power down the transmitter's oscillator, which leaks otherwise."""
    phy.find_channel("voltage0", True).attrs["hardwaregain"].value = str(-MAX_ATTENUATION_DB)
    power_oscillator(phy, on=False)


def power_oscillator(phy: Any, *, on: bool) -> None:
    """Power the transmitter's local oscillator up or down, where the firmware can do that."""
    channel = phy.find_channel("altvoltage1", True)
    if channel is not None and "powerdown" in channel.attrs:
        channel.attrs["powerdown"].value = "0" if on else "1"


def temperature(phy: Any) -> float | None:
    """Temperature of the transceiver, degree Celsius; None if it cannot be read."""
    text = _optional(phy, "temp0", "input", output=False)
    try:
        return None if text is None else float(text) / 1000.0
    except ValueError:  # some firmware reads "n/a"
        return None


def _optional(phy: Any, channel: str, attribute: str, *, output: bool) -> str | None:
    """Value of an attribute that firmware may lack or refuse to read; None then.

    A connection that fails is an OSError as ever.
    """
    found = phy.find_channel(channel, output)
    if found is None or attribute not in found.attrs:
        return None
    try:
        return str(found.attrs[attribute].value)
    except OSError as error:
        if error.errno in _CONNECTION_ERRORS or isinstance(error, TimeoutError):
            raise
        return None


def describe(context: Any, phy: Any) -> PlutoInfo:
    """Read identity and ranges of a Pluto."""
    attributes = context.attrs
    return PlutoInfo(
        serial=attributes.get("hw_serial", ""),
        model=attributes.get("hw_model", ""),
        firmware=attributes.get("fw_version", ""),
        temperature_c=temperature(phy),
        lo_range_hz=lo_range(phy),
        rx_gain_range_db=gain_range(phy),
        tx_attenuation_range_db=_attenuations(phy),
    )


def _range(phy: Any, channel: str, attribute: str, *, output: bool) -> Range | None:
    text = _optional(phy, channel, attribute, output=output)
    return None if text is None else parse_range(text)


def lo_range(phy: Any) -> Range | None:
    """Range of the carrier, Hz; None if it cannot be read."""
    return _range(phy, "altvoltage0", "frequency_available", output=True)


def gain_range(phy: Any) -> Range | None:
    """Range of the receiver's gain at the present carrier, dB; None if it cannot be read."""
    return _range(phy, "voltage0", "hardwaregain_available", output=False)


def _attenuations(phy: Any) -> Range | None:
    gains = _range(phy, "voltage0", "hardwaregain_available", output=True)
    return gains and (0.0 - gains[1], -gains[0])


def destroy_buffer(buffer: Any) -> None:
    """Destroy a buffer now, even if objects refer to it; a second time does nothing."""
    raw = getattr(buffer, "_buffer", None)
    if raw is not None:
        buffer._buffer = None  # so that Python does not destroy it again
        _iio()._buffer_destroy(raw)


def destroy_context(context: Any) -> None:
    """Destroy a context now; all its buffers must have been destroyed first."""
    raw = getattr(context, "_context", None)
    if raw is not None:
        context._context = None
        _iio()._destroy(raw)

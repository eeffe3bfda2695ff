"""A Pluto whose driver runs in a child process.

libiio can hang and crash; neither may reach the program that uses the radio. A call has a time
limit, after which the driver is killed. Whenever a driver ends, a new one is started at once. It
silences the radio first; the next call continues with it, tuned as before.
"""

from __future__ import annotations

import atexit
import logging
import threading
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from siftmoe.radio import errors
from siftmoe.radio.device import PowerReference
from siftmoe.radio.errors import DeviceNotFound, RadioError
from siftmoe.radio.pluto.address import Address
from siftmoe.radio.pluto.process import DriverEnded, DriverProcess, DriverStuck
from siftmoe.radio.pluto.values import PlutoInfo, check_settings, to_converter

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from siftmoe.radio.device import RadioSettings

    ComplexArray = NDArray[np.complex128]

    #: Serial number, settings, temperature -> what samples mean in watt.
    ReferenceOf = Callable[[str, RadioSettings, float | None], PowerReference]

logger = logging.getLogger(__name__)

#: Starting Python takes half a second, on a small board that boots a dozen times that.
START_LIMIT_S: Final = 20.0
#: Time limit of a call: the driver needs two timeouts at most (a block and the end of its buffer);
#: the slack is for a busy machine.
_LIMIT_TIMEOUTS: Final = 3.0
_LIMIT_SLACK_S: Final = 2.0
#: Time limit for silencing when the radio is closed.
_STOP_LIMIT_S: Final = 3.0


class PlutoRadio:
    """A Pluto behind the ``Radio`` protocol, open after construction.

    Several threads may call it; calls run one after the other.

    Parameters
    ----------
    uri : str
        ``ip:HOST[:PORT]`` or ``usb:BUS.DEVICE.INTERFACE``.
    timeout_s : float, s
        For one answer of the radio. Half of it is the longest block that can be received.
    reference_of : callable or None
        Full-scale powers of the unit with a serial number, at settings and a temperature; typical
        figures, +-3 dB, unless given.
    silent_exit : bool
        Wait at the end of the program until the radio is silent. It is silenced either way.

    Raises
    ------
    ValueError
        If the URI is not valid.
    DeviceNotFound
        If no Pluto answers.
    """

    def __init__(
        self,
        uri: str,
        *,
        timeout_s: float,
        reference_of: ReferenceOf | None = None,
        silent_exit: bool = True,
    ) -> None:
        self._uri = Address.parse(uri).uri
        self._timeout_s = timeout_s
        self._reference_of = reference_of
        self._reference = PowerReference()
        self._settings: RadioSettings | None = None
        self._temperature_c: float | None = None
        self._calls = threading.RLock()
        self._swap = threading.Lock()
        self._process: DriverProcess | None = None
        self._ended: list[DriverProcess] = []
        self._transmitting = False
        self._lost = ""
        self._closed = False
        self._info: PlutoInfo | None = None
        try:
            self._ready()
        except BaseException:
            self.close()
            raise
        if silent_exit:
            atexit.register(self.close)

    @property
    def name(self) -> str:
        """The URI."""
        return self._uri

    @property
    def serial(self) -> str:
        """Serial number; empty if the firmware has no such attribute."""
        return self.info.serial

    @property
    def info(self) -> PlutoInfo:
        """Identity and ranges of the radio, read when it was opened."""
        if self._info is None:
            raise DeviceNotFound(f"radio {self._uri!r} was never opened")
        return self._info

    @property
    def temperature_c(self) -> float | None:
        """Temperature of the transceiver when it was last tuned, degree Celsius."""
        return self._temperature_c

    @property
    def driver_pid(self) -> int | None:
        """Process number of the driver; None while there is none."""
        process = self._process
        return process.pid if process else None

    @property
    def reference(self) -> PowerReference:
        """Full-scale powers at the present settings, which convert its samples to watt."""
        return self._reference

    def tune(self, settings: RadioSettings, *, clamp_gain: bool = False) -> RadioSettings:
        """Set the radio; this ends a transmission."""
        check_settings(settings, name=self._uri)
        with self._calls:
            answer, _ = self._call("tune", settings=asdict(settings), clamp_gain=clamp_gain)
            settings = replace(settings, rx_gain_db=msgspec.convert(answer["rx_gain_db"], float))
            self._settings, self._transmitting = settings, False
            self._temperature_c = msgspec.convert(answer.get("temperature_c"), float | None)
            if self._reference_of is not None:
                self._reference = self._reference_of(
                    self.info.serial, settings, self._temperature_c
                )
            return settings

    def transmit(self, samples: ComplexArray) -> None:
        """Repeat samples until ``silence``; an earlier transmission is replaced."""
        to_converter(samples)
        payload = np.ascontiguousarray(samples, dtype="<c16").tobytes()
        with self._calls:
            self._call("transmit", payload)
            self._transmitting = True

    def silence(self) -> None:
        """Stop transmitting."""
        with self._calls:
            self._call("silence")
            self._transmitting = False

    def receive(self, count: int) -> ComplexArray:
        """Receive ``count`` consecutive samples that were not on the air before the call."""
        with self._calls:
            samples = np.frombuffer(self._call("receive", count=count)[1], dtype="<c16")
        if len(samples) != count:
            raise RadioError(f"radio {self._uri!r}: {len(samples)} of {count} samples arrived")
        return samples

    def close(self) -> None:
        """Silence and release the radio; a second time does nothing."""
        with self._calls:
            with self._swap:
                self._closed = True
                process, self._process = self._process, None
                self._discard_ended()
            if process is not None:
                process.stop(_STOP_LIMIT_S)
        atexit.unregister(self.close)

    def _call(
        self, op: str, payload: bytes = b"", **fields: Any
    ) -> tuple[dict[str, Any], bytearray]:
        process = self._ready()
        lost, self._lost = self._lost, ""
        if lost:
            raise RadioError(lost)
        limit_s = _LIMIT_TIMEOUTS * self._timeout_s + _LIMIT_SLACK_S
        return self._request(process, {"op": op, **fields}, payload, limit_s=limit_s)

    def _ready(self) -> DriverProcess:
        """Return a driver process that is connected and tuned; it has silenced the radio."""
        if self._closed:
            raise DeviceNotFound(f"radio {self._uri!r} was closed; open it again")
        with self._swap:
            self._discard_ended()
            process = self._process = self._process or self._start()
        if not process.opened:
            answer, _ = self._request(process, {"op": "open"}, limit_s=START_LIMIT_S)
            self._info = msgspec.convert(answer, PlutoInfo)
            if self._settings is not None:
                tune = {"op": "tune", "settings": asdict(self._settings)}
                self._request(process, tune, limit_s=START_LIMIT_S)
            process.opened = True
        return process

    def _request(
        self,
        process: DriverProcess,
        header: dict[str, Any],
        payload: bytes = b"",
        *,
        limit_s: float,
    ) -> tuple[dict[str, Any], bytearray]:
        doing = f"radio {self._uri!r}: {header['op']}"
        try:
            answer, samples = process.request(header, payload, limit_s=limit_s)
        except DriverStuck:
            self._replace(process)
            self._lost = ""
            raise RadioError(
                f"{doing}: no answer within {limit_s:g} s; its driver was ended, the next call "
                "starts with a silent radio"
            ) from None
        except DriverEnded as ended:
            self._replace(process)
            self._lost = ""
            raise RadioError(
                f"{doing}: its driver ended ({ended}); the next call starts with a silent radio"
            ) from None
        if "error" in answer:
            kind = _ERRORS.get(str(answer["error"]), RadioError)
            raise kind(str(answer.get("message")))
        return answer, samples

    def _discard_ended(self) -> None:
        """Close the pipes of ended drivers; not when they end, since a call may still read then."""
        while self._ended:
            self._ended.pop().discard()

    def _start(self) -> DriverProcess:
        serial = self._info.serial if self._info else ""
        return DriverProcess(
            self._uri, timeout_s=self._timeout_s, serial=serial, on_end=self._replace
        )

    def _replace(self, ended: DriverProcess) -> None:
        """Replace a driver that ended by a new one, which silences the radio at once."""
        with self._swap:
            if self._process is not ended or self._closed:
                return
            how = ended.exit_reason()
            logger.warning("radio %r: its driver ended (%s)", self._uri, how)
            if self._transmitting:
                self._transmitting = False
                self._lost = (
                    f"radio {self._uri!r}: its driver ended while it transmitted ({how}); a fresh "
                    "one silenced the radio: transmit again"
                )
            self._ended.append(ended)
            # A driver that never answered would fail again.
            self._process = self._start() if ended.opened else None


#: Error classes by their names in frames.
_ERRORS: Final[dict[str, type[Exception]]] = {
    **{
        name: kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, RadioError)
    },
    "ValueError": ValueError,
}

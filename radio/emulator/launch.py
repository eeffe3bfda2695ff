"""Runs emulated Plutos in a child process, for tests and tools.

.. code-block:: python

    with EmulatedPlutos(2) as plutos:
        radio = adi.Pluto(plutos.uris[0])
        plutos.set_gain("pluto-0", "pluto-1", -80.0)
"""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.radio.emulator.config import AirConfig, default_air
from siftmoe.radio.emulator.serve import Ready
from siftmoe.radio.errors import RadioError

if TYPE_CHECKING:
    from types import TracebackType

#: Importing numpy on a busy machine takes seconds.
_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 10.0
_ANSWER_TIMEOUT_S = 30.0


class EmulatedPlutos:
    """Starts emulated Plutos on entry and stops them on exit.

    Parameters
    ----------
    air : AirConfig or int
        Description of the air, or a number of devices with default links.
    port : int
        Of every device; 0 takes free ones, so that several emulators run side by side.
    """

    def __init__(self, air: AirConfig | int = 2, *, port: int = 0) -> None:
        self.config = default_air(air) if isinstance(air, int) else air
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None
        self._answers: Any = None
        self._lock = threading.Lock()
        self._ready = Ready(names=(), uris=(), serials=(), control_port=0)

    def __enter__(self) -> EmulatedPlutos:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the devices, in order."""
        return self._ready.names

    @property
    def uris(self) -> tuple[str, ...]:
        """Addresses for libiio, in order."""
        return self._ready.uris

    @property
    def serials(self) -> tuple[str, ...]:
        """Their serial numbers, in order."""
        return self._ready.serials

    def start(self) -> None:
        """Start the process and wait until every device answers.

        Raises
        ------
        RadioError
            If the process ends, or does not start in time.
        """
        self._process = subprocess.Popen(
            [sys.executable, "-m", "siftmoe.radio.emulator", str(self._port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            self._ready = self._handshake(self._process)
            self._control = socket.create_connection(
                ("127.0.0.1", self._ready.control_port), timeout=_ANSWER_TIMEOUT_S
            )
            self._answers = self._control.makefile("rb")
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Stop the process; a second time does nothing."""
        if self._control is not None:
            self._answers.close()
            self._control.close()
            self._control = None
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def request(self, do: str, **arguments: Any) -> Any:
        """Send a control request and return its result.

        Raises
        ------
        RadioError
            If the emulator refuses the request, or has ended.
        """
        with self._lock:
            if self._control is None:
                raise RadioError("emulated Plutos: not started")
            self._control.sendall(msgspec.json.encode({"do": do, **arguments}) + b"\n")
            line = self._answers.readline()
        if not line:
            raise RadioError("emulated Plutos: the emulator has ended")
        answer = msgspec.json.decode(line, type=dict[str, Any])
        if "error" in answer:
            raise RadioError(f"emulated Plutos: {do}: {answer['error']}")
        return answer["result"]

    def gain(self, transmitter: str, receiver: str) -> float:
        """Return the true power gain now, over the carriers of a sounding burst."""
        return float(self.request("gain", transmitter=transmitter, receiver=receiver))

    def cfo_hz(self, transmitter: str, receiver: str, carrier_hz: float) -> float:
        """Return the true carrier offset of two devices tuned to the same carrier."""
        arguments = {"transmitter": transmitter, "receiver": receiver, "carrier_hz": carrier_hz}
        return float(self.request("cfo", **arguments))

    def set_gain(
        self, transmitter: str, receiver: str, gain_db: float, *, both: bool = True
    ) -> None:
        """Change the mean gain of a link, in both directions unless ``both`` is false."""
        arguments = {"transmitter": transmitter, "receiver": receiver, "gain_db": gain_db}
        self.request("set_gain", both=both, **arguments)

    def set_link(self, **entry: Any) -> None:
        """Set or replace a link by the keys of a ``[[link]]``."""
        self.request("link", **entry)

    def state(self) -> dict[str, dict[str, Any]]:
        """Return URI, serial, presence and radiated power of every device, by name."""
        return {device["name"]: device for device in self.request("state")}

    def transmitting(self) -> list[str]:
        """Return the names of the devices that radiate now."""
        return [name for name, device in self.state().items() if device["transmitting"]]

    def drop(self, name: str) -> None:
        """Cut a device's connections."""
        self.request("drop", name=name)

    def freeze(self, name: str) -> None:
        """Freeze a device: it stops answering."""
        self.request("freeze", name=name)

    def thaw(self, name: str) -> None:
        """Thaw a frozen device: it answers again."""
        self.request("thaw", name=name)

    def unplug(self, name: str) -> None:
        """Unplug a device: its address refuses connections."""
        self.request("unplug", name=name)

    def plug(self, name: str) -> None:
        """Plug a device in again, at the same address, with the settings of power-up."""
        self.request("plug", name=name)

    def heat(self, name: str, temperature_c: float) -> None:
        """Set a device's temperature."""
        self.request("heat", name=name, temperature_c=temperature_c)

    def _handshake(self, process: subprocess.Popen[bytes]) -> Ready:
        if process.stdin is None or process.stdout is None:
            raise RadioError("emulated Plutos: the process has no pipes")
        process.stdin.write(msgspec.json.encode(self.config) + b"\n")
        process.stdin.flush()
        deadline = time.monotonic() + _START_TIMEOUT_S
        readable, _, _ = select.select([process.stdout], [], [], deadline - time.monotonic())
        line = process.stdout.readline() if readable else b""
        if not line:
            raise RadioError(
                "emulated Plutos did not start: see above what the process wrote, "
                f"or it took longer than {_START_TIMEOUT_S:.0f} s"
            )
        return msgspec.json.decode(line, type=Ready)

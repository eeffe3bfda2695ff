"""The driver process: drives one Pluto for its parent process.

    python -m siftmoe.radio.pluto.child --uri URI

Requests arrive on standard input and answers leave on standard output, as frames of `frames`. The
process silences the radio when it starts and when it ends: at the end of its input (the parent has
ended), on SIGTERM and on SIGINT, even while a call hangs in native code.
"""

from __future__ import annotations

import argparse
import faulthandler
import logging
import os
import select
import signal
import sys
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from siftmoe.radio.device import RadioSettings
from siftmoe.radio.errors import RadioError
from siftmoe.radio.pluto.driver import PlutoDriver
from siftmoe.radio.pluto.frames import Decoder, FrameError, Header, encode
from siftmoe.radio.pluto.library import DEFAULT_TIMEOUT_S, silence_device

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

#: Time for an orderly end: a few attributes of 1 ms each, on a busy machine.
_GRACE_S: Final = 0.25
#: Timeout for silencing while a call hangs; the radio itself may be frozen.
_LAST_TRY_S: Final = 0.5
_CHUNK: Final = 1 << 20

Reply = tuple[Header, bytes]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the input ends or a signal arrives; the radio is silent then."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--uri", required=True)
    parser.add_argument("--timeout-s", type=float, default=DEFAULT_TIMEOUT_S)
    parser.add_argument("--serial", default="", help="refuse a radio of another serial number")
    parser.add_argument("--parent-pid", type=int, help="end when this process ends")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    faulthandler.enable()
    reader, writer = _own_pipes()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit_on_signal)
    driver = PlutoDriver(args.uri, timeout_s=args.timeout_s, serial=args.serial)
    silent = _watch_for_end(args.uri, reader, parent_pid=args.parent_pid)
    try:
        Service(driver).run(reader, writer)
    finally:
        _close(driver)
        silent.set()
    return 0


class Service:
    """Answers requests with a driver."""

    def __init__(self, driver: PlutoDriver) -> None:
        self._driver = driver
        self._first: Reply | None = self._answer({"op": "open"}, b"")

    def run(self, reader: int, writer: int) -> None:
        """Answer frames until the input ends or a frame asks to close."""
        decoder = Decoder()
        while data := os.read(reader, _CHUNK):
            for header, payload in decoder.feed(data):
                try:
                    _write(writer, *self.reply(header, payload))
                except BrokenPipeError:
                    return
                if header.get("op") == "close":
                    return

    def reply(self, header: Header, payload: bytes | bytearray) -> Reply:
        """Answer one request; the first "open" was answered when the process started."""
        first, self._first = self._first, None
        if first is not None and header.get("op") == "open":
            return first
        return self._answer(header, payload)

    def _answer(self, header: Header, payload: bytes | bytearray) -> Reply:
        try:
            return self._do(header, payload)
        except (RadioError, ValueError) as error:
            kind = type(error) if isinstance(error, RadioError) else ValueError
            return {"error": kind.__name__, "message": str(error)}, b""
        except Exception as error:  # the process boundary
            logger.exception("%s failed", header.get("op"))
            text = f"radio {self._driver.name!r}: {header.get('op')}: {type(error).__name__}: "
            return {"error": "RadioError", "message": f"{text}{error}"}, b""

    def _do(self, header: Header, payload: bytes | bytearray) -> Reply:
        op, driver = header.get("op"), self._driver
        answer: Header = {}
        samples = b""
        if op == "open":
            answer = asdict(driver.open())
        elif op == "tune":
            wanted = msgspec.convert(header.get("settings"), RadioSettings)
            used = driver.tune(wanted, clamp_gain=header.get("clamp_gain") is True)
            answer = {"temperature_c": driver.temperature_c(), "rx_gain_db": used.rx_gain_db}
        elif op == "transmit":
            driver.transmit(np.frombuffer(payload, dtype="<c16"))
        elif op == "silence":
            driver.silence()
        elif op == "receive":
            received = driver.receive(msgspec.convert(header.get("count"), int))
            samples = received.astype("<c16").tobytes()
        elif op == "close":
            driver.close()
        else:
            raise ValueError(f"unknown request {op!r}")
        return answer, samples


def _own_pipes() -> tuple[int, int]:
    """Move the pipes to other descriptors, so that nothing printed reaches them."""
    reader, writer = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return reader, writer


def _write(writer: int, header: Header, payload: bytes) -> None:
    for part in encode(header, payload):
        rest = memoryview(part)
        while rest:
            rest = rest[os.write(writer, rest) :]


def _exit_on_signal(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)


def _watch_for_end(uri: str, reader: int, *, parent_pid: int | None) -> threading.Event:
    """Start a thread that ends the process even if the main thread hangs in native code.

    It leaves an orderly end alone: the returned event is set once the radio is silent.
    """
    woken, wake = os.pipe()
    os.set_blocking(wake, False)
    signal.set_wakeup_fd(wake)
    poll = select.poll()
    poll.register(reader, 0)  # reports a hang-up and nothing else
    poll.register(woken, select.POLLIN)
    if (parent := _process_descriptor(parent_pid)) is not None:
        # A child of the parent may have inherited our input's other end.
        poll.register(parent, select.POLLIN)
    silent = threading.Event()
    threading.Thread(target=_end, args=(uri, poll, silent), name="end", daemon=True).start()
    return silent


def _process_descriptor(pid: int | None) -> int | None:
    if pid is None:
        return None
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):  # not Linux, older than 5.3, or ended: the input ends then
        return None


def _end(uri: str, poll: select.poll, silent: threading.Event) -> None:
    poll.poll()
    if silent.wait(_GRACE_S):
        return
    try:
        silence_device(uri, timeout_s=_LAST_TRY_S)
    except RadioError as error:
        logger.warning("%s", error)
    finally:
        # The sockets close with the process, and a radio without its client stops sending.
        os._exit(1)


def _close(driver: PlutoDriver) -> None:
    try:
        driver.close()
    except RadioError as error:
        logger.warning("%s", error)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except FrameError as broken:
        sys.exit(f"radio driver: {broken}")

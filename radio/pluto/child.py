"""The process that drives one Pluto on behalf of another process.

    python -m siftmoe.radio.pluto.child --uri URI

Frames of `pluto_frames` come in on standard input and go out on standard output. The first act of
the process is to silence the radio, and the last one, too: at the end of its input (whoever started
it has ended), on SIGTERM and on SIGINT, even while a call hangs in native code.
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

#: What an orderly end may take: a few attributes of 1 ms each, on a busy machine.
_GRACE_S: Final = 0.25
#: For silencing beside a call that hangs; the radio may be what hangs.
_LAST_TRY_S: Final = 0.5
_CHUNK: Final = 1 << 20

Reply = tuple[Header, bytes]


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until the input ends or a signal comes; the radio is silent then."""
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
        signal.signal(number, _leave)
    driver = PlutoDriver(args.uri, timeout_s=args.timeout_s, serial=args.serial)
    silent = _watch_the_end(args.uri, reader, parent_pid=args.parent_pid)
    try:
        Service(driver).run(reader, writer)
    finally:
        _close(driver)
        silent.set()
    return 0


class Service:
    """Requests to a driver and its answers."""

    def __init__(self, driver: PlutoDriver) -> None:
        self._driver = driver
        self._first: Reply | None = self._answer({"op": "open"}, b"")

    def run(self, reader: int, writer: int) -> None:
        """Answer frames until the input ends or asks for it."""
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
            driver.tune(msgspec.convert(header.get("settings"), RadioSettings))
            answer = {"temperature_c": driver.temperature_c()}
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
    """Take the pipes away from whatever prints, native libraries included."""
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


def _leave(number: int, _frame: Any) -> None:
    raise SystemExit(128 + number)


def _watch_the_end(uri: str, reader: int, *, parent_pid: int | None) -> threading.Event:
    """Make the end come even if the main thread hangs in native code, unless the event is set."""
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
        # Its sockets close with it, and a radio whose client is gone stops sending.
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

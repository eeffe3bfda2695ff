"""One driver process of a Pluto as its parent sees it: requests with a time limit, and its end.

A hang in native code must not block the caller, so reading and writing both stop at a deadline. A
thread notices the end of the process when it happens, not at the next request.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from typing import TYPE_CHECKING, Final

from siftmoe.radio.pluto.frames import Decoder, Frame, FrameError, Header, encode

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

_CHUNK: Final = 1 << 20
#: Length of the end of standard error that is read: holds a traceback.
_STDERR_TAIL: Final = 4000
_CRASH: Final = "Fatal Python error"


class DriverEnded(Exception):
    """The process has ended."""


class DriverStuck(Exception):
    """The process did not answer in time."""


class DriverProcess:
    """A process that drives one Pluto; it silences the radio first.

    Parameters
    ----------
    uri : str
    timeout_s : float, s
        Of the driver, for one answer of the radio.
    serial : str
        Serial number that the radio must have; empty accepts any.
    on_end : callable
        Called with this object, by a separate thread, when the process has ended.
    """

    def __init__(
        self,
        uri: str,
        *,
        timeout_s: float,
        serial: str,
        on_end: Callable[[DriverProcess], None],
    ) -> None:
        command = [sys.executable, "-m", "siftmoe.radio.pluto.child", "--uri", uri]
        command += ["--timeout-s", str(timeout_s), "--parent-pid", str(os.getpid())]
        if serial:
            command += ["--serial", serial]
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the process
        # A new session: Ctrl-C at a terminal goes to the program that uses the radio only.
        self._popen = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            start_new_session=True,
            bufsize=0,
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )
        self._input, self._output = self._pipes()
        self._decoder = Decoder()
        self._on_end = on_end
        self._watch = threading.Thread(target=self._wait, name=f"radio {uri}", daemon=True)
        self._watch.start()
        #: Whether it has answered; until then it is not worth replacing.
        self.opened = False

    @property
    def pid(self) -> int:
        """Process number."""
        return self._popen.pid

    def request(
        self, header: Header, payload: bytes | memoryview = b"", *, limit_s: float
    ) -> Frame:
        """Send a request and wait for its answer; one at a time.

        Raises
        ------
        DriverStuck
            If the answer takes longer than ``limit_s``; the process was killed.
        DriverEnded
            If the process has ended, with the last line of its standard error.
        """
        deadline = time.monotonic() + limit_s
        try:
            for part in encode(header, payload):
                self._write(memoryview(part), deadline)
            return self._read(deadline)
        except (BrokenPipeError, FrameError):
            self.kill()
            raise DriverEnded(self.exit_reason()) from None
        except BaseException:  # a late answer would be read as that of the next request
            self.kill()
            raise

    def kill(self) -> None:
        """Kill the process and wait for its end."""
        self._popen.kill()
        self._popen.wait()

    def stop(self, limit_s: float) -> None:
        """Close its input, so that it silences the radio and ends; kill it after ``limit_s``."""
        self._popen.stdin.close()  # type: ignore[union-attr]  # a pipe was asked for
        try:
            self._popen.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.kill()
        self.discard()

    def discard(self) -> None:
        """Close the pipes of a process that has ended."""
        for pipe in (self._popen.stdin, self._popen.stdout, self._stderr):
            if pipe is not None:
                pipe.close()

    def exit_reason(self) -> str:
        """Exit status or signal, and the line of standard error that names the cause."""
        code = self._popen.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"status {code}"
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_TAIL))
        text = self._stderr.read().decode(errors="replace").strip()
        logger.debug("driver process %d wrote: %s", self.pid, text)
        lines = text.splitlines() or [""]
        why = next((line for line in lines if line.startswith(_CRASH)), lines[-1]).strip()
        return f"{how}: {why}" if why else how

    def _pipes(self) -> tuple[int, int]:
        if self._popen.stdin is None or self._popen.stdout is None:  # asked for above
            raise RuntimeError("the driver process has no pipes")
        pipes = self._popen.stdin.fileno(), self._popen.stdout.fileno()
        for pipe in pipes:
            os.set_blocking(pipe, False)
        return pipes

    def _wait(self) -> None:
        self._popen.wait()
        self._on_end(self)

    def _write(self, rest: memoryview, deadline: float) -> None:
        while rest:
            self._until(self._input, select.POLLOUT, deadline)
            rest = rest[os.write(self._input, rest) :]

    def _read(self, deadline: float) -> Frame:
        while True:
            self._until(self._output, select.POLLIN, deadline)
            data = os.read(self._output, _CHUNK)
            if not data:
                raise BrokenPipeError
            if frames := self._decoder.feed(data):
                return frames[0]

    def _until(self, pipe: int, events: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(pipe, events)
        if not poll.poll(max(0.0, 1000.0 * (deadline - time.monotonic()))):
            raise DriverStuck

"""Serves an emulation until a signal or the end of standard input."""

from __future__ import annotations

import signal
import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import msgspec

from siftmoe.radio.emulator.assembly import Emulation
from siftmoe.radio.emulator.control import ControlServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.radio.emulator.config import AirConfig


class Ready(msgspec.Struct, frozen=True, kw_only=True):
    """Addresses of a started emulator: devices in order of the configuration, control port."""

    names: tuple[str, ...]
    uris: tuple[str, ...]
    serials: tuple[str, ...]
    control_port: int


def serve(
    config: AirConfig,
    *,
    port: int,
    control_port: int = 0,
    announce: Callable[[Ready], None],
    until_eof: bool = False,
) -> None:
    """Serve until SIGINT or SIGTERM, or until standard input ends.

    Parameters
    ----------
    config : AirConfig
    port : int
        Of every device; 0 takes free ones.
    control_port : int
        0 takes a free one.
    announce : callable
        Called with the addresses once every device answers.
    until_eof : bool
        Stop at the end of standard input too, so that the emulator ends with its parent.
    """
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with closing(Emulation(config, port=port)) as emulation:
        control = ControlServer(emulation, port=control_port)
        with closing(control):
            servers = emulation.servers
            announce(
                Ready(
                    names=tuple(servers),
                    uris=tuple(server.uri for server in servers.values()),
                    serials=tuple(s.pluto.identity.serial for s in servers.values()),
                    control_port=control.port,
                )
            )
            if until_eof:
                threading.Thread(target=_wait_for_eof, args=(stop,), daemon=True).start()
            stop.wait()


def _wait_for_eof(stop: threading.Event) -> None:
    while sys.stdin.buffer.read(4096):
        pass
    stop.set()

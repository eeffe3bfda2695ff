"""Tell whoever supervises this process how it is: systemd, or a stand-in for it.

The protocol is sd_notify(3): datagrams to the socket that ``NOTIFY_SOCKET`` names. Without one
nothing is sent.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_US: Final = 1e-6
#: Signs of life in the time that the supervisor allows for one.
_PER_INTERVAL: Final = 3


class Supervisor:
    """Whoever started this process and waits for word of it.

    Parameters
    ----------
    environment : mapping
        ``NOTIFY_SOCKET`` and ``WATCHDOG_USEC`` as systemd sets them.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # A leading @ stands for the zero byte of an abstract address.
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        watched = environment.get("WATCHDOG_USEC", "")
        #: Seconds between signs of life, None if none is asked for.
        self.interval_s: float | None = None
        if self._address and watched.isdigit() and int(watched) > 0:
            self.interval_s = int(watched) * _US / _PER_INTERVAL

    def ready(self, status: str) -> None:
        """Say that the agent serves."""
        self._tell(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        """Give a sign of life."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the agent is about to end."""
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if not self._address:
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.connect(self._address)
            sender.send(text.encode())

"""Status messages to the supervisor of this process: systemd or the supervisor of `siftmoe flash`.

The protocol is sd_notify(3): datagrams to the socket that ``NOTIFY_SOCKET`` names. Without that
variable nothing is sent.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

_US: Final = 1e-6
#: Watchdog messages per interval that the supervisor allows.
_PER_INTERVAL: Final = 3


class Supervisor:
    """The supervisor that started this process.

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
        # Opened now: later no descriptor may be free.
        self._socket: socket.socket | None = None
        if self._address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        #: Seconds between watchdog messages; None if the supervisor asks for none.
        self.interval_s: float | None = None
        if self._address and watched.isdigit() and int(watched) > 0:
            self.interval_s = int(watched) * _US / _PER_INTERVAL

    def ready(self, status: str) -> None:
        """Report that the agent serves."""
        self._tell(f"READY=1\nSTATUS={status}")

    def alive(self) -> None:
        """Send a watchdog message."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """Report that the agent is about to end."""
        self._tell("STOPPING=1")

    def _tell(self, text: str) -> None:
        if self._socket is not None:
            self._socket.sendto(text.encode(), self._address)

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()

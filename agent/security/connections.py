"""TCP connections of ZeroMQ, observed by their descriptors, which this process does not own."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import termios
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Start of the kernel's ``struct tcp_info`` up to the bytes acknowledged and received (Linux 4.1).
_TCP_INFO: Final = struct.Struct("=120xQQ")
_COUNT: Final = struct.Struct("i")
#: Value of SO_LINGER: closing discards what waits and resets the peer.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Progress(NamedTuple):
    """Bytes that the peer has acknowledged, and bytes of the peer that ZeroMQ has read."""

    acknowledged: int
    read: int


@dataclass(frozen=True, slots=True)
class Connection:
    """A connection; the inode distinguishes it from a later one with the same descriptor."""

    descriptor: int
    inode: int
    address: str

    @classmethod
    def of(cls, descriptor: int) -> Connection | None:
        """Return the TCP connection of a descriptor; None if it is closed or another file."""
        try:
            connection = cls(descriptor, os.fstat(descriptor).st_ino, address_of(descriptor))
        except OSError:
            return None
        return connection if connection.address else None

    def progress(self) -> Progress:
        """Return how much has been transferred.

        Raises
        ------
        OSError
            If the connection is closed or the system does not tell.
        """
        with self._opened() as handle:
            info = handle.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
            waiting = fcntl.ioctl(self.descriptor, termios.FIONREAD, bytes(_COUNT.size))
        if len(info) < _TCP_INFO.size:
            raise OSError("the kernel does not count a connection's bytes")
        acknowledged, received = _TCP_INFO.unpack(info)
        return Progress(acknowledged, received - _COUNT.unpack(waiting)[0])

    def shut_down(self) -> None:
        """End it in both directions; ZeroMQ then closes the descriptor. Does nothing if closed.

        The peer is reset when ZeroMQ closes. A plain close would leave a sending peer waiting for
        Linux's 60 s (``FIN_WAIT2``) where its window was shut: after a shutdown of reading the
        kernel announces no window that reading has opened, and the peer's probes of a shut window
        carry no new byte, for which alone it is reset.
        """
        with contextlib.suppress(OSError), self._opened() as handle:
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            handle.shutdown(socket.SHUT_RDWR)

    @contextlib.contextmanager
    def _opened(self) -> Iterator[socket.socket]:
        with _borrowed(self.descriptor) as handle:
            if os.fstat(self.descriptor).st_ino != self.inode:
                raise OSError(f"descriptor {self.descriptor} was reused")
            yield handle


def address_of(descriptor: int) -> str:
    """Return the peer's IP address of a descriptor; "" if it is closed or not a TCP socket."""
    # The number may have been reused, for another connection or for a file.
    with contextlib.suppress(OSError), _borrowed(descriptor) as handle:
        peer = handle.getpeername()
        return str(peer[0]) if isinstance(peer, tuple) else ""
    return ""


@contextlib.contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket]:
    """Use a descriptor as a socket without owning it; takes no other descriptor."""
    handle = socket.socket(socket.AF_INET, socket.SOCK_STREAM, fileno=descriptor)
    try:
        yield handle
    finally:
        handle.detach()

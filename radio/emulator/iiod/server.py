"""TCP server of an emulated Pluto, with faults on demand: drop, freeze, unplug."""

from __future__ import annotations

import logging
import select
import socket
import threading
from typing import TYPE_CHECKING

from siftmoe.radio.emulator.iiod.session import Session

if TYPE_CHECKING:
    from siftmoe.radio.emulator.device.pluto import EmulatedPluto

logger = logging.getLogger(__name__)

IIOD_PORT = 30431
_CHUNK = 1 << 18
#: More than libiio opens; limits the threads that a faulty client can take.
MAX_CONNECTIONS = 32


class PlutoServer:
    """Serves one Pluto; every connection has its own thread.

    Parameters
    ----------
    pluto : EmulatedPluto
    host : str
    port : int
        0 takes a free one.

    Raises
    ------
    OSError
        If the address is taken.
    """

    def __init__(self, pluto: EmulatedPluto, *, host: str, port: int = IIOD_PORT) -> None:
        self.pluto = pluto
        self.host = host
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._running = threading.Event()
        self._running.set()
        self._listener: socket.socket | None = None
        self.port = port
        self.plug()

    @property
    def uri(self) -> str:
        """Address for libiio."""
        suffix = "" if self.port == IIOD_PORT else f":{self.port}"
        return f"ip:{self.host}{suffix}"

    @property
    def present(self) -> bool:
        """Whether it is plugged in."""
        return self._listener is not None

    @property
    def frozen(self) -> bool:
        """Whether it does not answer."""
        return not self._running.is_set()

    def plug(self) -> None:
        """Listen, as after plugging in; does nothing if it listens already."""
        if self._listener is not None:
            return
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((self.host, self.port))
            listener.listen(MAX_CONNECTIONS)
        except OSError as error:
            listener.close()
            raise OSError(
                error.errno, f"emulated Pluto at {self.host}:{self.port}: {error.strerror}"
            ) from error
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(
            target=self._accept, args=(listener,), name=f"pluto-{self.port}", daemon=True
        ).start()

    def unplug(self) -> None:
        """Close port and connections and reset the device, as if it were unplugged."""
        listener, self._listener = self._listener, None
        if listener is not None:
            # wakes accept, which close alone does not
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        self.drop()
        self.pluto.power_cycle()

    def drop(self) -> None:
        """Cut every connection; the device itself stays as it is."""
        with self._lock:
            for connection in self._connections:
                _shut(connection)

    def freeze(self) -> None:
        """Stop answering; a transmission continues."""
        self._running.clear()

    def thaw(self) -> None:
        """Answer again, late."""
        self._running.set()

    def close(self) -> None:
        """Stop serving."""
        self.thaw()
        if self._listener is not None:
            self.unplug()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, peer = listener.accept()
            except OSError:
                return
            with self._lock:
                full = len(self._connections) >= MAX_CONNECTIONS
                if not full:
                    self._connections.add(connection)
            if full:
                logger.warning("%s: connection of %s refused, too many", self.uri, peer)
                connection.close()
                continue
            threading.Thread(
                target=self._serve, args=(connection,), name=f"pluto-{peer[1]}", daemon=True
            ).start()

    def _serve(self, connection: socket.socket) -> None:
        session = Session(self.pluto, alive=lambda: _connected(connection))
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while not session.finished and (data := connection.recv(_CHUNK)):
                self._running.wait()
                for reply in session.receive(data):
                    self._running.wait()
                    connection.sendall(reply)
        except OSError as error:
            logger.debug("%s: connection ended: %s", self.uri, error)
        except Exception:
            # an error in one session must not end the others
            logger.exception("%s: session failed", self.uri)
        finally:
            session.close()
            with self._lock:
                self._connections.discard(connection)
            connection.close()


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        logger.debug("connection was gone already: %s", error)


def _connected(connection: socket.socket) -> bool:
    poll = select.poll()
    try:
        poll.register(connection, select.POLLRDHUP)
    except (OSError, ValueError):
        return False
    return not poll.poll(0)

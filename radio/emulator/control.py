"""Changes an emulated air while it runs: one JSON object per line, over a local socket.

A request names the action in ``do`` and its arguments; the answer has ``result`` or ``error``.

=============  =========================  ================================================
do             arguments                  effect, result
=============  =========================  ================================================
state          –                          all devices: URI, serial, present, frozen, dBm
link           the keys of a ``[[link]]``   sets or replaces a link
set_gain       transmitter, receiver,     another mean gain for a link as it is
               gain_db, both
gain           transmitter, receiver      true gain now, linear
cfo            transmitter, receiver,     true carrier offset, Hz
               carrier_hz
drop           name                       cuts its connections
freeze, thaw   name                       stops answering; answers again
unplug, plug   name                       gone, with port and settings; back
heat           name, temperature_c        another temperature
=============  =========================  ================================================
"""

from __future__ import annotations

import socketserver
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from siftmoe.radio.emulator.config import LinkEntry
from siftmoe.radio.errors import RadioError

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.radio.emulator.assembly import Emulation

#: A request is a few numbers and names.
MAX_REQUEST = 1 << 16
#: Interval at which the server checks whether it was closed.
_POLL_S = 0.05


class Controls:
    """The actions on an emulation, by name."""

    def __init__(self, emulation: Emulation) -> None:
        self._emulation = emulation
        self._actions: dict[str, Callable[..., Any]] = {
            "state": self._state,
            "link": self._link,
            "set_gain": self._set_gain,
            "gain": emulation.gain,
            "cfo": emulation.medium.air.cfo_hz,
            "drop": lambda name: emulation.server(name).drop(),
            "freeze": lambda name: emulation.server(name).freeze(),
            "thaw": lambda name: emulation.server(name).thaw(),
            "unplug": lambda name: emulation.server(name).unplug(),
            "plug": lambda name: emulation.server(name).plug(),
            "heat": self._heat,
        }

    def answer(self, line: bytes) -> bytes:
        """Carry out one request line and return the answer line."""
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
            action = self._actions[request.pop("do", "")]
            reply = {"result": action(**request)}
        except KeyError as error:
            reply = {"error": f"unknown action {error}; there are: {', '.join(self._actions)}"}
        except (TypeError, ValueError, OSError, RadioError, msgspec.MsgspecError) as error:
            reply = {"error": str(error)}
        return msgspec.json.encode(reply) + b"\n"

    def _state(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "uri": server.uri,
                "serial": server.pluto.identity.serial,
                "present": server.present,
                "frozen": server.frozen,
                "transmitting": name in self._emulation.medium.transmitting(),
                "radiated_dbm": server.pluto.radiated_dbm(),
            }
            for name, server in self._emulation.servers.items()
        ]

    def _link(self, **entry: Any) -> None:
        self._emulation.set_link(msgspec.convert(entry, LinkEntry))

    def _set_gain(
        self, transmitter: str, receiver: str, gain_db: float, *, both: bool = True
    ) -> None:
        directions = [(transmitter, receiver), (receiver, transmitter)][: 2 if both else 1]
        for source, sink in directions:
            known = msgspec.structs.asdict(self._emulation.link(source, sink))
            known |= {"gain_db": gain_db, "distance_m": None}
            if not both:
                known |= {"between": None, "transmitter": source, "receiver": sink}
            self._link(**known)

    def _heat(self, name: str, temperature_c: float) -> None:
        pluto = self._emulation.server(name).pluto
        pluto.identity = replace(pluto.identity, temperature_c=float(temperature_c))


class ControlServer:
    """Answers requests on 127.0.0.1 until closed.

    Parameters
    ----------
    emulation : Emulation
    port : int
        0 takes a free one.
    """

    def __init__(self, emulation: Emulation, *, port: int = 0) -> None:
        controls = Controls(emulation)

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                while line := self.rfile.readline(MAX_REQUEST):
                    self.wfile.write(controls.answer(line))

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        threading.Thread(
            target=self._server.serve_forever, args=(_POLL_S,), name="control", daemon=True
        ).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()

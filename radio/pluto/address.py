"""Addresses of Plutos, and a check that an IIO daemon answers there.

libiio waits 5 s for a host that accepts a connection and sends nothing, and reports every failure
alike. A ``VERSION`` request over a separate connection distinguishes refused from frozen, sooner.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass

from siftmoe.radio.errors import DeviceNotFound

IIOD_PORT = 30431
#: Address of a Pluto unless its config.txt sets another.
DEFAULT_URI = "ip:192.168.2.1"
_HIGHEST_PORT = 65535
_MAX_REPLY = 256


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed URI of libiio; host and port are set for a network address only."""

    uri: str
    host: str = ""
    port: int = 0

    @classmethod
    def parse(cls, uri: str) -> Address:
        """Parse ``ip:HOST[:PORT]`` or ``usb:[BUS.DEVICE.INTERFACE]``.

        Raises
        ------
        ValueError
            If it is neither.
        """
        kind, separator, rest = uri.partition(":")
        if kind == "usb" and separator:
            return cls(uri)
        host, _, port = rest.partition(":")
        number = int(port) if port.isascii() and port.isdigit() else 0 if port else IIOD_PORT
        if kind != "ip" or not host or not uri.isascii() or not 0 < number <= _HIGHEST_PORT:
            raise ValueError(
                f"radio address {uri!r}: expected ip:HOST, ip:HOST:PORT or usb:BUS.DEVICE.INTERFACE"
            )
        return cls(uri, host, number)

    @property
    def is_network(self) -> bool:
        """Whether it is a network address (a Pluto on USB may have one, too)."""
        return bool(self.host)


def require_answer(address: Address, *, timeout_s: float) -> None:
    """Ask the IIO daemon at a network address for its version; others are not asked.

    Raises
    ------
    DeviceNotFound
        If the address refuses, is unreachable, is silent for ``timeout_s``, or is no IIO daemon.
    """
    if not address.is_network:
        return
    try:
        reply = _version(address, timeout_s=timeout_s)
    except socket.gaierror as error:
        raise DeviceNotFound(
            f"radio {address.uri!r}: host name is unknown ({error.strerror}); give its IP address"
        ) from None
    except TimeoutError:
        raise DeviceNotFound(
            f"radio {address.uri!r}: no answer within {timeout_s:g} s; the host is away or its IIO "
            "daemon hangs: check cable and address, or power-cycle the radio"
        ) from None
    except OSError as error:
        raise DeviceNotFound(
            f"radio {address.uri!r}: {error.strerror or error}; check that the radio runs and that "
            "address and port are its own"
        ) from None
    if not re.match(rb"\d+\.\d+\.", reply):
        raise DeviceNotFound(
            f"radio {address.uri!r}: something listens there but is no IIO daemon: {reply[:40]!r}"
        )


def _version(address: Address, *, timeout_s: float) -> bytes:
    with socket.create_connection((address.host, address.port), timeout=timeout_s) as connection:
        connection.settimeout(timeout_s)
        connection.sendall(b"VERSION\r\n")
        reply = b""
        while not reply.endswith(b"\n") and len(reply) < _MAX_REPLY:
            more = connection.recv(_MAX_REPLY - len(reply))
            if not more:
                raise ConnectionResetError("the connection was closed without an answer")
            reply += more
        return reply

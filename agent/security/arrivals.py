"""Detects connections that ended before their authentication (ZAP) request. Uses no socket.

ZeroMQ reports the begin and the end of every connection, and makes a ZAP request for a peer that
has proved to know this agent's public key. The request names no connection, only an address. So the
connections of an address are counted: those that ended unauthenticated are those that began, less
those with a ZAP request and those whose handshake is still going on.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

#: Longest duration of a handshake: ZeroMQ's limit of 30 s, and a second for its event to arrive.
HANDSHAKE_S: Final = 31.0


@dataclass(slots=True)
class _Address:
    open: dict[int, float] = field(default_factory=dict)  # descriptor -> time
    unasked: int = 0  # connections without a ZAP request so far


class Arrivals:
    """Counts connections by address.

    Parameters
    ----------
    handshake_s : float, s
        Longest duration of a handshake; an older connection has passed it.
    """

    def __init__(self, *, handshake_s: float = HANDSHAKE_S) -> None:
        self._handshake_s = handshake_s
        self._addresses: dict[str, _Address] = {}
        self._whose: dict[int, str] = {}  # descriptor -> address

    def __len__(self) -> int:
        """Return the number of addresses with a connection."""
        return len(self._addresses)

    def begin(self, descriptor: int, address: str, *, now_s: float) -> None:
        """Record the begin of a connection."""
        entry = self._addresses.setdefault(address, _Address())
        entry.open[descriptor] = now_s
        entry.unasked += 1
        self._whose[descriptor] = address

    def asked(self, address: str) -> None:
        """Record a ZAP request for an address."""
        entry = self._addresses.get(address)
        if entry is not None and entry.unasked:
            entry.unasked -= 1

    def end(self, descriptor: int, *, now_s: float) -> str:
        """Record the end of a connection.

        Returns
        -------
        str
            Its address if a connection from there ended in the handshake, else "". While another
            connection of the address is in its handshake, this is reported with a later end.
        """
        address = self._whose.pop(descriptor, "")
        entry = self._addresses.get(address)
        if entry is None:
            return ""
        del entry.open[descriptor]
        handshaking = sum(now_s - began_s < self._handshake_s for began_s in entry.open.values())
        failed = entry.unasked - handshaking
        entry.unasked = min(entry.unasked, handshaking)
        if not entry.open:
            del self._addresses[address]
        return address if failed > 0 else ""

"""Which connections ended before anybody was asked to admit their peer. Knows no socket.

ZeroMQ tells which connection begins and which ends, and asks about a peer once it has shown that it
knows this agent's key; it does not say whom of the connections that question is about. From one
address, though, as many ended without a question as began, less those that were asked about and
those that are still in their greeting.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

#: How long a greeting may take: ZeroMQ's own limit, and a second for the news to get here.
GREETING_S: Final = 31.0


@dataclass(slots=True)
class _Address:
    open: dict[int, float] = field(default_factory=dict)  # descriptor -> time
    unasked: int = 0  # connections that nobody was asked about


class Arrivals:
    """Connections by address.

    Parameters
    ----------
    greeting_s : float, s
        How long a greeting may take; a connection that is older was asked about.
    """

    def __init__(self, *, greeting_s: float = GREETING_S) -> None:
        self._greeting_s = greeting_s
        self._addresses: dict[str, _Address] = {}
        self._whose: dict[int, str] = {}  # descriptor -> address

    def __len__(self) -> int:
        """Addresses that are remembered: those with a connection."""
        return len(self._addresses)

    def begin(self, descriptor: int, address: str, *, now_s: float) -> None:
        """Take note of a connection."""
        entry = self._addresses.setdefault(address, _Address())
        entry.open[descriptor] = now_s
        entry.unasked += 1
        self._whose[descriptor] = address

    def asked(self, address: str) -> None:
        """Take note that somebody at an address got as far as to be asked about."""
        entry = self._addresses.get(address)
        if entry is not None and entry.unasked:
            entry.unasked -= 1

    def end(self, descriptor: int, *, now_s: float) -> str:
        """Take note of the end of a connection.

        Returns
        -------
        str
            Its address, if somebody there was turned away in the greeting, else "". It may be told
            late: with the end of a later connection, where another one is in its greeting.
        """
        address = self._whose.pop(descriptor, "")
        entry = self._addresses.get(address)
        if entry is None:
            return ""
        del entry.open[descriptor]
        greeting = sum(now_s - began_s < self._greeting_s for began_s in entry.open.values())
        turned_away = entry.unasked - greeting
        entry.unasked = min(entry.unasked, greeting)
        if not entry.open:
            del self._addresses[address]
        return address if turned_away > 0 else ""

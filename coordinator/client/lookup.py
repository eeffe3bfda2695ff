"""Looks up the host names of agents, again until each has an address.

A board that is off often has no address either (mDNS, DHCP names). It must not keep the other
agents from being used, so a name without an address is looked up again in a thread of its own.
"""

from __future__ import annotations

import threading
import time
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final

from siftmoe.coordinator.client.sockets import resolve
from siftmoe.coordinator.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Pause between two lookups of a name.
AGAIN_S: Final = 2.0
#: The first lookups. One that takes longer is continued in the background; mDNS gives up after 5 s.
FIRST_S: Final = 1.0
#: A client that waits looks for new answers after this time at the latest.
LOOK_S: Final = 0.25


class Lookups:
    """Lookups of agents' addresses, by index.

    Parameters
    ----------
    addresses : mapping of int to str
        As in the testbed.
    """

    def __init__(self, addresses: Mapping[int, str]) -> None:
        self._found: SimpleQueue[tuple[int, str]] = SimpleQueue()
        self._ended = threading.Event()
        self._why = dict.fromkeys(addresses, "the name is still being looked up")
        self._threads = [
            threading.Thread(target=self._look_up, args=item, daemon=True)
            for item in addresses.items()
        ]
        for thread in self._threads:
            thread.start()

    def first(self) -> dict[int, str]:
        """Wait shortly for the first answers; returns the endpoints found, by ascending index."""
        end_s = time.monotonic() + FIRST_S
        for thread in self._threads:
            thread.join(max(0.0, end_s - time.monotonic()))
        return dict(sorted(self.take().items()))

    def take(self) -> dict[int, str]:
        """Return the endpoints found since the last call; does not wait."""
        found: dict[int, str] = {}
        while True:
            try:
                index, endpoint = self._found.get_nowait()
            except Empty:
                return found
            found[index] = endpoint
            del self._why[index]

    def pending(self) -> dict[int, str]:
        """Return why each remaining agent has no endpoint."""
        return dict(self._why)

    def close(self) -> None:
        """End the lookups; one in progress ends by itself."""
        self._ended.set()

    def _look_up(self, index: int, address: str) -> None:
        while not self._ended.is_set():
            try:
                endpoint = resolve(address)
            except ConfigError as error:
                self._why[index] = str(error)
                self._ended.wait(AGAIN_S)
            else:
                self._found.put((index, endpoint))
                return

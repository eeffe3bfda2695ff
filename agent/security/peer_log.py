"""What is wrong with peers, logged once for each: whoever repeats it must not fill a disk."""

from __future__ import annotations

import logging
from typing import Final

#: Peers that are remembered. Whoever takes a new identity for each attempt is only counted.
MAX_PEERS: Final = 256


class PeerLog:
    """Logs a peer's first offence of a kind.

    Parameters
    ----------
    logger : logging.Logger
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._known: set[tuple[str, str]] = set()

    def warn_once(self, kind: str, *, peer: str, reason: str) -> bool:
        """Log it unless this peer was logged for this kind before; True if it was logged now."""
        if (kind, peer) in self._known or len(self._known) >= MAX_PEERS:
            return False
        self._known.add((kind, peer))
        self._logger.warning("peer %s refused: %s; further ones are only counted", peer, reason)
        if len(self._known) == MAX_PEERS:
            self._logger.warning("%d peers were refused; others are only counted", MAX_PEERS)
        return True

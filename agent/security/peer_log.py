"""Warnings about peers, logged once per peer, so that a repeated offence cannot fill a disk."""

from __future__ import annotations

import logging
from typing import Final

#: Most warnings that are logged; peers that change their identity for each attempt are only counted
#: afterwards.
MAX_PEERS: Final = 256


class PeerLog:
    """Logs the first offence of each kind by each peer.

    Parameters
    ----------
    logger : logging.Logger
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._known: set[tuple[str, str]] = set()

    def warn_once(self, kind: str, *, peer: str, reason: str) -> bool:
        """Log a warning unless this peer was logged for this kind; True if it was logged now."""
        if (kind, peer) in self._known or len(self._known) >= MAX_PEERS:
            return False
        self._known.add((kind, peer))
        self._logger.warning("peer %s refused: %s; further ones are only counted", peer, reason)
        if len(self._known) == MAX_PEERS:
            self._logger.warning("%d peers were refused; others are only counted", MAX_PEERS)
        return True

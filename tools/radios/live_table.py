"""The live table of ``siftmoe radio sound --watch``."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Group
from rich.live import Live
from rich.text import Text

from siftmoe.tools.terminal.console import stdout_console
from siftmoe.tools.terminal.tables import table

if TYPE_CHECKING:
    from collections.abc import Generator


#: Number of exchanges for the spread.
WINDOW = 30

_HEADER = ("direction", "gain dB", "±", "spread", "SNR dB", "CFO Hz", "noise dBm", "found")


class Watched:
    """Exchanges of each direction so far."""

    def __init__(self) -> None:
        self._directions: dict[tuple[str, str], deque[dict[str, Any]]] = {}
        self._counts: dict[tuple[str, str], list[int]] = {}

    def add(self, exchange: dict[str, Any]) -> None:
        """Add one exchange."""
        way = (exchange["tx"], exchange["rx"])
        self._directions.setdefault(way, deque(maxlen=WINDOW)).append(exchange)
        count = self._counts.setdefault(way, [0, 0])
        count[0] += exchange["detected"]
        count[1] += 1

    def rows(self) -> list[list[str]]:
        """One row of text per direction."""
        return [self._row(way) for way in self._directions]

    def view(self) -> Group:
        """Lay out the rows, and below them the reason of each direction's last failure."""
        lasts = [seen[-1] for seen in self._directions.values()]
        reasons = [Text(last["reason"]) for last in lasts if not last["detected"]]
        return Group(table(_HEADER, self.rows()), *reasons)

    def _row(self, way: tuple[str, str]) -> list[str]:
        seen = self._directions[way]
        last = seen[-1]
        gains = [exchange["path_gain_db"] for exchange in seen if exchange["detected"]]
        found, tried = self._counts[way]
        return [
            " > ".join(uri.removeprefix("ip:") for uri in way),
            _figure(last["path_gain_db"], 2),
            _figure(last["path_gain_std_db"], 2),
            _figure(float(np.std(gains)) if len(gains) > 1 else None, 2),
            _figure(last["snr_db"], 1),
            _figure(last["cfo_hz"], 0),
            _figure(last["noise_dbm"], 1),
            f"{found}/{tried}",
        ]


def _figure(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def watch(rounds: Generator[list[dict[str, Any]], None, None]) -> int:
    """Show rounds until they end or Ctrl-C; returns 1 if no burst was found, else 0."""
    watched, found = Watched(), False
    with Live(console=stdout_console(), auto_refresh=False) as live:
        try:
            for exchanges in rounds:
                for exchange in exchanges:
                    watched.add(exchange)
                    found = found or exchange["detected"]
                live.update(watched.view(), refresh=True)
        except KeyboardInterrupt:
            pass
        finally:
            rounds.close()  # the transmitters are silent before the command returns
    if not live.console.is_terminal:
        live.console.print()  # on a terminal the cursor is on the next line already
    return int(not found)

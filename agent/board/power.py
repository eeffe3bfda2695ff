r"""Energy of the agent's board: power sampled by a thread, integrated with the trapezoidal rule.

.. math:: E = \sum_i \tfrac12 (P_i + P_{i+1})\,(t_{i+1} - t_i)

The power between two samples is unknown. In the worst case the load changes so fast that samples
are independent of each other; then :math:`u^2 = \sum_i (\Delta P_i\,\Delta t_i)^2 / 2` (own
derivation, docs/explanation/power.md), which overestimates the uncertainty of slower loads. The
sensor's errors of gain and offset are the same for all samples; they are reported separately, since
the offset cancels when the idle power is subtracted.

The idle power is measured before the agent serves, with all experts loaded.
"""

from __future__ import annotations

import logging
import math
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from siftmoe.agent.board.rails import GAIN_STD

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.agent.board.rails import Board

logger = logging.getLogger(__name__)

#: Sampling period: an INA3221 that averages has a new value every few ms to tens of ms, and a
#: sample of all rails takes about a millisecond on the I2C bus.
PERIOD_S: Final = 0.05
#: Age of the last sample from which no power or energy is reported.
SILENT_S: Final = 2.0
#: Parts of the idle measurement: the spread of their means gives its uncertainty.
_IDLE_PARTS: Final = 10
#: Prefix of the total's name in a stats reply; the names of the added rails follow.
TOTAL: Final = "total = "


@dataclass(slots=True)
class Integral:
    """Energy of a sampled power."""

    energy_j: float = 0.0
    variance_j2: float = 0.0
    time_s: float = 0.0
    samples: int = 0
    longest_gap_s: float = 0.0
    last_s: float = -math.inf
    _last_w: float = 0.0

    def add(self, time_s: float, power_w: float) -> None:
        """Add a sample; times must increase.

        Raises
        ------
        ValueError
            If the time does not increase or the power is not finite.
        """
        gap_s = time_s - self.last_s
        if not (gap_s > 0.0 and math.isfinite(power_w)):
            raise ValueError(f"power sample: {power_w} W at {time_s} s, {gap_s} s after the last")
        if self.samples:
            self.energy_j += 0.5 * (self._last_w + power_w) * gap_s
            self.variance_j2 += ((power_w - self._last_w) * gap_s) ** 2 / 2.0
            self.time_s += gap_s
            self.longest_gap_s = max(self.longest_gap_s, gap_s)
        self.samples += 1
        self.last_s, self._last_w = time_s, power_w


class Idle(NamedTuple):
    """Power of the board before it serves, and the standard uncertainty of its mean, W."""

    power_w: float
    std_w: float


def idle_power(samples_w: Sequence[float]) -> Idle:
    """Return the mean of samples; its uncertainty comes from the means of ten consecutive parts.

    Neighbouring samples are correlated, so their own spread would give too small an uncertainty.

    Raises
    ------
    ValueError
        If there are fewer than two samples per part.
    """
    size = len(samples_w) // _IDLE_PARTS
    if size < 2:
        raise ValueError(f"idle power: {2 * _IDLE_PARTS} samples needed, got {len(samples_w)}")
    parts = [math.fsum(samples_w[i * size : (i + 1) * size]) / size for i in range(_IDLE_PARTS)]
    mean = math.fsum(parts) / _IDLE_PARTS
    spread = math.fsum((part - mean) ** 2 for part in parts) / (_IDLE_PARTS - 1)
    return Idle(mean, math.sqrt(spread / _IDLE_PARTS))


class BoardPower:
    """Samples a board's rails until closed.

    Parameters
    ----------
    board : Board
    clock : callable
        Returns monotonic seconds.
    period_s : float, s
        Time between samples.
    """

    def __init__(
        self, board: Board, *, clock: Callable[[], float], period_s: float = PERIOD_S
    ) -> None:
        self._board = board
        self._clock = clock
        self._period_s = period_s
        self._integral = Integral()
        self._powers_w: dict[str, float] = {}
        self._idle: Idle | None = None
        self._offset_std_w = 0.0
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="board-power", daemon=True)

    def measure_idle(self, duration_s: float) -> Idle | None:
        """Measure the power of the idle board; call it before `start`.

        Returns
        -------
        Idle or None
            None if the sensors do not answer; then no power is reported.
        """
        count = max(2 * _IDLE_PARTS, round(duration_s / self._period_s))
        samples: list[float] = []
        try:
            self._offset_std_w = self._board.offset_std_w()
            for _ in range(count):
                samples.append(self._board.total_w(self._board.powers_w()))
                self._ended.wait(duration_s / count)
        except OSError as error:
            logger.warning("the board's power cannot be read: %s", error)
            return None
        self._idle = idle_power(samples)
        return self._idle

    def start(self) -> None:
        """Start sampling."""
        self._thread.start()

    def close(self) -> None:
        """Stop sampling."""
        self._ended.set()
        if self._thread.ident is not None:
            self._thread.join()

    def summary(self) -> dict[str, str | float]:
        """Return the measured rails and the idle power; empty before `measure_idle`."""
        if self._idle is None:
            return {}
        return {
            "rails": self._board.total_name,
            "idle_power_w": self._idle.power_w,
            "idle_power_std_w": self._idle.std_w,
        }

    def figures(self) -> dict[str, float]:
        """Return the counters of a stats reply; empty while the sensors do not answer."""
        with self._lock:
            got = self._integral
            if self._clock() - got.last_s > SILENT_S or self._idle is None:
                return {}
            return {
                "board_energy_j": got.energy_j,
                "board_sampling_var_j2": got.variance_j2,
                "board_time_s": got.time_s,
                "board_samples": float(got.samples),
                "board_longest_gap_s": got.longest_gap_s,
                "board_gain_std": GAIN_STD,
                "board_offset_std_w": self._offset_std_w,
                "idle_power_w": self._idle.power_w,
                "idle_power_std_w": self._idle.std_w,
            }

    def powers_w(self) -> dict[str, float]:
        """Return the last reading by rail and its total, W; empty while sensors do not answer."""
        with self._lock:
            if self._clock() - self._integral.last_s > SILENT_S:
                return {}
            total = self._board.total_w(self._powers_w)
            return {**self._powers_w, TOTAL + self._board.total_name: total}

    def _sample(self) -> None:
        failed = False
        due_s = self._clock()
        while not self._ended.wait(max(0.0, due_s - self._clock())):
            began_s = self._clock()
            # Missed samples are not made up for: the gap is recorded, and a quick succession of
            # samples would add no information.
            due_s = max(due_s + self._period_s, began_s)
            try:
                powers_w = self._board.powers_w()
            except OSError as error:
                if not failed:
                    logger.warning("the board's power cannot be read any more: %s", error)
                failed = True
                continue
            failed = False
            middle_s = 0.5 * (began_s + self._clock())
            with self._lock:
                self._powers_w = powers_w
                self._integral.add(middle_s, self._board.total_w(powers_w))

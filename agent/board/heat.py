"""Temperatures and throttling of the board, from sysfs; figures that cannot be read are left out.

================  ==========================================  ==================================
figure            from                                        meaning
================  ==========================================  ==================================
temperature       ``class/thermal/thermal_zone*/temp``        °C by the zone's type
limit             ``…/trip_point_*_temp`` of the types        lowest temperature at which the
                  passive, hot and critical                   board slows down or turns off, °C
throttling        ``class/thermal/cooling_device*/cur_state`` share of a cooling device's range
                  over ``max_state``                          that is in use now: 0 is none
throttle events   ``devices/system/cpu/cpu*/thermal_throttle``  the largest count of all cores and
                  (x86)                                       packages, since the machine started
over-current      ``class/hwmon/hwmon*/oc*_event_cnt``        how often a Jetson throttled because
events            (Jetson)                                    of its supply, since it started
================  ==========================================  ==================================

Some cooling devices are fans, which slow nothing down, or limits set by a user: only kinds that
are known to throttle are read.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

logger = logging.getLogger(__name__)

_MILLI: Final = 1e-3
#: Shortest time between readings: a board warms within seconds, and on a Jetson each zone is read
#: from another processor.
REFRESH_S: Final = 1.0
#: Age from which a reading is not used any more; the caller then waits for a new one.
OLDEST_S: Final = 5.0
_LIMITS: Final = ("passive", "hot", "critical")
#: Types of cooling devices that slow the board down: the kernel's frequency limits under their
#: old and new names, Jetson's alerts ("cpu-throttle-alert"), those of ACPI and of Intel.
_THROTTLES: Final = ("thermal-cpufreq", "cpufreq-", "thermal-devfreq", "devfreq-", "Processor")
_THROTTLES_INSIDE: Final = ("throttle", "powerclamp")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """One reading; every part may be empty.

    Parameters
    ----------
    temperature_c, limit_c : dict, °C
        By thermal zone.
    throttling : dict
        0 to 1 by type of cooling device.
    counters : dict
        ``throttle_events`` and ``overcurrent_events``, where they are counted.
    """

    temperature_c: dict[str, float] = field(default_factory=dict)
    limit_c: dict[str, float] = field(default_factory=dict)
    throttling: dict[str, float] = field(default_factory=dict)
    counters: dict[str, float] = field(default_factory=dict)


class Thermometer:
    """Reads temperatures and throttling on demand, at most once a second.

    Reading ten zones takes some 10 ms, which would delay requests. So a call within ``OLDEST_S``
    of the last reading returns that one, and a thread takes the next one in the background.

    Parameters
    ----------
    root : Path
        Folder of sysfs.
    clock : callable
        Returns monotonic seconds.
    """

    def __init__(self, root: Path, *, clock: Callable[[], float]) -> None:
        self._root = root
        self._clock = clock
        self._lock = threading.Lock()  # around what follows
        self._read_s: float | None = None
        self._last = Heat()
        self._reader: threading.Thread | None = None

    def read(self) -> Heat:
        """Return the last reading, which is at most ``OLDEST_S`` old."""
        now_s = self._clock()
        with self._lock:
            age_s = None if self._read_s is None else now_s - self._read_s
            if age_s is not None and age_s < OLDEST_S:
                if age_s >= REFRESH_S and self._reader is None:
                    self._reader = threading.Thread(target=self._read, name="heat", daemon=True)
                    self._reader.start()
                return self._last
        return self._read()

    def _read(self) -> Heat:
        began_s, heat = self._clock(), read_heat(self._root)
        with self._lock:
            self._last, self._read_s, self._reader = heat, began_s, None
        return heat


def read_heat(root: Path) -> Heat:
    """Read all figures once; empty if no descriptor is free.

    A zone of a powered-down unit returns an error, and a virtual machine has no zones: figures that
    cannot be read are left out.
    """
    try:
        return _read_all(root)
    except OSError as error:
        logger.debug("temperatures cannot be read: %s", error)
        return Heat()


def _read_all(root: Path) -> Heat:
    temperature_c: dict[str, float] = {}
    limit_c: dict[str, float] = {}
    for zone in sorted(root.glob("class/thermal/thermal_zone*")):
        name, value = _text(zone / "type"), _number(zone / "temp")
        if not name or value is None:
            continue
        # Zones of one type have nothing else to tell them apart: the warmest counts.
        temperature_c[name] = max(value * _MILLI, temperature_c.get(name, value * _MILLI))
        limit = _limit_c(zone)
        if limit is not None:
            limit_c[name] = min(limit, limit_c.get(name, limit))
    return Heat(
        temperature_c=temperature_c,
        limit_c=limit_c,
        throttling=_throttling(root),
        counters=_events(root),
    )


def _limit_c(zone: Path) -> float | None:
    limits = [
        value * _MILLI
        for kind in zone.glob("trip_point_*_type")
        if _text(kind) in _LIMITS
        and (value := _number(kind.with_name(kind.name.replace("_type", "_temp")))) is not None
        and value > 0  # a trip that is not set reads 0 or absolute zero
    ]
    return min(limits, default=None)


def _throttling(root: Path) -> dict[str, float]:
    found: dict[str, float] = {}
    for device in sorted(root.glob("class/thermal/cooling_device*")):
        kind = _text(device / "type")
        if not (kind.startswith(_THROTTLES) or any(part in kind for part in _THROTTLES_INSIDE)):
            continue
        now, most = _number(device / "cur_state"), _number(device / "max_state")
        if now is not None and most:
            share = min(1.0, max(0.0, now / most))  # Intel's reads -1 while it does nothing
            found[kind] = max(share, found.get(kind, 0.0))
    return found


def _events(root: Path) -> dict[str, float]:
    folder = root / "devices" / "system" / "cpu"
    found = {
        "throttle_events": _most(folder.glob("cpu[0-9]*/thermal_throttle/*_throttle_count")),
        "overcurrent_events": _most(root.glob("class/hwmon/hwmon*/oc*_event_cnt")),
    }
    return {name: count for name, count in found.items() if count is not None}


def _most(paths: Iterable[Path]) -> float | None:
    counts = [count for path in paths if (count := _number(path)) is not None]
    return max(counts, default=None)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError as error:
        logger.debug("%s cannot be read: %s", path, error)
        return ""


def _number(path: Path) -> float | None:
    text = _text(path)
    try:
        return float(int(text))
    except ValueError:
        return None

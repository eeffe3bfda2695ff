"""The ledger's rows, and the tables that hold them.

A row's fields are its table's columns, in order. SI units; a column's name ends in its unit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, Final, Literal

from siftmoe.radio.link import ChannelOrigin, Source

if TYPE_CHECKING:
    from siftmoe.coordinator.airtime import Direction

#: Version of the tables, in SQLite's ``user_version``.
SCHEMA_VERSION: Final = 1

StepKind = Literal["prefill", "decode"]

#: Least trustworthy last: a product is no better than the worse of its factors.
_TRUST = (Source.MEASURED, Source.DERIVED, Source.MODELLED)


def weakest(*sources: Source) -> Source:
    """Source of a quantity that is computed from quantities of these sources."""
    return max(sources, key=_TRUST.index)


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRow:
    """One forward pass of the model, and what its latency consists of.

    ``latency_s`` is on the run's clock (virtual for simulated links); what the parts leave of it
    is reported as the rest. ``wall_s`` is what this machine took.
    """

    step: int
    kind: StepKind
    time_s: float
    tokens: int
    latency_s: float
    airtime_s: float
    solve_s: float
    queue_s: float
    compute_s: float
    backbone_s: float
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionRow:
    """What the policy decided for one layer of one step.

    ``lower_bound_j`` is NaN where the policy proves none. ``measured_deviation`` is None unless
    the layer was audited, and so is ``within_bound``, the tokens whose measured deviation is at
    most the bound. ``excluded`` names helpers that were left out, and why.
    """

    step: int
    layer: int
    kept: int
    replaced: int
    skipped: int
    predicted_energy_j: float
    lower_bound_j: float
    status: str
    deviation_bound_mean: float
    deviation_bound_max: float
    measured_deviation: float | None
    solve_s: float
    excluded: str = ""
    within_bound: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransmissionRow:
    """One burst: the tokens of one layer to one helper ("up") or back ("down")."""

    time_s: float
    step: int
    layer: int
    agent: str
    direction: Direction | Literal["up", "down"]
    tokens: int
    payload_bits: float
    tx_power_w: float
    tx_power_std_w: float
    power_source: Source
    airtime_s: float
    airtime_source: Source
    energy_j: float
    energy_std_j: float
    rate_bps: float
    channel_gain: float
    channel_age_s: float
    channel_origin: ChannelOrigin

    @property
    def energy_source(self) -> Source:
        """Source of power times airtime."""
        return weakest(self.power_source, self.airtime_source)


Row = StepRow | SelectionRow | TransmissionRow

#: The comments stay in the file: ``sqlite3 ledger.sqlite .schema`` shows them.
SCHEMA: Final = """
CREATE TABLE run (
    run INTEGER PRIMARY KEY,
    label TEXT NOT NULL UNIQUE,                -- e.g. the policy
    started TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,  -- UTC
    config TEXT NOT NULL                       -- JSON
);
CREATE TABLE step (                            -- one forward pass
    run INTEGER NOT NULL REFERENCES run,
    step INTEGER NOT NULL,
    kind TEXT NOT NULL CHECK (kind IN ('prefill', 'decode')),
    time_s REAL NOT NULL,                      -- start, on the run's clock
    tokens INTEGER NOT NULL CHECK (tokens >= 0),
    latency_s REAL NOT NULL CHECK (latency_s >= 0),  -- on the run's clock
    airtime_s REAL NOT NULL,                   -- of the slowest helper, both directions
    solve_s REAL NOT NULL,                     -- in the policy
    queue_s REAL NOT NULL,                     -- waiting at the slowest helper
    compute_s REAL NOT NULL,                   -- of the slowest helper
    backbone_s REAL NOT NULL,                  -- on the user's device
    wall_s REAL NOT NULL,                      -- on the machine's clock
    PRIMARY KEY (run, step)
) WITHOUT ROWID;
CREATE TABLE selection (                       -- one layer of one step
    run INTEGER NOT NULL REFERENCES run,
    step INTEGER NOT NULL,
    layer INTEGER NOT NULL CHECK (layer >= 0),
    kept INTEGER NOT NULL CHECK (kept >= 0),   -- slots, as the next two
    replaced INTEGER NOT NULL CHECK (replaced >= 0),
    skipped INTEGER NOT NULL CHECK (skipped >= 0),
    predicted_energy_j REAL,
    lower_bound_j REAL,                        -- no plan needs less; NULL: none proven
    status TEXT NOT NULL,
    deviation_bound_mean REAL,                 -- over the tokens
    deviation_bound_max REAL,
    measured_deviation REAL,                   -- NULL: not audited
    solve_s REAL NOT NULL,
    excluded TEXT NOT NULL,                    -- helpers left out, and why
    within_bound INTEGER                       -- tokens within the bound; NULL: not audited
);
CREATE TABLE transmission (                    -- one burst
    run INTEGER NOT NULL REFERENCES run,
    time_s REAL NOT NULL,                      -- start, on the run's clock
    step INTEGER NOT NULL,
    layer INTEGER NOT NULL CHECK (layer >= 0),
    agent TEXT NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('up', 'down')),  -- up: to the helper
    tokens INTEGER NOT NULL CHECK (tokens > 0),
    payload_bits REAL NOT NULL CHECK (payload_bits >= 0),
    tx_power_w REAL NOT NULL CHECK (tx_power_w >= 0),
    tx_power_std_w REAL NOT NULL CHECK (tx_power_std_w >= 0),
    power_source TEXT NOT NULL CHECK (power_source IN ('measured', 'derived', 'modelled')),
    airtime_s REAL NOT NULL CHECK (airtime_s >= 0),
    airtime_source TEXT NOT NULL CHECK (airtime_source IN ('measured', 'derived', 'modelled')),
    energy_j REAL NOT NULL CHECK (energy_j >= 0),
    energy_std_j REAL NOT NULL CHECK (energy_std_j >= 0),
    rate_bps REAL NOT NULL CHECK (rate_bps >= 0),
    channel_gain REAL NOT NULL,                -- linear
    channel_age_s REAL NOT NULL,
    channel_origin TEXT NOT NULL
);
CREATE INDEX selection_by_step ON selection (run, step);
CREATE INDEX transmission_by_step ON transmission (run, step);
"""

TABLES: Final[dict[type[Row], str]] = {
    StepRow: "step",
    SelectionRow: "selection",
    TransmissionRow: "transmission",
}

# Annotation of a field -> what SQLite is given (numpy's scalars become Python's), what it gives.
_TO_SQL: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "int | None": lambda value: None if value is None else int(value),
    "float | None": lambda value: None if value is None else float(value),
}
_FROM_SQL: dict[str, Callable[[Any], Any]] = {
    "float": lambda value: float("nan") if value is None else value,
    "Source": Source,
    "ChannelOrigin": ChannelOrigin,
}


def _text(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


def _columns(kind: type[Row]) -> list[tuple[str, str]]:
    return [(field.name, str(field.type)) for field in fields(kind)]


_WRITERS: dict[Any, list[tuple[str, Callable[[Any], Any]]]] = {
    kind: [(name, _TO_SQL.get(annotation, _text)) for name, annotation in _columns(kind)]
    for kind in TABLES
}
_READERS: dict[Any, list[tuple[str, Callable[[Any], Any] | None]]] = {
    kind: [(name, _FROM_SQL.get(annotation)) for name, annotation in _columns(kind)]
    for kind in TABLES
}


def insert_statement(kind: type[Row]) -> str:
    """Return SQL that inserts a row of a kind, after the number of its run."""
    names = [name for name, _ in _WRITERS[kind]]
    marks = ", ".join("?" * (len(names) + 1))
    return f"INSERT INTO {TABLES[kind]} (run, {', '.join(names)}) VALUES ({marks})"  # noqa: S608 - names of this module, no input


def select_statement(kind: type[Row]) -> str:
    """Return SQL that reads a run's rows of a kind, in the order they were booked."""
    names = ", ".join(name for name, _ in _READERS[kind])
    order = "step" if kind is StepRow else "rowid"
    return f"SELECT {names} FROM {TABLES[kind]} WHERE run = ? ORDER BY {order}"  # noqa: S608 - as above


def to_values(row: Row, run: int) -> tuple[Any, ...]:
    """Return the values of `insert_statement`; numpy's numbers become Python's."""
    return (run, *[convert(getattr(row, name)) for name, convert in _WRITERS[type(row)]])


def from_values(kind: Callable[..., Any], values: tuple[Any, ...]) -> Any:
    """Return the row of what `select_statement` returned."""
    pairs = zip(_READERS[kind], values, strict=True)
    return kind(**{name: value if read is None else read(value) for (name, read), value in pairs})

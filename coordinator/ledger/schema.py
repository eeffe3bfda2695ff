"""The ledger's SQL tables, and the conversion of rows to and from them.

A row's fields are its table's columns, in order.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from enum import Enum
from typing import Any, Final

from siftmoe.coordinator.ledger.rows import (
    BoardRow,
    FaultRow,
    Row,
    SelectionRow,
    SoundingRow,
    StepRow,
    TransmissionRow,
)
from siftmoe.radio.channel.link import ChannelOrigin, Source

#: Version of the tables, in SQLite's ``user_version``. 2: soundings, boards, gain_std,
#: aborted steps, missed tokens. 3: faults. 4: widths. 5: sources of soundings. 6: control and
#: circuits of transmissions.
SCHEMA_VERSION: Final = 6
#: Oldest version that can still be read: what its tables lack is 0, and was not counted.
OLDEST_READABLE: Final = 5
#: Makes a file of that version look like one of this, for the connection that reads it.
AS_IF_NEW: Final = """
CREATE TEMP VIEW transmission AS
SELECT rowid, *, 0.0 AS control_bits, 0.0 AS control_j, 0.0 AS circuit_tx_j, 0.0 AS circuit_rx_j,
    '' AS heard
FROM main.transmission"""

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
    aborted INTEGER NOT NULL CHECK (aborted IN (0, 1)),  -- 1: it broke off; in no sum
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
    within_bound INTEGER,                      -- tokens within the bound; NULL: not audited
    lost INTEGER NOT NULL CHECK (lost BETWEEN 0 AND skipped),  -- skipped, for they came too late
    faulted INTEGER NOT NULL CHECK (faulted BETWEEN 0 AND skipped)  -- skipped, for helpers failed
);
CREATE TABLE fault (                           -- one helper without a result in one layer
    run INTEGER NOT NULL REFERENCES run,
    time_s REAL NOT NULL,                      -- on the run's clock
    step INTEGER NOT NULL,
    layer INTEGER NOT NULL CHECK (layer >= 0),
    agent TEXT NOT NULL,
    kind TEXT NOT NULL,                        -- class of the error
    reason TEXT NOT NULL,
    slots INTEGER NOT NULL CHECK (slots >= 0), -- that it was to serve
    waited_s REAL NOT NULL CHECK (waited_s >= 0)  -- real time until it was given up
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
    energy_j REAL NOT NULL CHECK (energy_j >= 0),  -- radiated
    energy_std_j REAL NOT NULL CHECK (energy_std_j >= 0),
    rate_bps REAL NOT NULL CHECK (rate_bps >= 0),
    channel_gain REAL NOT NULL,                -- linear
    gain_std REAL NOT NULL CHECK (gain_std >= 0),
    channel_age_s REAL NOT NULL,
    channel_origin TEXT NOT NULL,
    missed INTEGER NOT NULL CHECK (missed BETWEEN 0 AND tokens),  -- tokens that did not arrive
    widths TEXT NOT NULL,                      -- bits of an entry, and tokens of it: "3:5 8:2"
    control_bits REAL NOT NULL CHECK (control_bits BETWEEN 0 AND payload_bits),  -- of the payload
    control_j REAL NOT NULL CHECK (control_j BETWEEN 0 AND energy_j),  -- of the energy, their part
    circuit_tx_j REAL NOT NULL CHECK (circuit_tx_j >= 0),  -- beside the energy: of the sender
    circuit_rx_j REAL NOT NULL CHECK (circuit_rx_j >= 0),  -- and of the receivers
    heard TEXT NOT NULL                        -- of a broadcast: all that hear it
);
CREATE TABLE sounding (                        -- one pilot exchange in one direction
    run INTEGER NOT NULL REFERENCES run,
    time_s REAL NOT NULL,                      -- on the run's clock
    agent TEXT NOT NULL,
    direction TEXT NOT NULL CHECK (direction IN ('up', 'down')),  -- up: to the helper
    tx_power_w REAL NOT NULL CHECK (tx_power_w >= 0),  -- mean over the burst
    tx_power_std_w REAL NOT NULL CHECK (tx_power_std_w >= 0),
    power_source TEXT NOT NULL CHECK (power_source IN ('measured', 'derived', 'modelled')),
    airtime_s REAL NOT NULL CHECK (airtime_s >= 0),    -- of all bursts that were sent
    airtime_source TEXT NOT NULL CHECK (airtime_source IN ('measured', 'derived', 'modelled')),
    energy_j REAL NOT NULL CHECK (energy_j >= 0),
    energy_std_j REAL NOT NULL CHECK (energy_std_j >= 0),
    carrier_hz REAL NOT NULL CHECK (carrier_hz > 0),
    detected INTEGER NOT NULL CHECK (detected IN (0, 1)),
    channel_gain REAL CHECK (channel_gain > 0),        -- linear; this and the next eight are NULL
    gain_std REAL CHECK (gain_std >= 0),               -- where nothing was detected
    snr REAL CHECK (snr >= 0),                         -- linear
    cfo_hz REAL,
    noise_psd REAL CHECK (noise_psd >= 0),             -- W/Hz, at the receiver's input
    gain_source TEXT CHECK (gain_source IN ('measured', 'derived', 'modelled')),
    noise_psd_std REAL CHECK (noise_psd_std >= 0),
    noise_source TEXT CHECK (noise_source IN ('measured', 'derived', 'modelled')),
    cfo_std_hz REAL CHECK (cfo_std_hz >= 0),           -- by noise and spread, without Doppler
    reason TEXT NOT NULL,                              -- no detection, or an uncertain gain: why
    response BLOB NOT NULL,                            -- complex64, in the order of the carriers
    CHECK (detected = (channel_gain IS NOT NULL))
);
CREATE TABLE board (                           -- one agent's board during the run
    run INTEGER NOT NULL REFERENCES run,
    agent TEXT NOT NULL,
    rails TEXT NOT NULL,                       -- what was added up
    energy_j REAL NOT NULL CHECK (energy_j >= 0),      -- gross
    energy_std_j REAL NOT NULL CHECK (energy_std_j >= 0),
    idle_power_w REAL NOT NULL CHECK (idle_power_w >= 0),
    idle_power_std_w REAL NOT NULL CHECK (idle_power_std_w >= 0),
    duration_s REAL NOT NULL CHECK (duration_s >= 0),
    net_j REAL NOT NULL,                       -- gross less idle power times duration
    net_std_j REAL NOT NULL CHECK (net_std_j >= 0),
    samples INTEGER NOT NULL CHECK (samples >= 0),
    longest_gap_s REAL NOT NULL,               -- between two samples
    source TEXT NOT NULL CHECK (source IN ('measured', 'derived', 'modelled'))
);
CREATE INDEX sounding_by_link ON sounding (run, agent, direction);
CREATE INDEX selection_by_step ON selection (run, step);
CREATE INDEX fault_by_step ON fault (run, step);
CREATE INDEX transmission_by_step ON transmission (run, step);
"""

TABLES: Final[dict[type[Row], str]] = {
    StepRow: "step",
    SelectionRow: "selection",
    TransmissionRow: "transmission",
    FaultRow: "fault",
    SoundingRow: "sounding",
    BoardRow: "board",
}

# Annotation of a field -> conversion to SQLite (numpy's scalars become Python's), and back.
_TO_SQL: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "bool": int,
    "bytes": bytes,
    "int | None": lambda value: None if value is None else int(value),
    "float | None": lambda value: None if value is None else float(value),
    "Source | None": lambda value: None if value is None else value.value,
}
_FROM_SQL: dict[str, Callable[[Any], Any]] = {
    "float": lambda value: float("nan") if value is None else value,
    "bool": bool,
    "Source": Source,
    "Source | None": lambda value: None if value is None else Source(value),
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
    """Return the row from the values of `select_statement`."""
    pairs = zip(_READERS[kind], values, strict=True)
    return kind(**{name: value if read is None else read(value) for (name, read), value in pairs})

"""The reference of the ledger, from the schema that creates it."""

from __future__ import annotations

import re

from siftmoe.coordinator.ledger.schema import SCHEMA, SCHEMA_VERSION

_HEAD = f"""# Ledger

A run's ledger is one SQLite file, `ledger.sqlite` in the run's folder. This page is the schema that
creates it (version {SCHEMA_VERSION}, in SQLite's `user_version`); `sqlite3 ledger.sqlite .schema`
shows the same comments. Steps are booked whole, in one transaction each: a run that is killed
leaves a ledger that is complete up to its last whole step. Units are SI.

Every power and airtime has a source: `measured`, `derived` from typical figures (±3 dB), or
`modelled` by Shannon's formula. Sums are kept apart by source.

Read it with `siftmoe ledger RUN`, with any SQLite client, or in Python:

```python
from siftmoe.coordinator.ledger.store import Ledger

with Ledger.open("runs/loopback-1/ledger.sqlite") as ledger:
    for label, run in ledger.labels().items():
        print(label, ledger.summary(run).energy_by_source)
```

"""
_TABLE = re.compile(r"CREATE TABLE (?P<name>\w+) \(.*?\n\)[^\n]*;\n", re.S)


def page() -> str:
    """Return the page as Markdown."""
    parts = [
        f"## {found['name']}\n\n```sql\n{found[0].strip()}\n```\n"
        for found in _TABLE.finditer(SCHEMA)
    ]
    return _HEAD + "\n".join(parts)

"""What a finished study shows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from siftmoe.tools.experiments.table import rows_of, write_csv

if TYPE_CHECKING:
    from siftmoe.tools.experiments.run import Finished

RESULTS_FILE = "results.csv"


def report(finished: Finished, *, as_json: bool) -> None:
    """Write and print a study's results."""
    rows = rows_of(finished.outcomes)
    write_csv(finished.folder / RESULTS_FILE, rows)
    if as_json:
        print(json.dumps({"config": finished.config, "rows": rows}))

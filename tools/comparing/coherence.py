"""Books into a run's configuration whether its windows outlast the coherence time."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.tools.results.policies import LEDGER_FILE
from siftmoe.tools.results.windows import windows_of
from siftmoe.tools.showing.report import CONFIG_FILE

if TYPE_CHECKING:
    from pathlib import Path

    from siftmoe.coordinator.config.radio import RadioEntry


def with_windows(
    out: Path, config: dict[str, Any], radio: RadioEntry, *, policy: str
) -> dict[str, Any]:
    """Compare the windows of a run with the coherence time, and write the finding to its folder.

    Parameters
    ----------
    out : Path
        Of a run that has ended.
    config : dict
        Of the run; written again with the finding.
    radio : RadioEntry
    policy : str
        Whose windows are looked at; they are the same for all where circuits take no power.

    Returns
    -------
    dict
        ``windows``: counts and ratios, and a ``warning``, which is empty where no simulated gain
        is kept for longer than it lasts.
    """
    with Ledger.open(out / LEDGER_FILE) as ledger:
        found = windows_of(ledger, radio.coherence_time_s, run=ledger.labels().get(policy))
    still = not config["channel"] or radio.fading == "none" or radio.fading_slots
    finding = {"windows": {**asdict(found), "warning": "" if still else found.warning()}}
    (out / CONFIG_FILE).write_text(json.dumps(config | finding, indent=1) + "\n", "utf-8")
    return finding

"""Troubles of a run: faults, earlier attempts, and what selections left out, from its ledger."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from siftmoe.coordinator.ledger.file import attempt_of
from siftmoe.coordinator.ledger.rows import FaultRow, TransmissionRow

if TYPE_CHECKING:
    from collections.abc import Mapping

    from siftmoe.coordinator.ledger.store import Ledger

#: Parses the ledger's "NAME: reason; NAME: reason"; a reason may contain a semicolon.
_NAME = r"(?:link to )?[A-Za-z0-9._-]+: "
_LEFT_OUT = re.compile(rf"(?:^|; )({_NAME})(.*?)(?=; {_NAME}|$)", re.DOTALL)


def answer_label(policy: str) -> str:
    """Return the ledger's label of the run that answers the prompt."""
    return f"{policy}: answer"


def faults_of(ledger: Ledger, run: int) -> dict[str, tuple[int, str]]:
    """Count every agent's faults, with the reason of the first one."""
    found: dict[str, tuple[int, str]] = {}
    for row in ledger.rows(FaultRow, run=run):
        count, reason = found.get(row.agent, (0, row.reason))
        found[row.agent] = (count + 1, reason)
    return dict(sorted(found.items()))


def attempts_at(ledger: Ledger, label: str) -> tuple[int, float]:
    """Count the earlier attempts at a policy, and sum the energy they had transmitted."""
    labels = {answer_label(label): 0, label: 0}
    energy_j = 0.0
    for other, run in ledger.labels().items():
        policy = attempt_of(other)
        if policy in labels:
            labels[policy] += 1
            energy_j += sum(row.energy_j for row in ledger.rows(TransmissionRow, run=run))
    return max(labels.values()), energy_j


def left_out_of(excluded: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Count selections without each link or helper, by reason."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for text, count in excluded.items():
        for name, why in dict(_LEFT_OUT.findall(text)).items():
            counts[name.removesuffix(": ")][why] += count
    return dict(sorted(counts.items()))

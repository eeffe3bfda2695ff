"""Windows of a run against the coherence time of its channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.tools.results.policies import LEDGER_FILE
from siftmoe.tools.results.windows import windows_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("coherence_s", "longer", "ratio"), [(0.01, 0, 0.0), (0.1, 0, 0.0), (0.004, 6, 2.5)]
)
def test_windows_beyond_the_coherence_time_are_counted(
    run: Path, coherence_s: float, longer: int, ratio: float
) -> None:
    with Ledger.open(run / LEDGER_FILE) as ledger:
        found = windows_of(ledger, coherence_s, run=ledger.labels()["topk"])
    assert found.count == 6
    assert (found.longer, found.mean_ratio, found.most_ratio) == pytest.approx(
        (longer, ratio, ratio)
    )


def test_the_warning_says_how_many_by_how_much_and_the_way_out(run: Path) -> None:
    with Ledger.open(run / LEDGER_FILE) as ledger:
        index = ledger.labels()["topk"]
        warning = windows_of(ledger, 0.004, run=index).warning()
        assert windows_of(ledger, 0.01, run=index).warning() == ""
    assert "6 of 6 windows are longer than the coherence time of 0.004 s, 2.5 times" in warning
    assert "constant over a layer" in warning
    assert "--coherence" in warning

"""Decisions by layer and energy by helper, from the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.tools.results.breakdown import Breakdown, LayerShares, breakdown_of, mean_breakdown
from siftmoe.tools.results.policies import LEDGER_FILE, load_results

if TYPE_CHECKING:
    from pathlib import Path


def test_a_runs_parts_add_up_to_its_energy(run: Path) -> None:
    topk = load_results(run)[0]
    (layer,) = topk.breakdown.layers
    assert (layer.kept, layer.replaced, layer.skipped) == (0.75, 0.0, 0.25)
    both = topk.uplink_j_per_token + topk.downlink_j_per_token
    assert layer.energy_j == pytest.approx(both)
    assert sum(map(sum, topk.breakdown.helpers.values())) == pytest.approx(both)
    assert list(topk.breakdown.helpers) == ["a", "b"]
    assert sum(up for up, _ in topk.breakdown.helpers.values()) == pytest.approx(
        topk.uplink_j_per_token
    )


def test_a_run_without_steps_has_no_parts(run: Path) -> None:
    with Ledger.open(run / LEDGER_FILE) as ledger:
        assert breakdown_of(ledger, ledger.labels()["siftmoe"]) == Breakdown()


def _one(kept: float, energy_j: float, **helpers: tuple[float, float]) -> Breakdown:
    layer = LayerShares(kept=kept, replaced=0.0, skipped=1.0 - kept, energy_j=energy_j)
    return Breakdown(layers=(layer,), helpers=helpers)


def test_a_helper_that_one_seed_did_not_use_spent_nothing_there() -> None:
    mean = mean_breakdown([_one(1.0, 4.0, a=(1.0, 3.0)), _one(0.5, 2.0, b=(2.0, 0.0))])
    assert mean == _one(0.75, 3.0, a=(0.5, 1.5), b=(1.0, 0.0))


def test_runs_of_different_models_are_not_averaged() -> None:
    with pytest.raises(ValueError, match=r"\[1, 0\] layers"):
        mean_breakdown([_one(1.0, 1.0), Breakdown()])

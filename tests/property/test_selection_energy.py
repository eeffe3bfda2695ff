"""SiftMoE never transmits more than Top-K where Top-K is feasible: it may keep all slots."""

from __future__ import annotations

import numpy as np
import pytest
from instances import as_problem, make_instance, tighten_power

from siftmoe.coordinator.policies.siftmoe import SiftMoE
from siftmoe.coordinator.policies.topk import TopK
from siftmoe.coordinator.selection.problem import Status


@pytest.mark.parametrize("seed", range(120))
def test_energy_is_at_most_top_k(seed: int) -> None:
    rng = np.random.default_rng(seed)
    raw = make_instance(
        rng,
        tokens=int(rng.choice([1, 8, 32])),
        experts=12,
        slots=int(rng.integers(1, 5)),
        helpers=int(rng.integers(2, 9)),
        share=float(rng.choice([0.0, 0.2, 0.5])),
        replicas=int(rng.integers(1, 3)),
        local=0.0,
    )
    raw = tighten_power(raw, rng, ease=3.0) if seed % 3 == 0 else raw
    problem = as_problem(raw)
    everything = TopK().select(problem)
    plan = SiftMoE().select(problem)
    if everything.status is Status.INFEASIBLE:
        return
    assert plan.status is not Status.INFEASIBLE
    assert plan.energy_j <= everything.energy_j * (1 + 1e-9)
    assert np.all(plan.deviation <= raw["eps"] * (1 + 1e-9) + 1e-12)


def test_at_no_tolerance_nothing_is_replaced() -> None:
    raw = make_instance(np.random.default_rng(1), tokens=16, experts=8, slots=2, helpers=4, share=0)
    problem = as_problem(raw)
    kept, replaced, skipped = SiftMoE().select(problem).decisions(problem)
    assert (kept, replaced, skipped) == (32, 0, 0)

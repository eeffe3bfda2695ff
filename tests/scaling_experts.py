"""Plans over experts that scale a vector, and what they must give."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.selection.problem import NOBODY, SelectionPlan, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

E = 4  # experts; expert e scales a vector by e + 1, whoever computes it
D = 3


def plan_of(helper: Any, expert: Any, weight: Any, width: Any = 32) -> SelectionPlan:
    helper = np.asarray(helper, np.int64)
    return SelectionPlan(
        helper=helper,
        expert=np.asarray(expert, np.int64),
        weight=np.asarray(weight, np.float64),
        width=np.where(helper >= 0, width, 0),
        status=Status.FEASIBLE,
        energy_j=0.0,
        lower_bound_j=0.0,
        deviation=np.zeros(len(helper)),
    )


def vectors(tokens: int) -> NDArray[np.float32]:
    return np.random.default_rng(tokens).standard_normal((tokens, D)).astype(np.float32)


def compute(
    hidden: NDArray[Any], pairs: NDArray[np.int32], weights: NDArray[np.float32]
) -> NDArray[np.float32]:
    """What an agent answers: for each row the weighted sum over its experts."""
    output = np.zeros(hidden.shape, np.float32)
    for (row, expert), weight in zip(pairs, weights, strict=True):
        output[row] += weight * (expert + 1) * hidden[row].astype(np.float32)
    return output


def expected(plan: SelectionPlan, hidden: NDArray[np.float32]) -> NDArray[np.float64]:
    """The layer's output, slot by slot."""
    output = np.zeros(hidden.shape)
    for t, k in np.ndindex(plan.helper.shape):
        if plan.helper[t, k] != NOBODY:
            output[t] += plan.weight[t, k] * (plan.expert[t, k] + 1) * hidden[t].astype(float)
    return output

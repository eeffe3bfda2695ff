"""Audit: compares a layer's output with that of the undivided layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.problem import SelectionPlan
    from siftmoe.coordinator.selection.tables import LayerTables


#: Deviation, relative to the output, that rounding hidden states to float16 both ways may add. The
#: bounds cover experts only, not this rounding.
PAYLOAD_ROUNDING = 4e-3


@dataclass(frozen=True, slots=True)
class Audited:
    """Measured deviation of one layer of one step, in the units of the plan's deviation.

    Parameters
    ----------
    mean : float
        Over tokens.
    within_bound : int
        Tokens whose deviation, less the payload's rounding, is at most the plan's bound.
    """

    mean: float
    within_bound: int


def audit(
    output: NDArray[np.float32],
    undivided: NDArray[np.float32],
    *,
    plan: SelectionPlan,
    table: LayerTables,
) -> Audited:
    r"""Measure a layer's deviation.

    .. math:: \|\hat y_t - y_t\| \quad\text{or}\quad \tfrac12 a_l \|\hat y_t - y_t\|^2

    the first against linear bounds (norm units), the second against the price's squared deviations
    (nats, docs/explanation/theory.md, section 8).

    Parameters
    ----------
    output, undivided : (T, d) float32
    plan : SelectionPlan
        Bounds the deviation of each token.
    table : LayerTables
        Of the layer; has a sensitivity where its deviations are nats.
    """
    difference = np.linalg.norm(output.astype(np.float64) - undivided, axis=1)  # [T]
    rounding = PAYLOAD_ROUNDING * np.linalg.norm(undivided, axis=1)  # [T]
    beyond = np.maximum(difference - rounding, 0.0)
    if table.sensitivity is not None:
        difference = 0.5 * table.sensitivity * difference**2
        beyond = 0.5 * table.sensitivity * beyond**2
    within = int(np.count_nonzero(beyond <= plan.deviation))
    return Audited(mean=float(difference.mean()), within_bound=within)

"""The policy that solves instances, with the limits of its proof."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.coordinator.policies.registry import make_policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    Policy = Callable[[SelectionProblem], SelectionPlan]

#: Limits of local search and of cutting planes for one instance, in rounds.
_ROUNDS, _CUTS = 4000, 60


def solving_policy(name: str, *, certificate: bool, limit_s: float) -> Policy:
    """Make the policy that solves instances.

    Parameters
    ----------
    name : str
    certificate : bool
        siftmoe: prove a lower bound and close the gap.
    limit_s : float, s
        siftmoe: time limit of the integer program that closes the gap.
    """
    if name != "siftmoe":
        return make_policy(name)
    if not certificate:
        return make_policy("siftmoe")
    return make_policy("siftmoe", certificate=True, rounds=_ROUNDS, cuts=_CUTS, closing_s=limit_s)

"""The policy protocol: solves one layer's selection problem."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem


class Policy(Protocol):
    """Solves selection problems; must not keep state between calls."""

    def __call__(self, problem: SelectionProblem, /) -> SelectionPlan:
        """Choose helper, expert and weight for every slot of every token of one layer."""
        ...

"""The policy protocol: a callable, its optional attributes, and the run passed to it.

A policy is a function ``select(problem) -> plan`` of a `SelectionProblem`. Options are its further
keyword arguments; or the policy is a class (a frozen dataclass, say) whose constructor takes the
options and whose method ``select`` does the work. Four attributes are optional:

- ``budgets``: kinds of budget that it spends, of ``BUDGETS``; without any it has no budget.
- ``chooses_widths``: whether it chooses the width of every vector where a run leaves that open.
- ``reads_router``: whether it wants the logits of the model's router in its problems.
- ``for_run(run)``: returns the policy for one run, which tells it its `PolicyRun`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from siftmoe.coordinator.links.states import Direction, LinkStates
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem
    from siftmoe.coordinator.selection.widths import Widths
    from siftmoe.models.shape import ModelShape
    from siftmoe.models.similarity.profile import Profile

#: How much deviation a policy may spend, one of:
#: tolerance: per token and layer, as a share of the layer's mean output norm;
#: average: the same on average over a batch;
#: final: deviation of the last hidden state, divided among the layers;
#: price: joule per nat of predicted loss.
BUDGETS = ("tolerance", "average", "final", "price")


class Policy(Protocol):
    """Solves selection problems; keeps no state between calls."""

    def __call__(self, problem: SelectionProblem, /) -> SelectionPlan:
        """Choose helper, expert and weight for every slot of every token of one layer."""
        ...


class PolicyAir(Protocol):
    """What a policy may ask of the air."""

    @property
    def tx_power_limit_w(self) -> float:
        """Power limit of either side, W."""
        ...

    @property
    def compute_s_per_token(self) -> float:
        """Compute time of a token on a helper, s."""
        ...

    def bits(self, direction: Direction) -> int:
        """Payload of a token in one direction, bit."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyRun:
    """The run that a policy selects for.

    Parameters
    ----------
    shape : ModelShape
    profile : Profile or None
        How alike the model's experts are, where it was measured.
    widths : Widths
        Of the policy's vectors.
    links : callable
        Returns the states of the links at the time of the selection.
    air : callable
        Returns the air of the run.
    """

    shape: ModelShape
    profile: Profile | None
    widths: Widths
    links: Callable[[], LinkStates]
    air: Callable[[], PolicyAir]


@dataclass(frozen=True, slots=True)
class Traits:
    """What a policy says of itself."""

    budgets: tuple[str, ...] = ()
    chooses_widths: bool = False
    reads_router: bool = False

    @classmethod
    def of(cls, policy: Any, *, name: str) -> Traits:
        """Read the attributes of a policy's function, class or object.

        Raises
        ------
        ValueError
            If they are not what they should be.
        """
        budgets = getattr(policy, "budgets", ())
        chooses = getattr(policy, "chooses_widths", False)
        reads = getattr(policy, "reads_router", False)
        if not isinstance(budgets, tuple) or not set(budgets) <= set(BUDGETS):
            raise ValueError(
                f"policy {name!r}: budgets must be a tuple of {', '.join(BUDGETS)}; got {budgets!r}"
            )
        if chooses not in (True, False):
            raise ValueError(f"policy {name!r}: chooses_widths must be a bool; got {chooses!r}")
        if reads not in (True, False):
            raise ValueError(f"policy {name!r}: reads_router must be a bool; got {reads!r}")
        return cls(budgets, chooses, reads)

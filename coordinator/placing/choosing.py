"""Chooses a placement: greedy, exchanges, then the integer program or a bound, by size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from siftmoe.coordinator.placing.bound import greedy_bound
from siftmoe.coordinator.placing.exact import num_options, solve_placement
from siftmoe.coordinator.placing.exchange import exchanged
from siftmoe.coordinator.placing.greedy import greedy_placement
from siftmoe.coordinator.placing.packing import uniform_places

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from siftmoe.coordinator.placing.problem import PlacementProblem

    BoolArray = NDArray[np.bool_]

Bound = Literal["integer program", "relaxation", "gains left"]

#: Up to so many options HiGHS is given the integer program, and the relaxation.
MOST_EXACT: Final = 6_000
MOST_RELAXED: Final = 100_000
#: A gap below this is HiGHS's tolerance.
_CLOSED: Final = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A placement and what is proved of it.

    Parameters
    ----------
    hosts : (N, L, E) bool
    cost_j : float, J per token
        In the channel states of the problem.
    greedy_j : float, J per token
        Of the greedy placement alone.
    bound_j : float, J per token
        No placement costs less in these states.
    bound : str
        How that was found.
    guarantee : str
        What is known beforehand of the greedy placement.
    """

    hosts: BoolArray
    cost_j: float
    greedy_j: float
    bound_j: float
    bound: Bound
    guarantee: str

    @property
    def gap(self) -> float:
        """Share of the cost that a better placement might save at most."""
        return max(0.0, 1.0 - self.bound_j / self.cost_j) if self.cost_j > 0.0 else 0.0

    @property
    def optimal(self) -> bool:
        """Whether no placement is better."""
        return self.gap <= _CLOSED


def choose_placement(problem: PlacementProblem, *, time_limit_s: float = 20.0) -> Choice:
    """Choose who hosts what.

    Parameters
    ----------
    problem : PlacementProblem
    time_limit_s : float, s
        For HiGHS; a bound found until then holds. 0: no program is solved.

    Raises
    ------
    PlacementError
        If the experts do not fit.
    """
    greedy = greedy_placement(problem)
    hosts = exchanged(problem, greedy)
    bound_j = greedy_bound(problem, hosts)
    how: Bound = "gains left"
    closed = bound_j >= problem.cost_j(hosts) * (1.0 - _CLOSED)
    unsolved = closed or time_limit_s <= 0.0
    size = MOST_RELAXED + 1 if unsolved else num_options(problem)
    if size <= MOST_RELAXED:
        solved = solve_placement(problem, relaxed=size > MOST_EXACT, time_limit_s=time_limit_s)
        if solved.bound_j > bound_j:
            bound_j = solved.bound_j
            how = "relaxation" if size > MOST_EXACT else "integer program"
        if solved.hosts is not None:
            hosts = min(hosts, solved.hosts, key=problem.cost_j)
    cost_j = problem.cost_j(hosts)
    return Choice(
        hosts=hosts,
        cost_j=cost_j,
        greedy_j=problem.cost_j(greedy),
        bound_j=min(bound_j, cost_j),
        bound=how,
        guarantee=guarantee(problem),
    )


def guarantee(problem: PlacementProblem) -> str:
    r"""Return what is known of a greedy placement beforehand, in words.

    Of the gain against no hosts at all, :math:`C(\emptyset) - C(X)`; see `greedy`.
    """
    if uniform_places(problem) is None:
        return "none beforehand: experts of different sizes, and each must have a host"
    limited = problem.most_hosts < problem.num_helpers
    # one host each is what a limit of one host and a host for each say together
    matroids = 2 if problem.most_hosts == 1 else 2 + int(limited)
    return f"greedy gains at least 1/{matroids + 1} of the most that can be gained"

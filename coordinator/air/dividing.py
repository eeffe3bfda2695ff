r"""Selection where both directions of a batch share one deadline and widths are chosen.

A helper's energy depends on both of its loads together: with requests of :math:`q_u` bits and
answers of :math:`q_d`, :math:`e_n(q_u, q_d) = \min_{T_u + T_d \le T} E(q_u, T_u) + E(q_d, T_d)` is
jointly convex, and at a fixed division of the deadline it is a sum of one for each direction. So
the problem is solved at a division, the deadline divided again as is best for the loads found, and
so on while the energy falls; neither step can raise it, up to the gap of the solver. What is found
is a local optimum in this sense, without a lower bound. A single token needs none of this: its ways
are priced with their own divisions. Our derivation; docs/explanation/theory.md, section 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from siftmoe.coordinator.selection.problem import BudgetKind, Status

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.air.bursts import Load
    from siftmoe.coordinator.energy.pricing import Pricing
    from siftmoe.coordinator.energy.roundtrip import RoundTrip, RoundTripTable
    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]

#: Rounds of solving and dividing, and the share by which each must pay to go on.
_MOST_ROUNDS: Final = 8
_LEAST_GAIN: Final = 1e-6


class DividedAir(Protocol):
    """An air interface whose directions share a deadline."""

    def window_s(self, tokens: int) -> float:
        """Deadline of a batch, s."""
        ...

    def loads(self, problem: SelectionProblem, plan: SelectionPlan) -> tuple[Load, Load]:
        """Return the loads of a plan in both directions."""
        ...

    def round_trip(self, links: LinkStates, tokens: int) -> RoundTrip:
        """Both directions of every link within the deadline."""
        ...

    def divided_pricing(
        self, links: LinkStates, tokens: int, loads: tuple[FloatArray, FloatArray] | None = None
    ) -> Pricing:
        """Price loads at the best division of the deadline for some."""
        ...


def divided(
    air: DividedAir, load: Load, back: Load, links: LinkStates, *, tokens: int
) -> RoundTripTable:
    """Best division of a shared deadline for the vectors of both directions, (N,).

    Raises
    ------
    ValueError
        If a helper's loads do not fit the deadline.
    """
    up, down = (part.count @ part.bits for part in (load, back))
    found = air.round_trip(links, tokens).of_payloads(up, down, load.tokens)
    if np.isnan(found.uplink_s).any():
        n = int(np.flatnonzero(np.isnan(found.uplink_s))[0])
        raise ValueError(
            f"air: {up[n]:.0f} bits to helper {n} and {down[n]:.0f} back do not fit a deadline of "
            f"{air.window_s(tokens)} s; it must be longer, or the power limit higher"
        )
    return found


def settled(
    air: DividedAir,
    problem: SelectionProblem,
    plan: SelectionPlan,
    links: LinkStates,
    *,
    policy: Policy,
) -> SelectionPlan:
    """Improve a plan by dividing the deadline for its loads and selecting again.

    Parameters
    ----------
    air : DividedAir
        With a shared deadline.
    problem : SelectionProblem
        Of several tokens, at some division.
    plan : SelectionPlan
        Solves it.
    links : LinkStates
    policy : callable

    Returns
    -------
    SelectionPlan
        Its energy is that at the best division for it; without a lower bound.
    """
    best, solve_s = _at_best(air, problem, plan, links), plan.solve_s
    for _ in range(_MOST_ROUNDS):
        load, back = air.loads(problem, best)
        payloads = load.count @ load.bits, back.count @ back.bits
        pricing = air.divided_pricing(links, problem.num_tokens, payloads)
        found = policy(_priced_again(problem, pricing))
        solve_s += found.solve_s
        if found.status is Status.INFEASIBLE and best.status is not Status.INFEASIBLE:
            break
        again = _at_best(air, problem, found, links)
        gained = _objective(problem, best) - _objective(problem, again)
        if again.status is best.status and not gained > _LEAST_GAIN * _objective(problem, best):
            break
        best = again
    return replace(best, solve_s=solve_s)


def _priced_again(problem: SelectionProblem, pricing: Pricing) -> SelectionProblem:
    precision = problem.precision
    return replace(
        problem,
        energy=pricing.energy_j,
        precision=None if precision is None else precision.priced(pricing),
    )


def _at_best(
    air: DividedAir, problem: SelectionProblem, plan: SelectionPlan, links: LinkStates
) -> SelectionPlan:
    """Return the plan with the energy of its loads at their best division."""
    load, back = air.loads(problem, plan)
    found = divided(air, load, back, links, tokens=problem.num_tokens)
    status = Status.FEASIBLE if plan.status is Status.OPTIMAL else plan.status
    energy = float(found.energy_j.sum())
    return replace(plan, energy_j=energy, status=status, lower_bound_j=float("nan"))


def _objective(problem: SelectionProblem, plan: SelectionPlan) -> float:
    """Energy, plus priced deviation under a price."""
    if problem.budget.kind is BudgetKind.PRICE:
        return plan.energy_j + problem.budget.value * float(plan.deviation.sum())
    return plan.energy_j

r"""Least deviations of each helper per routed expert, and plans from helper sets.

A helper that holds several experts serves a slot with the one of least deviation. With
:math:`H_n` the experts on helper n, and skipping or a local expert always available,

.. math:: \mathrm{base}_i = \min(F_{i0}, \min_{j\,\mathrm{local}} F_{ij}), \qquad
          \mathrm{served}_{i,n} = \min(\mathrm{base}_i, \min_{j \in H_n} F_{ij})

are computed once per problem; a token's deviations are K rows of them times its slot weights.
Given a helper set the best decision of every slot is separable, so a policy only has to choose
sets, and one set function covers keep, replace, skip, co-located experts, replicas and local
experts. docs/explanation/theory.md, section 0.

Where vectors may travel in several widths, a way (``siftmoe.coordinator.selection.precision``)
stands for a helper, with the deviations of its widths.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from siftmoe.coordinator.compiled import compiled
from siftmoe.coordinator.selection.on_air import priced_energy
from siftmoe.coordinator.selection.problem import (
    LOCAL,
    NOBODY,
    SelectionPlan,
    SelectionProblem,
    Status,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.selection.precision import Precision

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


#: Fields of `HelperTables` with a column for each way.
_BY_WAY = ("remote", "remote_expert", "remote_scale", "served")


@dataclass(frozen=True, slots=True, kw_only=True)
class HelperTables:
    """Least deviations per routed expert, before the slot's weight.

    Parameters
    ----------
    remote : (E, H) float64
        Least deviation among the experts that way h leads to, infinite where there is none.
    remote_expert : (E, H) int64
        The expert that attains it; the routed one itself among equals.
    remote_scale : (E, H) float64
        Factor on its output.
    base : (E,) float64
        Least deviation without a transmission: by a local expert or by skipping.
    base_expert : (E,) int64
        The local expert that attains it, or E for skipping.
    served : (E, H) float64
        ``minimum(remote, base)``: what a slot costs once way h is in the token's set.
    helper, width : (H,) int64
        Of each way.
    reply_width : (H,) int64 or None
        Of each way's answer, where plans name it.
    """

    remote: FloatArray
    remote_expert: IntArray
    remote_scale: FloatArray
    base: FloatArray
    base_expert: IntArray
    served: FloatArray
    helper: IntArray
    width: IntArray
    reply_width: IntArray | None = None

    def exclusive(self, problem: SelectionProblem) -> IntArray | None:
        """Return the helper of each way where one way to each is a limit; None where it is not."""
        precision = problem.precision
        return self.helper if precision is not None and precision.joint else None

    def only(self, ways: IntArray) -> HelperTables:
        """Tables of some ways, in this order."""
        cut = {name: getattr(self, name)[:, ways] for name in _BY_WAY}
        return replace(
            self,
            **{name: np.ascontiguousarray(part) for name, part in cut.items()},
            helper=self.helper[ways],
            width=self.width[ways],
            reply_width=None if self.reply_width is None else self.reply_width[ways],
        )


def build_tables(problem: SelectionProblem) -> HelperTables:
    """Least deviation and its expert for every (routed expert, way).

    Raises
    ------
    ValueError
        If a deviation is negative or not a number, or skipping has no finite one.
    """
    experts = problem.num_experts
    deviation = problem.deviation
    if not np.all(deviation >= 0.0):
        raise ValueError("selection problem: deviation must not be negative or NaN")
    if not np.all(np.isfinite(deviation[:, experts])):
        raise ValueError(
            "selection problem: the deviation of skipping (last column) must be finite"
        )
    remote, remote_expert, remote_scale = _ways(problem)
    precision = problem.precision
    base, base_expert = _without_helpers(problem)
    return HelperTables(
        remote=remote,
        remote_expert=remote_expert,
        remote_scale=remote_scale,
        base=base,
        base_expert=base_expert,
        served=np.ascontiguousarray(np.minimum(remote, base[:, None])),
        helper=np.arange(problem.num_helpers) if precision is None else precision.helper,
        width=(
            np.full(problem.num_helpers, problem.width)
            if precision is None
            else precision.way_width
        ),
        reply_width=(
            None if precision is None or precision.num_replies == 1 else precision.way_reply
        ),
    )


def _ways(problem: SelectionProblem) -> tuple[FloatArray, IntArray, FloatArray]:
    """Least deviation, expert and scale by way, (E, H) each."""
    precision = problem.precision
    if precision is None:
        return _remote(problem.deviation, problem.scale, problem.hosts)
    by_width = [
        _remote(deviation, scale, problem.hosts & known[:, None])
        for deviation, scale, known in zip(
            precision.deviation, precision.scale, precision.known.T, strict=True
        )
    ]
    # [E, N, B] each, so that the ways of a helper lie side by side
    least, expert, scale = (np.stack(parts, axis=2) for parts in zip(*by_width, strict=True))
    return _with_replies(problem, precision, least, expert, scale)


def _with_replies(
    problem: SelectionProblem,
    precision: Precision,
    least: FloatArray,
    expert: IntArray,
    scale: FloatArray,
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Add the widths of answers to tables (E, N, B): (E, H) each.

    The best expert of a helper at a width is the same for every answer, see ``Precision``.
    """
    replies, shape = precision.replies, (problem.num_experts, -1)
    skip = problem.deviation[:, -1][:, None, None]  # [E, 1, 1]
    returned = precision.returned(least, skip)  # [E, N, B]
    whole = least[..., None] + returned[..., None] * replies.noise  # [E, N, B, V]
    whole = np.where(replies.known[:, None, :], whole, np.inf)
    back = replies.width.size
    return (
        whole.reshape(shape),
        np.repeat(expert, back, axis=2).reshape(shape),
        np.repeat(scale, back, axis=2).reshape(shape),
    )


def _remote(
    deviation: FloatArray, scale: FloatArray, hosts: BoolArray
) -> tuple[FloatArray, IntArray, FloatArray]:
    """Least deviation over each helper's experts, that expert and its scale, (E, N) each."""
    experts = len(deviation)
    own = np.diagonal(deviation)  # [E]
    least, expert = _least_on_helpers(deviation[:, :experts], hosts)
    keep = hosts.T & (own[:, None] <= least)  # [E, N]
    expert = np.where(keep, np.arange(experts)[:, None], expert)
    return least, expert, scale[np.arange(experts)[:, None], expert]


def _without_helpers(problem: SelectionProblem) -> tuple[FloatArray, IntArray]:
    """Least deviation by a local expert or by skipping, and which of them, (E,) each."""
    experts = problem.num_experts
    skip = problem.deviation[:, experts]
    if not problem.local.any():
        return skip.copy(), np.full(experts, experts)
    least, nearest = _least_on_helpers(problem.deviation[:, :experts], problem.local[None, :])
    local, expert, own = least[:, 0], nearest[:, 0], np.diagonal(problem.deviation)
    expert = np.where(problem.local & (own <= local), np.arange(experts), expert)
    return np.minimum(local, skip), np.where(local <= skip, expert, experts)


def _least_on_helpers(deviation: FloatArray, hosts: BoolArray) -> tuple[FloatArray, IntArray]:
    """Row minimum over each helper's experts, and where it is, (E, N) each."""
    most = max(1, int(hosts.sum(axis=1).max(initial=0)))
    held = np.argsort(~hosts, axis=1, kind="stable")[:, :most]  # [N, most], hosted experts first
    options = np.ascontiguousarray(deviation.T)[held]  # [N, most, E]
    options[np.arange(most) >= hosts.sum(axis=1)[:, None]] = np.inf
    where = options.argmin(axis=1)  # [N, E]
    helper = np.arange(hosts.shape[0])[:, None]
    return options.min(axis=1).T, held[helper, where].T


def slot_deviations(
    problem: SelectionProblem, tables: HelperTables
) -> tuple[FloatArray, FloatArray]:
    """Deviation of every slot by way, (T, K, H), and without any helper, (T, K)."""
    weights = problem.slot_weights()  # [T, K]
    routed = problem.routed_experts
    return weights[:, :, None] * tables.served[routed], weights * tables.base[routed]


def deviation_at_stake(problem: SelectionProblem, tables: HelperTables) -> FloatArray:
    """Deviation of each token that no helper serves, (T,)."""
    stake: FloatArray = (problem.slot_weights() * tables.base[problem.routed_experts]).sum(axis=1)
    return stake


def members_to_sets(member: BoolArray) -> IntArray:
    """Membership (T, N) as ascending lists padded with -1, (T, longest)."""
    longest = max(1, int(member.sum(axis=1).max(initial=0)))
    order = np.argsort(~member, axis=1, kind="stable")[:, :longest]  # [T, longest]
    return np.where(np.take_along_axis(member, order, axis=1), order, -1)


def plan_from_sets(
    problem: SelectionProblem,
    tables: HelperTables,
    sets: IntArray,
    *,
    status: Status,
    lower_bound_j: float = float("nan"),
    solve_s: float = 0.0,
) -> SelectionPlan:
    """Serve each slot as well as its token's set of ways allows.

    Among equal deviations keeping goes before replacing and replacing before skipping, and
    the user's own expert before a helper's. A way that serves no slot is dropped.

    Parameters
    ----------
    problem, tables
        The problem and ``build_tables(problem)``.
    sets : (T, W) int64
        Ways of each token, padded with -1.
    status, lower_bound_j, solve_s
        Passed on to the plan.
    """
    routed, experts = problem.routed_experts, problem.num_experts
    way = best_ways(tables.remote, tables.remote_expert, routed, np.ascontiguousarray(sets))
    # the padding -1 finds the last column: nobody, at no finite deviation
    value = _and_nobody(tables.remote, np.inf)[routed, way]
    expert = _and_nobody(tables.remote_expert, experts)[routed, way]
    scale = _and_nobody(tables.remote_scale, 0.0)[routed, way]  # [T, K]

    base, base_expert = tables.base[routed], tables.base_expert[routed]
    base_rank = np.where(base_expert == routed, 0, np.where(base_expert < experts, 1, 2))
    stay = (base < value) | ((base == value) & (base_rank <= (expert != routed)))
    at_home = np.where(base_expert < experts, LOCAL, NOBODY)
    expert = np.where(stay, base_expert, expert)
    scale = np.where(stay, problem.scale[routed, expert], scale)
    plan = SelectionPlan(
        helper=np.where(stay, at_home, np.append(tables.helper, NOBODY)[way]),
        expert=expert,
        weight=np.where(expert < experts, problem.gate_weights * scale, 0.0),
        width=np.where(stay, 0, np.append(tables.width, 0)[way]),
        reply_width=(
            None
            if tables.reply_width is None
            else np.where(stay, 0, np.append(tables.reply_width, 0)[way])
        ),
        status=status,
        energy_j=0.0,
        lower_bound_j=lower_bound_j,
        deviation=(problem.slot_weights() * np.where(stay, base, value)).sum(axis=1),
        solve_s=solve_s,
    )
    return replace(plan, energy_j=plan_energy(problem, plan))


def _and_nobody(table: NDArray[Any], nothing: float) -> NDArray[Any]:
    """Append a column for no way at all."""
    return np.append(table, np.full((len(table), 1), nothing, dtype=table.dtype), axis=1)


@compiled
def best_ways(
    remote: FloatArray, remote_expert: IntArray, routed: IntArray, sets: IntArray
) -> IntArray:
    """Way of each token's set, (T, W), of least deviation for each slot, (T, K); -1 for none.

    Among equals the first one with the slot's own expert, or else the first one.
    """
    tokens, slots = routed.shape
    best = np.full((tokens, slots), -1, np.int64)
    for t in range(tokens):
        for i in range(slots):
            e = routed[t, i]
            least, kept = np.inf, False
            for j in range(sets.shape[1]):
                h = sets[t, j]
                if h < 0 or not remote[e, h] < np.inf:
                    continue
                own = remote_expert[e, h] == e
                if remote[e, h] < least or (remote[e, h] == least and own and not kept):
                    best[t, i], least, kept = h, remote[e, h], own
    return best


def plan_energy(problem: SelectionProblem, plan: SelectionPlan) -> float:
    """Energy of a plan, J: the sum of e_r(q_r) over what its tokens draw on, or of its band."""
    if problem.medium is not None:
        return priced_energy(problem.medium, plan)
    precision = problem.precision
    if precision is None:
        loads = plan.loads(problem.num_helpers)
    else:
        way = precision.way_of(plan.helper, plan.width, plan.reply_width)
        way = np.sort(way, axis=1)  # [T, K]
        once = np.ones(way.shape, dtype=bool)
        once[:, 1:] = way[:, 1:] != way[:, :-1]  # a token goes each way once
        used = way[once & (way >= 0)]
        loads = np.bincount(
            precision.resource[used].reshape(-1),
            weights=precision.way_units[used].reshape(-1),
            minlength=precision.num_resources,
        ).astype(np.int64)
    return float(np.sum(problem.energy[np.arange(loads.size), loads]))

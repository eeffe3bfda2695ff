"""From what a person asked of a policy to the policy and the tables that it selects by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.problems import (
    amplified_tables,
    paper_tables,
    price_tables,
    unknown_tables,
)
from siftmoe.coordinator.selection import Budget, BudgetKind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.coordinator.policies.registry import Policy
    from siftmoe.coordinator.policies.spec import PolicySpec
    from siftmoe.coordinator.policies.wdmoe import WdmoeLinks
    from siftmoe.coordinator.problems import LayerTables
    from siftmoe.models.shape import ModelShape
    from siftmoe.models.similarity import Profile

#: How much deviation a policy may spend, one of:
#: tolerance: per token and layer, as a share of the layer's mean output norm;
#: average: the same on average over a batch;
#: final: deviation of the last hidden state, divided among the layers;
#: price: joule per nat of predicted loss.
BUDGETS = ("tolerance", "average", "final", "price")
#: Policies that spend a budget; the others choose by weights and links alone.
BUDGETED = ("siftmoe", "skip-only", "gate-price")
#: Options of a budgeted policy that shape its tables: scale stand-ins, and price deviations by the
#: measured response of the loss instead of its Fisher sensitivity.
_RESCALE, _RESPONSE = "rescale", "response"


@dataclass(frozen=True, slots=True)
class PreparedPolicy:
    """A policy and what it knows of each layer."""

    select: Policy
    tables: Sequence[LayerTables]


def prepare_policy(
    spec: PolicySpec,
    *,
    shape: ModelShape,
    profile: Profile | None,
    links: Callable[[], WdmoeLinks] | None = None,
) -> PreparedPolicy:
    """Make a policy and its tables.

    Parameters
    ----------
    spec : PolicySpec
    shape : ModelShape
    profile : Profile or None
        Of the bundle; policies that weigh deviations need one.
    links : callable or None
        What the links are when a selection is made; only ``wdmoe`` asks.

    Raises
    ------
    ValueError
        If an option is unknown or missing, or the policy needs a profile and there is none.
    """
    budgets = [name for name in BUDGETS if name in spec.options]
    rescale = bool(spec.options.get(_RESCALE, spec.name in BUDGETED and budgets == ["price"]))
    options: dict[str, Any] = {
        name: value
        for name, value in spec.options.items()
        if name not in BUDGETS and not (name in (_RESCALE, _RESPONSE) and spec.name in BUDGETED)
    }
    if spec.name == "wdmoe":
        options["links"] = links
    tables = _tables(spec, budgets, shape=shape, profile=profile, rescale=rescale)
    return PreparedPolicy(make_policy(spec.name, **options), tables)


def _tables(
    spec: PolicySpec,
    budgets: Sequence[str],
    *,
    shape: ModelShape,
    profile: Profile | None,
    rescale: bool,
) -> Sequence[LayerTables]:
    if spec.name not in BUDGETED:
        if budgets:
            raise ValueError(f"policy {spec}: {spec.name} has no budget, so no {budgets[0]}")
        if profile is None:
            budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)
            return unknown_tables(shape.num_layers, shape.num_experts, budget=budget)
        return price_tables(profile, price_j_per_nat=0.0, rescale=rescale)
    if len(budgets) != 1:
        raise ValueError(
            f"policy {spec} needs one budget, got {len(budgets)}; give {spec.name}:KEY=VALUE "
            f"with one of {', '.join(BUDGETS)}"
        )
    if profile is None:
        raise ValueError(
            f"policy {spec.name} weighs deviations and this bundle has no profile; add one with "
            f"`siftmoe prepare MODEL --out BUNDLE --calibration TEXT`"
        )
    (kind,) = budgets
    value = spec.number(kind) or 0.0
    if kind == "price":
        measured = bool(spec.options.get(_RESPONSE, False))
        return price_tables(profile, price_j_per_nat=value, rescale=rescale, measured=measured)
    if _RESPONSE in spec.options:
        raise ValueError(f"policy {spec}: {_RESPONSE} is of a price, not of {kind}")
    if kind == "final":
        return amplified_tables(profile, final_tolerance=value)
    tables = paper_tables(profile, tolerance=value, rescale=rescale)
    if kind == "tolerance":
        return tables
    return [
        replace(table, budget=Budget(kind=BudgetKind.AVERAGE, value=table.budget.value))
        for table in tables
    ]

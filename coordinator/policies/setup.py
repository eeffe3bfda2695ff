"""Prepares a policy for a run: its options, its tables, and the widths of its vectors."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.policies.registry import (
    POLICIES,
    find_policy,
    make_policy,
    option_names,
)
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.selection.policy import BUDGETS, PolicyRun
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.profiled import (
    amplified_tables,
    paper_tables,
    price_tables,
)
from siftmoe.coordinator.selection.tables import unknown_tables
from siftmoe.coordinator.selection.widths import AUTO, Widths, parse_bits
from siftmoe.models.vectors.packing import FLOAT_WIDTHS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.selection.policy import Policy, PolicyAir
    from siftmoe.coordinator.selection.tables import LayerTables
    from siftmoe.coordinator.selection.widths import Bits
    from siftmoe.models.shape import ModelShape
    from siftmoe.models.similarity.profile import Profile

#: Options of a budgeted policy that shape its tables: scale stand-ins, and price deviations by the
#: measured response of the loss instead of its Fisher sensitivity.
_RESCALE, _RESPONSE = "rescale", "response"
#: Options of every policy: bits of an entry on the way to helpers and back, instead of the run's.
BITS, DOWNLINK_BITS = "bits", "downlink_bits"

_NO_PROFILE = (
    "weighs deviations and this bundle has no profile; add one with "
    "`siftmoe prepare MODEL --out BUNDLE --calibration TEXT`"
)


@dataclass(frozen=True, slots=True)
class PreparedPolicy:
    """A policy, what it knows of each layer, and the widths of its vectors."""

    select: Policy
    tables: Sequence[LayerTables]
    widths: Widths
    reads_router: bool = False


def prepare_policy(
    spec: PolicySpec,
    *,
    shape: ModelShape,
    profile: Profile | None,
    links: Callable[[], LinkStates] | None = None,
    air: Callable[[], PolicyAir] | None = None,
    bits: Bits = 16,
    downlink_bits: Bits | None = None,
) -> PreparedPolicy:
    """Make a policy and its tables.

    Parameters
    ----------
    spec : PolicySpec
    shape : ModelShape
    profile : Profile or None
        Of the bundle; policies that weigh deviations need one.
    links, air : callable or None
        Return the states of the links, and the air, when a selection is made. Policies that ask
        for them get an error where they are missing.
    bits, downlink_bits
        Of the run; a policy's own options go before. A policy that does not choose widths sends
        16 bits where the run leaves them to policies.

    Raises
    ------
    ValueError
        If an option is unknown or missing, or the policy needs a profile and there is none.
    """
    check_options(spec)
    traits = spec.traits
    budgets = [name for name in BUDGETS if name in spec.options]
    rescale = bool(spec.options.get(_RESCALE, bool(traits.budgets) and budgets == ["price"]))
    of_tables = {*BUDGETS, _RESCALE, _RESPONSE} if traits.budgets else set(BUDGETS)
    options: dict[str, Any] = {
        name: value
        for name, value in spec.options.items()
        if name not in of_tables | {BITS, DOWNLINK_BITS}
    }
    widths = widths_of(spec, profile, bits=bits, downlink_bits=downlink_bits)
    tables = _tables(spec, budgets, widths, shape=shape, profile=profile, rescale=rescale)
    run = PolicyRun(
        shape=shape,
        profile=profile,
        widths=widths,
        links=_missing(spec, "links") if links is None else links,
        air=_missing(spec, "air") if air is None else air,
    )
    select = make_policy(spec.name, target=spec.target, run=run, **options)
    return PreparedPolicy(select, tables, widths, traits.reads_router)


def check_options(spec: PolicySpec, *, also: Sequence[str] = ()) -> None:
    """Raise ValueError for an option that a policy does not have; the message lists those it has.

    Parameters
    ----------
    spec : PolicySpec
    also : sequence of str
        Options that the caller handles itself.
    """
    own = option_names(find_policy(spec.name) if spec.target is None else spec.target)
    if own is None:
        return
    of_tables = (*spec.traits.budgets, _RESCALE, _RESPONSE) if spec.traits.budgets else ()
    known = list(dict.fromkeys([*also, *of_tables, BITS, DOWNLINK_BITS, *own]))
    # a budget that the policy does not spend is refused with the tables
    if unknown := sorted(set(spec.options) - {*known, *BUDGETS}):
        raise ValueError(
            f"policy {spec.name!r} has no option {', '.join(unknown)}; it has {', '.join(known)}"
        )


def _missing(spec: PolicySpec, what: str) -> Callable[[], Any]:
    def ask() -> Any:
        raise ValueError(f"policy {spec} asks for the {what} of a run; it was prepared without")

    return ask


def widths_of(
    spec: PolicySpec,
    profile: Profile | None,
    *,
    bits: Bits = 16,
    downlink_bits: Bits | None = None,
) -> Widths:
    """Find the widths of a policy's vectors; arguments as of `prepare_policy`.

    Where the width to helpers is chosen, so is by default the one back.

    Raises
    ------
    ValueError
        If the policy cannot choose widths and is to, or there is no profile to choose by.
    """
    own_up, own_down = spec.options.get(BITS), spec.options.get(DOWNLINK_BITS)
    up = bits if own_up is None else parse_bits(_bits_text(own_up))
    down = downlink_bits if own_down is None else parse_bits(_bits_text(own_down))
    if own_up is not None and up != AUTO and own_down is None and down == AUTO:
        down = None  # the run's answers are chosen where its requests are
    if not spec.traits.chooses_widths:
        if AUTO in (own_up, own_down):
            raise ValueError(
                f"policy {spec}: {spec.name} does not choose widths; name one, or one of the "
                f"policies that do: {', '.join(_choosing())}"
            )
        one = None if down is None or down == AUTO else int(down)
        return Widths.of((16 if up == AUTO else int(up),), one)
    if up == AUTO and down is None:
        down = AUTO
    if AUTO not in (up, down):
        return Widths.of((int(up),), None if down is None else int(down))
    every = _widths_to_choose(spec, profile)
    return Widths(
        every if up == AUTO else (int(up),),
        every if down is None or down == AUTO else (int(down),),
    )


def _widths_to_choose(spec: PolicySpec, profile: Profile | None) -> tuple[int, ...]:
    if profile is None:
        raise ValueError(f"policy {spec}: {_NO_PROFILE}")
    if not profile.widths:
        raise ValueError(
            f"policy {spec}: the bundle's profile has no widths to choose from; measure some with "
            f"`siftmoe prepare MODEL --out BUNDLE --calibration TEXT --replace-profile`"
        )
    return (*profile.widths, FLOAT_WIDTHS[0])


def _choosing() -> list[str]:
    """Built-in policies that choose widths."""
    return [name for name in POLICIES if PolicySpec(name).traits.chooses_widths]


def _bits_text(value: float | bool | str) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _tables(
    spec: PolicySpec,
    budgets: Sequence[str],
    widths: Widths,
    *,
    shape: ModelShape,
    profile: Profile | None,
    rescale: bool,
) -> Sequence[LayerTables]:
    spends = spec.traits.budgets
    if not spends:
        if budgets:
            raise ValueError(f"policy {spec}: {spec.name} has no budget, so no {budgets[0]}")
        if profile is None:
            budget = Budget(kind=BudgetKind.PER_TOKEN, value=0.0)
            return unknown_tables(
                shape.num_layers, shape.num_experts, budget=budget, width=widths.up[0]
            )
        return price_tables(profile, price_j_per_nat=0.0, rescale=rescale, widths=widths)
    if len(budgets) != 1:
        raise ValueError(
            f"policy {spec} needs one budget, got {len(budgets)}; give {spec.name}:KEY=VALUE "
            f"with one of {', '.join(spends)}"
        )
    if profile is None:
        raise ValueError(f"policy {spec.name} {_NO_PROFILE}")
    (kind,) = budgets
    if kind not in spends:
        raise ValueError(
            f"policy {spec}: {spec.name} has no budget {kind}; give {spec.name}:KEY=VALUE with "
            f"one of {', '.join(spends)}"
        )
    value = spec.number(kind) or 0.0
    if kind == "price":
        measured = bool(spec.options.get(_RESPONSE, False))
        return price_tables(
            profile,
            price_j_per_nat=value,
            rescale=rescale,
            measured=measured,
            widths=widths,
        )
    if _RESPONSE in spec.options:
        raise ValueError(f"policy {spec}: {_RESPONSE} is of a price, not of {kind}")
    if kind == "final":
        return amplified_tables(profile, final_tolerance=value, widths=widths)
    tables = paper_tables(profile, tolerance=value, rescale=rescale, widths=widths)
    if kind == "tolerance":
        return tables
    return [
        replace(table, budget=Budget(kind=BudgetKind.AVERAGE, value=table.budget.value))
        for table in tables
    ]

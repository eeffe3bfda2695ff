"""What a user adds to a study: policies beside its own, and another source of links or medium."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec

from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.coordinator.selection.policy import BUDGETS
from siftmoe.tools.experiments.cells.records import KNOB
from siftmoe.tools.experiments.studies.axes import USUAL_LOSS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from siftmoe.tools.experiments.cells.records import Cell

_LOSS = "loss"


def with_policies(cells: Sequence[Cell], policies: Sequence[str]) -> list[Cell]:
    """Add policies to a study, each under every setting of every model.

    A policy that spends a price and names no budget has its price set to the usual loss on
    validation text.

    Parameters
    ----------
    cells : sequence of Cell
        Of the study, without seeds.
    policies : sequence of str
        Each ``+NAME`` or ``+NAME:KEY=VALUE``; the name may be ``package.module:Name``.

    Raises
    ------
    ValueError
        If one has no plus sign, is unknown, or is without the budget that it needs.
    """
    kinds = {(cell.model, msgspec.json.encode(cell.setting), cell.case): cell for cell in cells}
    return [*cells, *(_cell(text, like) for text in policies for like in kinds.values())]


def with_links(cells: Sequence[Cell], links: str) -> list[Cell]:
    """Take the states of links from elsewhere in every cell.

    Raises
    ------
    ValueError
        If a cell has fast fading, which is simulated.
    """
    if any(cell.setting.slots for cell in cells):
        raise ValueError(f"--links {links}: this study simulates fast fading; leave out --links")
    return [
        msgspec.structs.replace(cell, setting=msgspec.structs.replace(cell.setting, links=links))
        for cell in cells
    ]


def with_uplink(cells: Sequence[Cell], uplink: str) -> list[Cell]:
    """Send every cell's requests in another medium.

    Raises
    ------
    ValueError
        If the study varies the medium itself, or has fast fading.
    """
    if len({cell.setting.uplink for cell in cells}) > 1:
        raise ValueError(f"--uplink {uplink}: this study compares the media; leave out --uplink")
    if uplink != "unicast" and any(cell.setting.slots for cell in cells):
        raise ValueError(
            f"--uplink {uplink}: in one band the channel stays as it is within a window; this "
            f"study has fast fading"
        )
    return [
        msgspec.structs.replace(cell, setting=msgspec.structs.replace(cell.setting, uplink=uplink))
        for cell in cells
    ]


def with_air(cells: Sequence[Cell], changes: Mapping[str, Any], *, study: str) -> list[Cell]:
    """Set the same channel or operating point in every cell.

    Parameters
    ----------
    cells : sequence of Cell
    changes : mapping
        Fields of `Setting` and their values.
    study : str
        Its name, for the error.

    Raises
    ------
    ValueError
        If the study varies one of these fields itself, or the distances are not one per helper.
    """
    for name in changes:
        values = {getattr(cell.setting, name) for cell in cells}
        if len(values) > 1:
            raise ValueError(
                f"{name}: study {study!r} compares {len(values)} values of it by itself; leave out "
                f"the option, or take another study"
            )
    changed = [
        msgspec.structs.replace(cell, setting=msgspec.structs.replace(cell.setting, **changes))
        for cell in cells
    ]
    for cell in changed:
        cell.setting.where_m()
    return changed


def _cell(text: str, like: Cell) -> Cell:
    """Make the cell of a policy under the setting of another one."""
    sign, _, rest = text.partition("+")
    if sign or not rest:
        raise ValueError(f"--policy {text}: write +NAME; a study has its own policies beside it")
    spec = PolicySpec.parse(rest)
    loss = spec.number(_LOSS)
    options = {key: value for key, value in spec.options.items() if key != _LOSS}
    if not spec.traits.budgets or set(BUDGETS) & set(options):
        if loss is not None:
            raise ValueError(f"--policy {text}: a loss sets a price; give no other budget")
        return msgspec.structs.replace(
            like, curve=str(spec), template=str(spec), value=None, loss=None
        )
    if "price" not in spec.traits.budgets:
        needed = " or ".join(spec.traits.budgets)
        raise ValueError(f"--policy {text}: {spec.name} needs a budget: {needed}")
    template = f"{replace(spec, options=options)}:price={KNOB}"
    stated = USUAL_LOSS if loss is None else loss
    return msgspec.structs.replace(
        like, curve=str(spec), template=template, value=None, loss=stated
    )

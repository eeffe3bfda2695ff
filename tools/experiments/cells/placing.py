"""Placement of a cell's experts: in turn with replicas, or chosen for the cell's links."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from siftmoe.coordinator.placing.choosing import choose_placement
from siftmoe.coordinator.placing.testbed import (
    demand_of,
    drawn_states,
    link_prices,
    placement_problem,
)
from siftmoe.tools.experiments.cells.records import PLACEMENTS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.air.interface import AirInterface
    from siftmoe.coordinator.config.radio import RadioEntry
    from siftmoe.models.shape import ModelShape
    from siftmoe.models.similarity.profile import Profile
    from siftmoe.tools.experiments.cells.records import Setting

    BoolArray = NDArray[np.bool_]

#: Price at which losses count in a placement by loss, in energies of a token at the mean gain per
#: nat: about that of a loss of 2.5 % in the study of energy at equal quality.
PLACING_PRICE: Final = 200.0
#: Channel states that a placement is chosen by; no cell has them.
_STATES: Final = 64


def placed_hosts(
    setting: Setting,
    *,
    shape: ModelShape,
    profile: Profile | None,
    air: AirInterface,
    radio: RadioEntry,
    price_j_per_nat: float,
) -> BoolArray:
    """Which helper hosts which expert, (N, L, E).

    Parameters
    ----------
    setting : Setting
    shape : ModelShape
    profile : Profile or None
        Demand; only a placement in turn needs none.
    air : AirInterface
        With one width.
    radio : RadioEntry
        Of the links.
    price_j_per_nat : float, J
        Of a placement by loss.

    Raises
    ------
    ValueError
        If a placement is chosen and there is no profile.
    PlacementError
        If the experts do not fit.
    """
    helpers = setting.num_helpers
    if setting.placement == PLACEMENTS[0]:
        return in_turn(shape, helpers=helpers, hosts=setting.most_hosts)
    if profile is None:
        raise ValueError(
            f"placement {setting.placement!r} needs a profile, and this bundle has none"
        )
    by_loss = setting.placement == PLACEMENTS[2]
    problem = placement_problem(
        demand_of(profile, shape, price_j_per_nat=price_j_per_nat if by_loss else None),
        link_prices(air, drawn_states(radio, setting.where_m(), count=_STATES)),
        num_bytes=np.ones((shape.num_layers, shape.num_experts), dtype=np.int64),
        capacity_bytes=np.full(helpers, setting.memory_experts, dtype=np.int64),
        most_hosts=setting.most_hosts,
    )
    return choose_placement(problem, time_limit_s=0.0).hosts


def in_turn(shape: ModelShape, *, helpers: int, hosts: int) -> BoolArray:
    """Put expert e of every layer on helper e mod N, and its replicas on the next ones."""
    expert = np.arange(shape.num_experts)
    placed = np.zeros((helpers, shape.num_layers, shape.num_experts), dtype=bool)
    for replica in range(hosts):
        placed[(expert + replica) % helpers, :, expert] = True
    return placed

"""Chooses a testbed's placement and compares it in channel states that it was not chosen by."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.coordinator.air.assembly import air_interface
from siftmoe.coordinator.config.testbed import load_testbed
from siftmoe.coordinator.errors import CoordinatorError
from siftmoe.coordinator.fleet.placement import Placement, place
from siftmoe.coordinator.placing.choosing import choose_placement
from siftmoe.coordinator.placing.sounded import sounded_states
from siftmoe.coordinator.placing.testbed import (
    demand_of,
    drawn_states,
    link_prices,
    memories_of,
    placement_problem,
    sizes_of,
)
from siftmoe.models.similarity.file import read_profile
from siftmoe.tools.bundles import open_with_progress
from siftmoe.tools.results.policies import LEDGER_FILE
from siftmoe.tools.terminal.progress import working

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from siftmoe.coordinator.config.entries import ExpertId, Testbed
    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.placing.choosing import Choice
    from siftmoe.coordinator.placing.problem import PlacementProblem
    from siftmoe.models.shape import ModelShape

    BoolArray = NDArray[np.bool_]

#: Channel states in which placements are compared: ten times those of the choice, and others.
_COMPARED: Final = 10
#: Fewer sounded states serve for the choice and for the comparison.
_LEAST_TO_HALVE: Final = 8

ROUND_ROBIN, AS_WRITTEN, PLACED = "round robin", "as in the file", "placed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Options of ``siftmoe place``."""

    testbed: Path
    price_j_per_nat: float | None = None
    most_hosts: int | None = None
    memory_bytes: int | None = None
    states: int = 32
    soundings: Path | None = None
    limit_s: float = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One placement in the states of the comparison.

    Parameters
    ----------
    name : str
    cost_j : float, J per token
        Energy, and the priced loss where there is a price.
    error_j : float, J
        Standard error over the states.
    saved, saved_error : float
        Share of round robin's cost, paired over the states, and its standard error.
    fits : bool
        Whether it keeps within every memory.
    """

    name: str
    cost_j: float
    error_j: float
    saved: float
    saved_error: float
    fits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A chosen placement.

    Parameters
    ----------
    agents : tuple of str
    distances_m : tuple of float, m
    choice : Choice
    problem : PlacementProblem
    compared : tuple of Compared
    priced : bool
        Whether costs have a priced loss in them.
    origin : str
        Where the states of the links come from.
    states, compared_states : int
    """

    agents: tuple[str, ...]
    distances_m: tuple[float, ...]
    choice: Choice
    problem: PlacementProblem
    compared: tuple[Compared, ...]
    priced: bool
    origin: str
    states: int
    compared_states: int

    @property
    def experts(self) -> dict[str, list[ExpertId]]:
        """Layer and expert by agent."""
        return {
            name: [(int(layer), int(e)) for layer, e in np.argwhere(self.choice.hosts[n])]
            for n, name in enumerate(self.agents)
        }

    def document(self, out: Path | None) -> dict[str, Any]:
        """Everything as JSON values."""
        used = self.problem.used_bytes(self.choice.hosts)
        return {
            "agents": [
                {
                    "name": name,
                    "distance_m": self.distances_m[n],
                    "experts": [list(pair) for pair in self.experts[name]],
                    "used_bytes": int(used[n]),
                    "memory_bytes": int(self.problem.capacity_bytes[n]),
                }
                for n, name in enumerate(self.agents)
            ],
            "compared": [
                {name: getattr(row, name) for name in Compared.__slots__} for row in self.compared
            ],
            "cost_j": self.choice.cost_j,
            "greedy_j": self.choice.greedy_j,
            "bound_j": self.choice.bound_j,
            "bound": self.choice.bound,
            "gap": self.choice.gap,
            "guarantee": self.choice.guarantee,
            "priced": self.priced,
            "links": self.origin,
            "states": self.states,
            "compared_states": self.compared_states,
            "out": None if out is None else str(out),
        }


def plan_placement(wanted: Wanted) -> Placed:
    """Choose a placement for a testbed.

    Raises
    ------
    ConfigError
        If the file is wrong.
    PlacementError
        If the experts do not fit, or an agent states no memory or is never in reach.
    ProfileMissing
        If the bundle has no profile.
    """
    testbed = load_testbed(wanted.testbed)
    bundle = open_with_progress(testbed.model.bundle)
    profile = read_profile(bundle.manifest)
    distances = [agent.distance_m for agent in testbed.agent]
    choose_by, compare_by = _states(wanted, testbed, distances)
    sizes = sizes_of(bundle.manifest)
    air = air_interface(testbed.radio, bundle.shape, distances_m=distances)
    problem = placement_problem(
        demand_of(profile, bundle.shape, price_j_per_nat=wanted.price_j_per_nat),
        link_prices(air, choose_by),
        num_bytes=sizes,
        capacity_bytes=memories_of(testbed.agent, default=wanted.memory_bytes),
        most_hosts=wanted.most_hosts,
    )
    with working("placing the experts"):
        choice = choose_placement(problem, time_limit_s=wanted.limit_s)
    others = {ROUND_ROBIN: _round_robin(bundle.shape, len(distances))}
    if (written := _as_written(testbed, bundle.shape, sizes)) is not None:
        others[AS_WRITTEN] = written
    held_out = replace(problem, link_j=link_prices(air, compare_by))
    return Placed(
        agents=tuple(agent.name for agent in testbed.agent),
        distances_m=tuple(distances),
        choice=choice,
        problem=problem,
        compared=compare(held_out, {**others, PLACED: choice.hosts}),
        priced=wanted.price_j_per_nat is not None,
        origin=testbed.radio.links if wanted.soundings is None else "soundings",
        states=len(choose_by),
        compared_states=len(compare_by),
    )


def _states(
    wanted: Wanted, testbed: Testbed, distances: list[float]
) -> tuple[list[LinkStates], list[LinkStates]]:
    """States to choose by, and others to compare in."""
    if wanted.soundings is None:
        count = wanted.states
        return (
            drawn_states(testbed.radio, distances, count=count),
            drawn_states(testbed.radio, distances, count=_COMPARED * count, first=count),
        )
    names = [agent.name for agent in testbed.agent]
    found = sounded_states(
        wanted.soundings / LEDGER_FILE, names, bandwidth_hz=testbed.radio.bandwidth_hz
    )
    if len(found) < _LEAST_TO_HALVE:
        return found, found
    return found[::2], found[1::2]


def _round_robin(shape: ModelShape, helpers: int) -> BoolArray:
    return hosts_of(Placement.round_robin(shape, num_helpers=helpers), shape)


def _as_written(testbed: Testbed, shape: ModelShape, sizes: NDArray[np.int64]) -> BoolArray | None:
    """Return what the file places now; None where that is no placement."""
    num_bytes = {(int(m), int(e)): int(sizes[m, e]) for m, e in np.ndindex(sizes.shape)}
    try:
        return hosts_of(place(testbed.agent, shape, num_bytes=num_bytes), shape)
    except CoordinatorError:
        return None


def hosts_of(placement: Placement, shape: ModelShape) -> BoolArray:
    """Return a placement as an array, (N, L, E)."""
    hosts = np.zeros((len(placement.experts), shape.num_layers, shape.num_experts), dtype=bool)
    for helper, experts in enumerate(placement.experts):
        for layer, expert in experts:
            hosts[helper, layer, expert] = True
    return hosts


def compare(problem: PlacementProblem, placements: dict[str, BoolArray]) -> tuple[Compared, ...]:
    """Compare placements in the same states; the first is the reference."""
    per_state = {
        name: (problem.slots * problem.slot_costs_j(hosts)).sum(axis=(1, 2))  # [S]
        for name, hosts in placements.items()
    }
    reference = next(iter(per_state.values()))
    base = float(reference.mean())
    found = []
    for name, cost in per_state.items():
        kept = float(cost.mean()) / base
        found.append(
            Compared(
                name=name,
                cost_j=float(cost.mean()),
                error_j=_error(cost),
                saved=1.0 - kept,
                # of a quotient of means over the same states, by the delta method
                saved_error=_error(cost - kept * reference) / base,
                fits=bool((problem.used_bytes(placements[name]) <= problem.capacity_bytes).all()),
            )
        )
    return tuple(found)


def _error(values: NDArray[np.float64]) -> float:
    """Return the standard error of a mean; 0 of a single value, which is a mean gain."""
    return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0

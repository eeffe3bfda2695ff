"""A placement on the terminal: a table of agents, one of placements, and what is proved."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.tools.showing.quantities import si

if TYPE_CHECKING:
    from collections.abc import Iterator

    from siftmoe.tools.placing.plan import Placed

Table = tuple[list[str], list[list[str]]]


def agents_table(placed: Placed) -> Table:
    """Return what each agent holds, and its share of the slots that its experts may serve."""
    problem, hosts = placed.problem, placed.choice.hosts
    used, counts = problem.used_bytes(hosts), hosts.sum(axis=0)  # [N], [L, E]
    rows = []
    for n, name in enumerate(placed.agents):
        copies = int((hosts[n] & (counts > 1)).sum())
        demand = float((problem.slots * hosts[n]).sum() / problem.slots.sum())
        rows.append(
            [
                name,
                f"{placed.distances_m[n]:g} m",
                str(int(hosts[n].sum())),
                str(copies),
                f"{used[n] / 1e6:.2f} of {problem.capacity_bytes[n] / 1e6:.2f} MB",
                f"{demand:.0%}",
            ]
        )
    return ["agent", "distance", "experts", "shared", "memory", "demand"], rows


def compared_table(placed: Placed) -> Table:
    """Return the expected cost of a token under each placement."""
    head = "energy and priced loss a token" if placed.priced else "energy a token"
    rows = [
        [
            row.name if row.fits else f"{row.name} (beyond a memory)",
            f"{si(row.cost_j, 'J')} ± {si(row.error_j, 'J')}",
            "" if row is placed.compared[0] else f"{row.saved:.1%} ± {row.saved_error:.1%}",
        ]
        for row in placed.compared
    ]
    return ["placement", f"{head}, expected", f"saved of {placed.compared[0].name}'s"], rows


def sentences(placed: Placed) -> Iterator[str]:
    """Yield what the figures are, and what is proved."""
    where = {"simulated": "simulated links", "soundings": "sounded links"}.get(
        placed.origin, f"links from {placed.origin}"
    )
    yield (
        f"derived: {where}, {placed.states} states to choose by, {placed.compared_states} to "
        f"compare in; each slot of a token is sent on its own. 'shared': experts that other agents "
        f"hold too; 'demand': slots that an agent's experts may serve."
    )
    yield _proof(placed)


def _proof(placed: Placed) -> str:
    choice = placed.choice
    if choice.optimal:
        return f"proved: no placement costs less in these states ({choice.bound})"
    return (
        f"proved: no placement costs {choice.gap:.2%} less than this one in these states "
        f"({choice.bound}); {choice.guarantee}"
    )

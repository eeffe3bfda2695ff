"""What still fits: memory of helpers, hosts of an expert, and room for those without a host."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.errors import PlacementError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.placing.problem import PlacementProblem

    IntArray = NDArray[np.int64]
    BoolArray = NDArray[np.bool_]


class Shelf:
    """A placement that grows, and its free memory; every expert can always find a host.

    Parameters
    ----------
    problem : PlacementProblem

    Raises
    ------
    PlacementError
        If the experts do not fit on the helpers; the message says how many bytes are missing.
    """

    def __init__(self, problem: PlacementProblem) -> None:
        self.hosts: BoolArray = np.zeros((problem.num_helpers, *problem.slots.shape), dtype=bool)
        self.room: IntArray = problem.capacity_bytes.astype(np.int64).copy()
        self._problem = problem
        self._sizes = np.unique(problem.num_bytes)[::-1]  # descending
        self._missing = np.array([(problem.num_bytes == size).sum() for size in self._sizes])
        _check_fits(problem, packed=self._rest_fits(self.room))

    @property
    def complete(self) -> bool:
        """Whether every expert has a host."""
        return not self._missing.any()

    def accepts(self, helper: int, layer: int, expert: int) -> bool:
        """Whether an expert can be put there, with room left for those that have no host yet.

        With experts of several sizes the rest is packed first-fit, the largest first, so a place
        may be refused that a better packing would allow.
        """
        size = self._problem.num_bytes[layer, expert]
        held = self.hosts[:, layer, expert]
        if held[helper] or size > self.room[helper] or held.sum() >= self._problem.most_hosts:
            return False
        room = self.room.copy()
        room[helper] -= size
        return self._rest_fits(room, without=None if held.any() else int(size))

    def put(self, helper: int, layer: int, expert: int) -> None:
        """Add an expert to a helper that accepts it."""
        size = self._problem.num_bytes[layer, expert]
        if not self.hosts[:, layer, expert].any():
            self._missing[self._sizes == size] -= 1
        self.hosts[helper, layer, expert] = True
        self.room[helper] -= size

    def _rest_fits(self, room: IntArray, *, without: int | None = None) -> bool:
        """Whether the experts without a host fit into so much room; one of a size left out."""
        room = room.copy()
        for size, missing in zip(self._sizes, self._missing, strict=True):
            left = int(missing) - int(size == without)
            places = room // size  # [N]
            taken = np.diff(np.minimum(np.cumsum(places), left), prepend=0)  # first fit
            room -= taken * size
            if taken.sum() < left:
                return False
        return True


def uniform_places(problem: PlacementProblem) -> IntArray | None:
    """Experts that each helper holds, (N,), where that does not depend on which they are.

    None where it does: memories are then knapsacks, not counts.
    """
    sizes = np.sort(problem.num_bytes.reshape(-1))
    up = np.concatenate(([0], np.cumsum(sizes)))  # bytes of the smallest k
    down = np.concatenate(([0], np.cumsum(sizes[::-1])))  # of the largest k
    most = np.searchsorted(up, problem.capacity_bytes, side="right") - 1
    least = np.searchsorted(down, problem.capacity_bytes, side="right") - 1
    return most if np.array_equal(most, least) else None


def _check_fits(problem: PlacementProblem, *, packed: bool) -> None:
    needed, offered = int(problem.num_bytes.sum()), int(problem.capacity_bytes.sum())
    if needed > offered:
        raise PlacementError(
            f"the experts need {needed} bytes and {problem.num_helpers} agents offer {offered}: "
            f"{needed - offered} bytes are missing; add agents or memory_bytes"
        )
    if not packed:
        raise PlacementError(
            f"the experts need {needed} of {offered} bytes, but they do not fit beside each other "
            f"on {problem.num_helpers} agents; the largest has {int(problem.num_bytes.max())} "
            f"bytes: add memory_bytes"
        )

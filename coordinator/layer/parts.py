"""What a coordinator is put together from: who can be reached, and who computes a plan.

On agents these are a `Fleet` and a `Dispatcher`; studies put experts of their own process there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.air.interface import AirInterface
    from siftmoe.coordinator.clock import Clock
    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.coordinator.links.states import Links, LinkStates
    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan
    from siftmoe.coordinator.selection.tables import LayerTables

    BoolArray = NDArray[np.bool_]


class Helpers(Protocol):
    """Who can be reached: a `Fleet`, or experts in this process."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names by helper index."""
        ...

    def hosts(self, layer: int) -> NDArray[np.bool_]:
        """Which ready helper holds which expert of a layer, (N, E)."""
        ...

    def knows(self, widths: Sequence[int]) -> NDArray[np.bool_]:
        """Which helper takes and gives vectors of which widths, (N, B)."""
        ...

    def excluded(self) -> str:
        """Who is left out and why; empty if nobody is."""
        ...


class Computation(Protocol):
    """A layer's output and how long its slowest helper took."""

    @property
    def output(self) -> NDArray[np.float32]:
        """Weighted sums, (T, d)."""
        ...

    @property
    def compute_s(self) -> float:
        """Compute time of the slowest helper."""
        ...

    @property
    def queue_s(self) -> float:
        """Time that work waited there."""
        ...

    @property
    def uplink_bits(self) -> Mapping[int, int]:
        """Bits of the vectors that were sent to each helper, scales and padding included."""
        ...

    @property
    def downlink_bits(self) -> Mapping[int, int]:
        """Bits of the vectors that each helper answered with."""
        ...

    @property
    def failures(self) -> Mapping[int, CoordinatorError]:
        """Helpers that gave no result, and why; the output misses what they were to compute."""
        ...

    @property
    def given_up_s(self) -> Mapping[int, float]:
        """After how long each of them was given up."""
        ...


class Dispatch(Protocol):
    """Who computes a plan: a `Dispatcher`, or experts in this process."""

    @property
    def deadline_s(self) -> float:
        """How long a layer's results may take, in real time, whatever fails meanwhile."""
        ...

    def attend(self) -> None:
        """Take in what became of the helpers; AgentUnreachable if none is left."""
        ...

    def attempt(
        self,
        plan: SelectionPlan,
        hidden: NDArray[np.float32],
        *,
        layer: int,
        reply_width: int,
        deadline_s: float | None = None,
    ) -> Computation:
        """Compute a layer as planned, as far as helpers answer in time.

        ``reply_width`` is the bits of an entry of what they answer; the plan says it of the rest.
        """
        ...


class LayerOutput(Protocol):
    """What an expert layer gives: a coordinator's, or the undivided one that audits it."""

    def __call__(
        self,
        layer: int,
        hidden: NDArray[np.float32],
        *,
        routed_experts: NDArray[np.int64],
        gate_weights: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """Weighted sum of the routed experts' outputs.

        Parameters
        ----------
        layer : int
            Index among the model's mixture-of-experts layers.
        hidden : (T, d) float32
        routed_experts : (T, K) int64
            The number of experts marks an empty slot.
        gate_weights : (T, K) float64

        Returns
        -------
        (T, d) float32
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What serves layers; see `siftmoe.coordinator.coordinator.Coordinator`."""

    fleet: Helpers
    dispatcher: Dispatch
    links: Links
    air: AirInterface
    policy: Policy
    tables: Sequence[LayerTables]
    ledger: Ledger
    clock: Clock
    told: set[str] = field(default_factory=set)

    def excluded(self, links: LinkStates) -> str:
        """Who is left out, and why."""
        texts = (self.fleet.excluded(), links.lost_text(), self._unable())
        return "; ".join(text for text in texts if text)

    def known(self) -> BoolArray:
        """Which helper can be sent which of the air's widths, and answer in its, (N, B)."""
        answers: BoolArray = self.fleet.knows((self.air.reply_width,))
        return self.fleet.knows(self.air.widths) & answers

    def _unable(self) -> str:
        """Who is there and understands none of them."""
        unable = self.fleet.hosts(0).any(axis=1) & ~self.known().any(axis=1)  # [N]
        if not unable.any():
            return ""
        names = ", ".join(self.fleet.names[n] for n in np.flatnonzero(unable))
        bits = ", ".join(map(str, self.air.widths))
        return f"{names}: knows not both {bits} bits and answers of {self.air.reply_width}"

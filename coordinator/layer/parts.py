"""Parts of a coordinator, and the protocols of those that a study may replace.

With agents, `Helpers` is a `Fleet` and `Dispatch` a `Dispatcher`; studies use experts in their own
process instead.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from siftmoe.coordinator.air.protocol import Air
    from siftmoe.coordinator.clock import Clock
    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.coordinator.ledger.store import Ledger
    from siftmoe.coordinator.links.states import Links, LinkStates
    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan
    from siftmoe.coordinator.selection.tables import LayerTables

    BoolArray = NDArray[np.bool_]


class Helpers(Protocol):
    """Reachable helpers: a `Fleet`, or experts in this process."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names by helper index."""
        ...

    def hosts(self, layer: int) -> NDArray[np.bool_]:
        """Which ready helper holds which expert of a layer, (N, E)."""
        ...

    def knows(self, widths: Sequence[int]) -> NDArray[np.bool_]:
        """Which helper supports vectors of which widths, (N, B)."""
        ...

    def answers_mixed(self) -> NDArray[np.bool_]:
        """Which helper gives answers of several widths in one message, (N,)."""
        ...

    def excluded(self) -> str:
        """Excluded helpers, with reasons; empty if there are none."""
        ...


class Computation(Protocol):
    """A layer's output, with times, payloads and failures."""

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
        """Queue time at the slowest helper."""
        ...

    @property
    def uplink_bits(self) -> Mapping[int, int]:
        """Bits of the vectors sent to each helper, scales and padding included."""
        ...

    @property
    def downlink_bits(self) -> Mapping[int, int]:
        """Bits of the vectors in each helper's reply."""
        ...

    @property
    def failures(self) -> Mapping[int, CoordinatorError]:
        """Error of each helper without a result; its part is missing in the output."""
        ...

    @property
    def given_up_s(self) -> Mapping[int, float]:
        """Time from sending to giving up, of each of them."""
        ...


class Dispatch(Protocol):
    """Computes plans: a `Dispatcher`, or experts in this process."""

    @property
    def deadline_s(self) -> float:
        """Time limit of a layer's results, in real time, retries included."""
        ...

    def attend(self) -> None:
        """Update the helpers' states; AgentUnreachable if none is ready."""
        ...

    def attempt(
        self,
        plan: SelectionPlan,
        hidden: NDArray[np.float32],
        *,
        layer: int,
        reply_width: int,
        deadline_s: float | None = None,
        usual_norm: NDArray[np.float64] | None = None,
    ) -> Computation:
        """Compute a layer as planned, as far as helpers answer in time.

        ``reply_width`` is the bits of an entry of the replies; the plan has those of the requests.
        ``usual_norm`` (E,) is the mean norm of each expert's output, to judge results by.
        """
        ...


class LayerOutput(Protocol):
    """Computes an expert layer: a coordinator, or the undivided layer that audits it."""

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
    """Everything that serves layers; see `siftmoe.coordinator.coordinator.Coordinator`."""

    fleet: Helpers
    dispatcher: Dispatch
    links: Links
    air: Air
    policy: Policy
    tables: Sequence[LayerTables]
    ledger: Ledger
    clock: Clock
    warned: set[str] = field(default_factory=set)

    def excluded(self, links: LinkStates) -> str:
        """Excluded helpers and links, with reasons."""
        texts = (self.fleet.excluded(), links.lost_text(), self._unable())
        return "; ".join(text for text in texts if text)

    def known(self) -> BoolArray:
        """Which helper supports which of the air's widths, and one of its answers', (N, B)."""
        answers: BoolArray = np.any(self.answers(), axis=1, keepdims=True)
        if len(self.air.reply_widths) > 1:
            answers = answers & self.fleet.answers_mixed()[:, np.newaxis]
        return self.fleet.knows(self.air.widths) & answers

    def answers(self) -> BoolArray:
        """Which helper can answer in which of the air's widths of answers, (N, V)."""
        return self.fleet.knows(self.air.reply_widths)

    def _unable(self) -> str:
        """Ready helpers that support none of the widths, as text; empty if there are none."""
        unable = self.fleet.hosts(0).any(axis=1) & ~self.known().any(axis=1)  # [N]
        if not unable.any():
            return ""
        names = ", ".join(self.fleet.names[n] for n in np.flatnonzero(unable))
        bits = ", ".join(map(str, self.air.widths))
        answers = ", ".join(map(str, self.air.reply_widths))
        return f"{names}: knows not both {bits} bits and answers of {answers}"

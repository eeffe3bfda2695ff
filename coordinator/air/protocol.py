"""The air protocol: prices loads before a selection, transmits the plan after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from siftmoe.coordinator.selection.policy import PolicyAir

if TYPE_CHECKING:
    from siftmoe.coordinator.air.bursts import Bursts, Transfer
    from siftmoe.coordinator.energy.pricing import Pricing
    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem


class Air(PolicyAir, Protocol):
    """How hidden states travel; `siftmoe.coordinator.air.interface.AirInterface` is one."""

    @property
    def widths(self) -> tuple[int, ...]:
        """Bits of an entry that vectors may have on their way to a helper."""
        ...

    @property
    def reply_width(self) -> int:
        """Bits of an entry of what comes back, where a plan does not choose it."""
        ...

    @property
    def reply_widths(self) -> tuple[int, ...]:
        """Bits of an entry that vectors may have on their way back."""
        ...

    def pricing(self, links: LinkStates, tokens: int) -> Pricing:
        """Price the loads of so many tokens on these links, before anything is selected."""
        ...

    def transfer(
        self, problem: SelectionProblem, plan: SelectionPlan, links: LinkStates, *, policy: Policy
    ) -> Transfer:
        """Send a plan: its bursts up and down, and what of it arrives."""
        ...

    def airtime_s(self, up: Bursts, down: Bursts) -> float:
        """Return the time on the air of a layer's bursts, s."""
        ...

    def latency_s(self, up: Bursts, down: Bursts) -> float:
        """Return the time from the first burst up to the last one down, compute included, s."""
        ...

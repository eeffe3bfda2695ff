"""Counts figures that the ledger has no column for, between a coordinator and its policy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.energy.sharing import share_band
from siftmoe.coordinator.links.states import Direction
from siftmoe.coordinator.policies.wdmoe.devices import wdmoe_links

if TYPE_CHECKING:
    from siftmoe.coordinator.air.interface import AirInterface
    from siftmoe.coordinator.links.states import Links, LinkStates
    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem


class Probe:
    """The links and the policy of a coordinator, with counters.

    Parameters
    ----------
    policy : callable
    links : Links
    air : AirInterface
    num_layers : int
    coherence_time_s : float
        Of block fading: states within one block are the same state.

    Attributes
    ----------
    exact_tokens : list of int
        Per layer, tokens of which every slot is kept.
    latency_uniform_s, latency_optimal_s : float, s
        Sums over selections; see ``TaskRecord``.
    shared_j : float, J
        The same of the uplink in one band; NaN where tokens have windows of their own.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        links: Links,
        air: AirInterface,
        num_layers: int,
        coherence_time_s: float,
    ) -> None:
        self.exact_tokens = [0] * num_layers
        self.latency_uniform_s = 0.0
        self.latency_optimal_s = 0.0
        self.shared_j = 0.0
        self._policy = policy
        self._links = links
        self._air = air
        self._coherence_time_s = coherence_time_s
        self._blocks: set[int] = set()
        self._selections = 0
        self._now: LinkStates | None = None

    @property
    def num_links(self) -> int:
        """N."""
        return self._links.num_links

    @property
    def channel_states(self) -> int:
        """Independent states of each link so far."""
        return len(self._blocks)

    def states(self, now_s: float) -> LinkStates:
        """Return the links' states."""
        self._blocks.add(int(now_s // self._coherence_time_s))
        self._now = self._links.states(now_s)
        return self._now

    def select(self, problem: SelectionProblem) -> SelectionPlan:
        """Select as the policy does; layers follow each other in order."""
        plan = self._policy(problem)
        layer = self._selections % len(self.exact_tokens)
        self._selections += 1
        kept = (plan.expert == problem.routed_experts).all(axis=1)
        self.exact_tokens[layer] += int(kept.sum())
        self._book_latency(plan)
        self._book_shared(plan)
        return plan

    def _book_shared(self, plan: SelectionPlan) -> None:
        """Add the energy of the plan's uplink with the band of all helpers divided among them."""
        if self._now is None or not self._air.shared_window:
            self.shared_j = math.nan
            return
        widths = self._air.width_bits or {self._air.width: self._air.bits(Direction.UP)}
        counts = plan.loads_by_width(self.num_links, tuple(widths))  # [N, B]
        _, energy = share_band(
            (counts @ np.array(list(widths.values()))).astype(np.float64),
            airtime_s=self._air.window_s(len(plan.helper)),
            band_hz=float(self._now.bandwidth_hz.sum()),
            gain=self._now.uplink_gain,
            noise_psd=self._now.noise_psd,
        )
        self.shared_j += float(energy.sum())

    def _book_latency(self, plan: SelectionPlan) -> None:
        if self._now is None:
            raise ValueError("a policy selected before its coordinator asked for the links")
        devices = wdmoe_links(self._now, self._air)
        loads = plan.loads(self.num_links).astype(np.float64)
        busy = loads > 0.0
        if not busy.any():
            return
        even = np.where(busy, devices.bandwidth_hz / busy.sum(), 0.0)
        token_s = devices.token_latency(even)
        self.latency_uniform_s += float((loads[busy] * token_s[busy]).max())
        self.latency_optimal_s += devices.allocate(loads)[0]

"""Turns a plan's loads into bursts of both directions, with airtime, power and energy.

The energy model stands in `siftmoe.coordinator.air.prices`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.air.bursts import Bursts, Load, Transfer, burst_energy
from siftmoe.coordinator.air.control import plan_control_bits
from siftmoe.coordinator.air.dividing import divided, settled
from siftmoe.coordinator.air.prices import AirPrices
from siftmoe.coordinator.links.states import Direction

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.coordinator.links.states import LinkStates
    from siftmoe.coordinator.selection.policy import Policy
    from siftmoe.coordinator.selection.problem import SelectionPlan, SelectionProblem

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


__all__ = ["AirInterface", "Bursts", "Direction", "Transfer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AirInterface(AirPrices):
    """Transmits plans: every load becomes a burst. Parameters as `AirPrices`."""

    def transfer(
        self, problem: SelectionProblem, plan: SelectionPlan, links: LinkStates, *, policy: Policy
    ) -> Transfer:
        """Bursts of a plan in both directions.

        Parameters
        ----------
        problem : SelectionProblem
            Solved by the plan.
        plan : SelectionPlan
        links : LinkStates
        policy : callable
            The policy that made the plan; an air interface whose channel changes during the window
            may call it again.
        """
        tokens = problem.num_tokens
        if self.deadline_shared and self.width_choice and tokens > 1:
            plan = settled(self, problem, plan, links, policy=policy)
        load, back = self.loads(problem, plan)
        return Transfer(
            plan=plan,
            up=self.bursts(load, links, tokens=tokens, direction=Direction.UP, other=back),
            down=self.bursts(back, links, tokens=tokens, direction=Direction.DOWN, other=load),
        )

    def loads(self, problem: SelectionProblem, plan: SelectionPlan) -> tuple[Load, Load]:
        """Return a plan's loads in both directions, with their control where it counts."""
        load = self.load(plan, problem.num_helpers)
        back = self.load_back(plan, problem.num_helpers)
        if not self.control:
            return load, back
        up, down = plan_control_bits(plan, problem.hosts, reply_width=self.reply_width)
        return replace(load, control=up), replace(back, control=down)

    def load(self, plan: SelectionPlan, num_helpers: int) -> Load:
        """Tokens of a plan by helper and width."""
        widths = self.widths
        bits = list(self.width_bits.values()) or [self.payload_bits]
        return Load(
            count=plan.loads_by_width(num_helpers, widths),
            width=widths,
            bits=np.array(bits, dtype=np.float64),
            control=np.zeros(num_helpers),
        )

    def load_back(self, plan: SelectionPlan, num_helpers: int) -> Load:
        """Answers to a plan by helper and width.

        Raises
        ------
        ValueError
            If the plan asks for answers of a width that the air has no bits for.
        """
        if plan.reply_width is None:
            return self.load_of(plan.loads(num_helpers), Direction.DOWN)
        bits = self.reply_width_bits or {self.reply_width: self.bits(Direction.DOWN)}
        return Load(
            count=plan.replies_by_width(num_helpers, list(bits)),
            width=tuple(bits),
            bits=np.array(list(bits.values()), dtype=np.float64),
            control=np.zeros(num_helpers),
        )

    def load_of(self, tokens: IntArray, direction: Direction) -> Load:
        """Load of ``tokens`` by helper, (N,), all of the direction's one width."""
        width = self.width if direction is Direction.UP else self.reply_width
        return Load(
            count=tokens[:, None],
            width=(width,),
            bits=np.array([self.bits(direction)], dtype=np.float64),
            control=np.zeros(len(tokens)),
        )

    def bursts(
        self,
        load: Load,
        links: LinkStates,
        *,
        tokens: int,
        direction: Direction,
        other: Load | None = None,
    ) -> Bursts:
        """Bursts of given loads.

        Parameters
        ----------
        load : Load
        links : LinkStates
        tokens : int
            Size of the batch, which sets the window.
        direction : Direction
        other : Load or None
            Of the other direction, where both share a deadline; None: of as many tokens, of the
            one width.

        Raises
        ------
        ValueError
            If a load does not fit the deadline that both directions share.
        """
        count = load.tokens
        helper = np.flatnonzero(count)
        bits = load.payload_bits[helper]
        spent = burst_energy(
            load,
            self._way(links, direction),
            helper,
            airtime_s=self._airtimes(load, other, links, tokens=tokens, direction=direction)[
                helper
            ],
            together=self.shared_window,
            circuit_power_w=self.circuit_power_w(direction),
        )
        return Bursts(
            direction=direction,
            helper=helper,
            tokens=count[helper],
            missed=np.zeros_like(helper),
            by_width=load.count[helper],
            width=load.width,
            payload_bits=bits,
            tx_power_w=spent.radiated_j / spent.airtime_s,
            airtime_s=spent.airtime_s,
            energy_j=spent.radiated_j,
            rate_bps=bits / spent.airtime_s,
            control_bits=load.control[helper],
            circuit_tx_j=self.circuit.sender_w(direction) * spent.airtime_s,
            circuit_rx_j=self.circuit.receiver_w(direction) * spent.airtime_s,
            window_s=self.window_s(tokens),
        )

    def _airtimes(
        self,
        load: Load,
        other: Load | None,
        links: LinkStates,
        *,
        tokens: int,
        direction: Direction,
    ) -> FloatArray:
        """Airtime of every helper's load, (N,) s."""
        loads, together = load.tokens, self.shared_window
        if self.deadline_shared and together and other is not None:
            up = direction is Direction.UP
            sent, back = (load, other) if up else (other, load)
            found = divided(self, sent, back, links, tokens=tokens)
            return found.uplink_s if up else found.downlink_s
        windows = np.ones(len(loads)) if together else loads.astype(np.float64)
        if not self.deadline_shared:
            return windows * self.window_s(tokens if together else 1)
        trip = self.round_trip(links, tokens if together else 1)
        both = trip.airtimes((loads if together else np.minimum(loads, 1))[:, None])  # [2, N, 1]
        if np.isnan(both).any():
            raise ValueError(f"loads {loads.tolist()} do not fit a deadline of {trip.window_s} s")
        airtime: FloatArray = windows * both[0 if direction is Direction.UP else 1, :, 0]
        return airtime

    def airtime_s(self, up: Bursts, down: Bursts) -> float:
        """Time on the air until the last helper is done, both directions."""
        if not len(up.helper):
            return 0.0
        if self.deadline_shared:
            return float((up.airtime_s + down.airtime_s).max())
        return self._taken_s(up) + self._taken_s(down)

    def latency_s(self, up: Bursts, down: Bursts) -> float:
        """Time until attention can go on: the slowest helper's uplink, compute and downlink."""
        if not len(up.helper):
            return 0.0
        if self.deadline_shared:
            return up.window_s
        compute_s = self.compute_s_per_token * float(up.tokens.max())
        return self._taken_s(up) + compute_s + self._taken_s(down)

    def _taken_s(self, bursts: Bursts) -> float:
        """Time of one direction: the window, or less where circuits end all bursts early."""
        if not self.circuit_power_w(bursts.direction):
            return bursts.window_s
        return float(bursts.airtime_s.max(initial=0.0))

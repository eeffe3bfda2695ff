"""A coordinator on a small model's experts in this process, on links that do not change."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from siftmoe.coordinator.air.interface import AirInterface
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.errors import AgentUnreachable
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.links.fixed import FixedLinks
from siftmoe.coordinator.policies.registry import make_policy
from siftmoe.coordinator.selection.problem import Budget, BudgetKind
from siftmoe.coordinator.selection.tables import unknown_tables
from siftmoe.models.bundle.reader import Bundle
from siftmoe.tools.comparing.inprocess import AllReady

HELPERS = 2
GAIN, BACK, NOISE, BAND = [1e-8, 4e-8], [2e-8, 5e-8], 4e-21, 2e6
BITS, DEADLINE, COMPUTE = 256, 2e-4, 3e-5
LINKS = FixedLinks(gain=GAIN, downlink_gain=BACK, noise_psd=NOISE, bandwidth_hz=BAND)


class Faulty:
    """A dispatcher that breaks off at a given call."""

    def __init__(self, dispatcher: Any, *, at: int) -> None:
        self._dispatcher, self._left = dispatcher, at
        self.deadline_s = dispatcher.deadline_s
        self.attend = dispatcher.attend

    def attempt(self, *args: Any, **options: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise AgentUnreachable("agent 'agent-1' is dead: it was killed")
        return self._dispatcher.attempt(*args, **options)


def make(bundle: Bundle, dispatcher: Any, ledger: Ledger, **changes: Any) -> Coordinator:
    shape = bundle.shape
    parts: dict[str, Any] = {
        "fleet": AllReady(shape, HELPERS),
        "dispatcher": dispatcher,
        "links": LINKS,
        "air": AirInterface(
            payload_bits=BITS,
            token_deadline_s=DEADLINE,
            tx_power_limit_w=1.0,
            compute_s_per_token=COMPUTE,
            width=32,
            reply_width=32,
        ),
        "policy": make_policy("topk"),
        "tables": unknown_tables(
            shape.num_layers,
            shape.num_experts,
            budget=Budget(kind=BudgetKind.PER_TOKEN, value=0.0),
            width=32,
        ),
        "ledger": ledger,
    }
    return Coordinator(**{**parts, **changes})


def feed(model: Any, length: int) -> None:
    with torch.inference_mode():
        model(input_ids=torch.arange(3, 3 + length)[None])


def serve(coordinator: Coordinator, bundle: Bundle, routed: list[list[int]]) -> Any:
    """Output of the first layer for some rows, weights 0.6 and 0.4."""
    hidden = np.linspace(-1, 1, len(routed) * bundle.shape.hidden_size, dtype=np.float32)
    return coordinator.run_layer(
        0,
        hidden.reshape(len(routed), -1),
        routed_experts=np.array(routed),
        gate_weights=np.tile([0.6, 0.4], (len(routed), 1)),
    )

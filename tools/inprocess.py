"""Experts in this process instead of on agents, behind the same selection and the same books.

Studies that need thousands of tokens under many settings, and the choice of an exchange rate on
validation text, run the coordinator on it: everything but the sockets is the same code. Hidden
states are rounded to the payload's precision as if they had travelled.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.agent.providers import provider_order
from siftmoe.agent.runtime import Runtime
from siftmoe.coordinator.selection import NOBODY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.coordinator.selection import SelectionPlan
    from siftmoe.models.bundle import Bundle
    from siftmoe.models.shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """What a layer's experts answered, and how long they took; the fields of a dispatch."""

    output: NDArray[np.float32]
    compute_s: float
    queue_s: float = 0.0
    failures: Mapping[int, CoordinatorError] = field(default_factory=dict)
    given_up_s: Mapping[int, float] = field(default_factory=dict)


class ExpertsInProcess:
    """Every expert of a bundle on ONNX Runtime in this process.

    Parameters
    ----------
    bundle : Bundle
    payload_dtype : "float16" or "float32"
        Precision in which hidden states would travel.
    """

    def __init__(self, bundle: Bundle, *, payload_dtype: str) -> None:
        shape = bundle.shape
        self._dtype = np.dtype(payload_dtype)
        self._runtime = Runtime.load(
            bundle.manifest, _every_expert(shape), providers=provider_order("auto"), threads=1
        )

    #: Nothing is waited for.
    deadline_s = math.inf

    def attend(self) -> None:
        """Nobody ever fails."""

    def attempt(
        self,
        plan: SelectionPlan,
        hidden: NDArray[np.float32],
        *,
        layer: int,
        deadline_s: float | None = None,
    ) -> Computed:
        """Weighted sum over each token's served slots, (T, d)."""
        del deadline_s
        began = time.perf_counter()
        rows, slots = np.nonzero(plan.helper != NOBODY)
        pairs = np.stack((rows, plan.expert[rows, slots]), axis=1).astype(np.int32)  # [m, 2]
        output = self._runtime.apply(
            layer,
            hidden.astype(self._dtype).astype(np.float32),
            pairs=pairs,
            weights=plan.weight[rows, slots].astype(np.float32),
        )
        returned = output.astype(self._dtype).astype(np.float32)
        return Computed(output=returned, compute_s=time.perf_counter() - began)

    def undivided(
        self,
        layer: int,
        hidden: NDArray[np.float32],
        *,
        routed_experts: NDArray[np.int64],
        gate_weights: NDArray[np.float64],
    ) -> NDArray[np.float32]:
        """Output of a layer with every routed expert and nothing rounded, (T, d)."""
        tokens, slots = routed_experts.shape
        rows = np.repeat(np.arange(tokens), slots)  # [T*K]
        return self._runtime.apply(
            layer,
            hidden,
            pairs=np.stack((rows, routed_experts.reshape(-1)), axis=1).astype(np.int32),
            weights=gate_weights.reshape(-1).astype(np.float32),
        )


class AllReady:
    """A fleet in which helper n holds expert e of every layer where e mod N is n.

    With more helpers than experts, helper n holds expert n mod E: experts have replicas.
    """

    def __init__(self, shape: ModelShape, num_helpers: int) -> None:
        self._names = tuple(f"agent-{n}" for n in range(num_helpers))
        experts = np.arange(shape.num_experts)
        self._hosts: NDArray[np.bool_] = (experts[None, :] - np.arange(num_helpers)[:, None]) % min(
            num_helpers, shape.num_experts
        ) == 0  # [N, E]

    @property
    def names(self) -> tuple[str, ...]:
        """Names by helper index."""
        return self._names

    def hosts(self, layer: int) -> NDArray[np.bool_]:
        """Which helper holds which expert, the same in every layer."""
        del layer
        return self._hosts

    def excluded(self) -> str:
        """Nobody is ever missing."""
        return ""


def _every_expert(shape: ModelShape) -> tuple[tuple[int, int], ...]:
    return tuple((m, e) for m in range(shape.num_layers) for e in range(shape.num_experts))

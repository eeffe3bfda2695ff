"""Experts in this process instead of on agents, behind the same selection and the same books.

Studies that need thousands of tokens under many settings, and the choice of an exchange rate on
validation text, run the coordinator on it: everything but the sockets is the same code. Vectors are
packed, unpacked and added up as if they had travelled, helper by helper, so that the result is the
one that agents would give.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.agent.protocol import plain
from siftmoe.agent.providers import provider_order
from siftmoe.agent.runtime import Runtime
from siftmoe.agent.service import answer_to, apply_request
from siftmoe.coordinator.dispatch_group import combine, group
from siftmoe.coordinator.selection import LOCAL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.coordinator.selection import SelectionPlan
    from siftmoe.models.bundle import Bundle
    from siftmoe.models.quantise import Rotation
    from siftmoe.models.shape import ModelShape


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """What a layer's experts answered, and how long they took; the fields of a dispatch."""

    output: NDArray[np.float32]
    compute_s: float
    uplink_bits: Mapping[int, int]
    downlink_bits: Mapping[int, int]
    queue_s: float = 0.0
    failures: Mapping[int, CoordinatorError] = field(default_factory=dict)
    given_up_s: Mapping[int, float] = field(default_factory=dict)


class ExpertsInProcess:
    """Every expert of a bundle on ONNX Runtime in this process.

    Parameters
    ----------
    bundle : Bundle
    rotation : "none" or "hadamard"
        Of vectors that would travel quantised, both ways.
    """

    def __init__(self, bundle: Bundle, *, rotation: Rotation = "hadamard") -> None:
        shape = bundle.shape
        self._rotation: Rotation = rotation
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
        reply_width: int,
        deadline_s: float | None = None,
    ) -> Computed:
        """Weighted sum over each token's served slots, (T, d)."""
        del deadline_s
        began = time.perf_counter()
        shares = group(plan, hidden, layer=layer, rotation=self._rotation)
        outputs: dict[int, NDArray[np.floating[Any]]] = {}
        uplink_bits, downlink_bits = {}, {}
        for share in shares:
            request = share.request(
                request_id=0, layer=layer, reply_width=reply_width, rotation=self._rotation
            )
            output = apply_request(self._runtime, request)
            if share.helper != LOCAL:
                answer = answer_to(request, output)
                uplink_bits[share.helper] = share.payload_bits
                downlink_bits[share.helper] = 8 * answer.nbytes
                output = plain(answer)
            outputs[share.helper] = output
        return Computed(
            output=combine(shares, outputs, num_tokens=len(hidden), hidden_size=hidden.shape[1]),
            compute_s=time.perf_counter() - began,
            uplink_bits=uplink_bits,
            downlink_bits=downlink_bits,
        )

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

    def knows(self, widths: Sequence[int]) -> NDArray[np.bool_]:
        """Everybody knows every width, (N, B)."""
        return np.ones((len(self._names), len(widths)), dtype=bool)

    def excluded(self) -> str:
        """Nobody is ever missing."""
        return ""


def _every_expert(shape: ModelShape) -> tuple[tuple[int, int], ...]:
    return tuple((m, e) for m in range(shape.num_layers) for e in range(shape.num_experts))

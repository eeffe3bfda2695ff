"""Experts in this process instead of on agents, with the same selection and ledger.

Studies that need thousands of tokens under many settings, and the search of an exchange rate on
validation text, use it: everything but the sockets is the same code. Vectors are packed, unpacked
and summed helper by helper, so that the result equals that of agents.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.agent.compute.providers import provider_order
from siftmoe.agent.compute.runtime import Runtime
from siftmoe.agent.wire.protocol import Packed, pack_rows, plain, plain_all
from siftmoe.coordinator.dispatch.grouping import combine, group
from siftmoe.coordinator.selection.problem import LOCAL
from siftmoe.models.vectors.fused import load_kernels
from siftmoe.models.vectors.packing import FLOAT_WIDTHS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.coordinator.selection.problem import SelectionPlan
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.shape import ModelShape
    from siftmoe.models.vectors.quantise import Rotation


@dataclass(frozen=True, slots=True, kw_only=True)
class Computed:
    """Results of a layer's experts and their compute times; the fields of a dispatch."""

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
        load_kernels()
        shape = bundle.shape
        self._rotation: Rotation = rotation
        self._runtime = Runtime.load(
            bundle.manifest, _every_expert(shape), providers=provider_order("auto"), threads=1
        )

    #: There is nothing to wait for.
    deadline_s = math.inf

    def attend(self) -> None:
        """Do nothing: no helper can fail."""

    def attempt(
        self,
        plan: SelectionPlan,
        hidden: NDArray[np.float32],
        *,
        layer: int,
        reply_width: int = 32,
        deadline_s: float | None = None,
        usual_norm: NDArray[np.float64] | None = None,
    ) -> Computed:
        """Weighted sum over each token's served slots, (T, d)."""
        del deadline_s, usual_norm
        began = time.perf_counter()
        shares = group(plan, hidden, layer=layer, rotation=self._rotation)
        sums = [
            self._runtime.apply(layer, rows, pairs=share.pairs, weights=share.weights)
            for share, rows in zip(shares, plain_all([s.hidden for s in shares]), strict=True)
        ]
        remote = {s.helper: rows for s, rows in zip(shares, sums, strict=True) if s.helper != LOCAL}
        answered, downlink_bits = self._travelled(remote, reply_width) if remote else ({}, {})
        outputs = {share.helper: rows for share, rows in zip(shares, sums, strict=True)}
        return Computed(
            output=combine(
                shares, {**outputs, **answered}, num_tokens=len(hidden), hidden_size=hidden.shape[1]
            ),
            compute_s=time.perf_counter() - began,
            uplink_bits={s.helper: s.payload_bits for s in shares if s.helper != LOCAL},
            downlink_bits=downlink_bits,
        )

    def _travelled(
        self, sums: dict[int, NDArray[np.float32]], width: int
    ) -> tuple[dict[int, NDArray[np.floating[Any]]], dict[int, int]]:
        """Return the helpers' results as packed for the downlink, and their bits."""
        whole = pack_rows(np.concatenate([*sums.values()]), width, rotation=self._rotation)
        is_packed = isinstance(whole, Packed) and len(whole.runs) == 1
        if not is_packed and width not in FLOAT_WIDTHS:  # rows that are not finite
            answers = [pack_rows(rows, width, rotation=self._rotation) for rows in sums.values()]
            bits = [8 * answer.nbytes for answer in answers]
            returned = plain_all(answers)
        else:
            ends = list(accumulate(len(rows) for rows in sums.values()))
            bits = [8 * whole.nbytes // len(whole) * len(rows) for rows in sums.values()]
            rows_back = plain(whole)
            returned = [rows_back[a:b] for a, b in pairwise([0, *ends])]
        return dict(zip(sums, returned, strict=True)), dict(zip(sums, bits, strict=True))

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
    """A fleet that is always ready; helper n hosts the experts e with e mod N = n in every layer.

    With more helpers than experts, helper n hosts expert n mod E, so that experts have replicas.

    Parameters
    ----------
    shape : ModelShape
    num_helpers : int
    placed : (N, L, E) bool or None
        Which helper hosts which expert, instead.
    """

    def __init__(
        self, shape: ModelShape, num_helpers: int, *, placed: NDArray[np.bool_] | None = None
    ) -> None:
        self._placed = placed
        self._names = tuple(f"agent-{n}" for n in range(num_helpers))
        experts = np.arange(shape.num_experts)
        self._hosts: NDArray[np.bool_] = (experts[None, :] - np.arange(num_helpers)[:, None]) % min(
            num_helpers, shape.num_experts
        ) == 0  # [N, E]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the helpers, by index."""
        return self._names

    def hosts(self, layer: int) -> NDArray[np.bool_]:
        """Return which helper hosts which expert of a layer, (N, E)."""
        return self._hosts if self._placed is None else self._placed[:, layer]

    def knows(self, widths: Sequence[int]) -> NDArray[np.bool_]:
        """Return which helper knows which width, (N, B): all of them."""
        return np.ones((len(self._names), len(widths)), dtype=bool)

    def excluded(self) -> str:
        """Return the helpers that are left out: none."""
        return ""


def _every_expert(shape: ModelShape) -> tuple[tuple[int, int], ...]:
    return tuple((m, e) for m in range(shape.num_layers) for e in range(shape.num_experts))

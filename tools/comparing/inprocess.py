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
from siftmoe.agent.wire.packed import pack_runs, plain, plain_all, runs_of
from siftmoe.coordinator.dispatch.grouping import combine, group
from siftmoe.coordinator.selection.problem import LOCAL
from siftmoe.models.vectors.fused import load_kernels
from siftmoe.models.vectors.packing import row_bits

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from siftmoe.coordinator.dispatch.grouping import Share
    from siftmoe.coordinator.errors import CoordinatorError
    from siftmoe.coordinator.selection.problem import SelectionPlan
    from siftmoe.models.bundle.reader import Bundle
    from siftmoe.models.shape import ModelShape
    from siftmoe.models.vectors.quantise import Rotation

    Float32Array = NDArray[np.float32]


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
        shares = group(plan, hidden, layer=layer, rotation=self._rotation, reply_width=reply_width)
        sums = [
            self._runtime.apply(layer, rows, pairs=share.pairs, weights=share.weights)
            for share, rows in zip(shares, plain_all([s.hidden for s in shares]), strict=True)
        ]
        remote = [(s, r) for s, r in zip(shares, sums, strict=True) if s.helper != LOCAL]
        outputs = {s.helper: r for s, r in zip(shares, sums, strict=True) if s.helper == LOCAL}
        downlink_bits: dict[int, int] = {}
        if remote:
            answered, bits = self._travelled(*zip(*remote, strict=True))
            for (share, _), rows, count in zip(remote, answered, bits, strict=True):
                outputs[share.helper] = share.scaled(rows)
                downlink_bits[share.helper] = count
        return Computed(
            output=combine(shares, outputs, num_tokens=len(hidden), hidden_size=hidden.shape[1]),
            compute_s=time.perf_counter() - began,
            uplink_bits={s.helper: s.payload_bits for s in shares if s.helper != LOCAL},
            downlink_bits=downlink_bits,
        )

    def _travelled(
        self, shares: Sequence[Share], sums: Sequence[Float32Array]
    ) -> tuple[list[NDArray[np.floating[Any]]], list[int]]:
        """Return the helpers' results as they arrive, and their bits.

        Rows of one width are packed together, whoever computed them: no row depends on others.
        """
        widths = np.concatenate([_widths(share) for share in shares])  # [n]
        order = widths.argsort(kind="stable")
        kinds, counts = np.unique(widths, return_counts=True)
        runs = tuple(zip(kinds.tolist(), counts.tolist(), strict=True))
        rows = np.concatenate(sums)
        whole = pack_runs(rows[order] if len(runs) > 1 else rows, runs, rotation=self._rotation)
        if runs_of(whole) != runs:  # rows that are not finite
            answers = [
                pack_runs(rows, share.reply_runs, rotation=self._rotation)
                for share, rows in zip(shares, sums, strict=True)
            ]
            return plain_all(answers), [8 * answer.nbytes for answer in answers]
        back = plain(whole)
        if len(runs) > 1:
            back = back[order.argsort(kind="stable")]
        ends = [0, *accumulate(len(rows) for rows in sums)]
        size = rows.shape[1]
        bits = [sum(n * row_bits(size, width) for width, n in s.reply_runs) for s in shares]
        return [back[a:b] for a, b in pairwise(ends)], bits

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


def _widths(share: Share) -> NDArray[np.int64]:
    """Width of the answer of every row, (n,)."""
    widths = np.array([width for width, _ in share.reply_runs], np.int64)
    return np.repeat(widths, [count for _, count in share.reply_runs])


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

    def answers_mixed(self) -> NDArray[np.bool_]:
        """Return which helper gives answers of several widths, (N,): all of them."""
        return np.ones(len(self._names), dtype=bool)

    def excluded(self) -> str:
        """Return the helpers that are left out: none."""
        return ""


def _every_expert(shape: ModelShape) -> tuple[tuple[int, int], ...]:
    return tuple((m, e) for m in range(shape.num_layers) for e in range(shape.num_experts))

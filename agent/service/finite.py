"""Check of results: an expert that computes NaN or infinity from finite rows is an error.

A wrong kernel, damaged weights or an overflow in float16 would otherwise reach the model's output.
Rows that are not finite when they arrive are computed as they are, as in the undivided model.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from siftmoe.agent.errors import NotFinite
from siftmoe.agent.wire.packed import plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from siftmoe.agent.compute.runtime import Runtime
    from siftmoe.agent.wire.protocol import Apply

#: Largest number of float16. A sum of squares below its square has no larger term, and no NaN.
_FLOAT16_MAX: Final = float(np.finfo(np.float16).max)
_SAFE_SQUARES: Final = _FLOAT16_MAX**2


def check_finite(runtime: Runtime, request: Apply, output: NDArray[np.float32]) -> None:
    """Check a request's sums (n, d); the usual case is one call into BLAS.

    Raises
    ------
    NotFinite
        If a row is not finite although its hidden vector is, or does not fit into a float16 reply;
        the message names layer, expert and row.
    """
    flat = output.reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        if np.dot(flat, flat) < _SAFE_SQUARES:
            return
    hidden = plain(request.hidden)
    arrived = np.isfinite(hidden).all(axis=1)  # [n]
    bad = arrived & ~np.isfinite(output).all(axis=1)
    if bad.any():
        raise NotFinite(_culprit(runtime, request, hidden, bad))
    half = np.repeat([width == 16 for width, _ in request.answer_runs], _rows(request))  # [n]
    if half.any():
        bad = arrived & half & (np.abs(output) > _FLOAT16_MAX).any(axis=1)
        if bad.any():
            raise NotFinite(
                f"layer {request.layer}: the result of row {int(bad.argmax())} is beyond "
                f"{_FLOAT16_MAX:g}, the largest number of float16; ask for a reply of 32 bits"
            )


def _rows(request: Apply) -> list[int]:
    return [count for _, count in request.answer_runs]


def _culprit(
    runtime: Runtime, request: Apply, hidden: NDArray[np.floating[Any]], bad: NDArray[np.bool_]
) -> str:
    """Run the experts of the bad rows again, one by one, to name the one that is not finite."""
    for pair in request.pairs:
        row, expert = pair.tolist()
        if not bad[row]:
            continue
        output = runtime.apply(
            request.layer,
            hidden[row : row + 1],
            pairs=np.array([(0, expert)], np.int32),
            weights=np.ones(1, np.float32),
        )
        if not np.isfinite(output).all():
            return (
                f"expert {expert} of layer {request.layer} computes {_word(output)} from the "
                f"finite row {row}; take the agent out, or prepare its bundle in float32 if that "
                f"is an overflow of float16"
            )
    row = int(bad.argmax())
    return f"layer {request.layer}: the weighted sum of row {row} is not finite; its experts are"


def _word(output: NDArray[np.float32]) -> str:
    return "NaN" if np.isnan(output).any() else "infinity"

r"""Computes the statistics of a layer from inner products of expert outputs.

All statistics of a pair of experts follow from three numbers per token routed to i:
:math:`\|y_i\|^2`, :math:`\|y_j\|^2` and :math:`\langle y_i, y_j\rangle`. The outputs themselves, d
times as many numbers, are dropped as soon as these are computed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from siftmoe.models.similarity.quantities import NARROW, SERVING, Estimate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class NarrowProducts:
    """Inner products with outputs for tokens received in few bits.

    Parameters
    ----------
    square : (M, E) float64
        Squared norm of every expert's output for the received token.
    inner : (M, K, E) float64
        Inner product of each routed expert's output for the exact token with every expert's output
        for the received token.
    reply_square : (M, K) float64
        Squared norm of the error of a routed expert's output returned at that width.
    """

    square: FloatArray
    inner: FloatArray
    reply_square: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProducts:
    """Inner products of a layer's expert outputs over the calibration text.

    Parameters
    ----------
    experts : (M, K) int64
        Routed experts of every token; E marks an empty slot.
    weights : (M, K) float64
        Gate weights.
    square : (M, E) float64
        Squared norm of every expert's output.
    inner : (M, K, E) float64
        Inner product of each routed expert's output with every expert's.
    output_square : (M,) float64
        Squared norm of the layer's output, the weighted sum over the routed experts.
    narrow : tuple of NarrowProducts
        One per width.
    """

    experts: IntArray
    weights: FloatArray
    square: FloatArray
    inner: FloatArray
    output_square: FloatArray
    narrow: tuple[NarrowProducts, ...] = ()


def layer_statistics(products: LayerProducts) -> tuple[IntArray, dict[str, Estimate]]:
    """Compute the statistics of one layer.

    Returns
    -------
    counts : (E,) int64
        Tokens routed to each expert.
    estimates : dict of str to Estimate
        The quantities of `siftmoe.models.similarity.profile.Profile` that need no gradients,
        without the dimension of layers. NaN in the rows of experts to which no token was routed,
        and in the errors of experts with a single token.
    """
    num_experts = products.square.shape[1]
    rows = [_expert_statistics(products, expert) for expert in range(num_experts)]
    counts = np.array([count for count, _ in rows], dtype=np.int64)
    estimates = stack([found for _, found in rows])
    estimates["expert_norm"] = mean_of(np.sqrt(products.square))
    estimates["output_norm"] = mean_of(np.sqrt(products.output_square))
    return counts, estimates | _narrow_statistics(products)


def stack(rows: Sequence[dict[str, Estimate]]) -> dict[str, Estimate]:
    """Stack estimates of the same names along a new first axis."""
    return {
        name: Estimate(
            np.stack([row[name].value for row in rows]), np.stack([row[name].error for row in rows])
        )
        for name in rows[0]
    }


def _narrow_statistics(products: LayerProducts) -> dict[str, Estimate]:
    """Compute the statistics of every width, (W, ...)."""
    num_experts = products.square.shape[1]
    if not products.narrow:
        empty = np.zeros((0, num_experts, num_experts + 1))
        none = Estimate(np.zeros(0), np.zeros(0))
        return {"reply_error": none, **{NARROW + name: Estimate(empty, empty) for name in SERVING}}
    filled = products.experts < num_experts
    routed = np.where(filled, products.experts, 0)
    own = np.take_along_axis(products.square, routed, axis=1)[filled]  # [slots]
    widths = []
    for narrow in products.narrow:
        served = stack([_serving(products, expert, narrow=narrow) for expert in range(num_experts)])
        lost = ratio_of(narrow.reply_square[filled], own)
        widths.append({"reply_error": lost, **{NARROW + name: served[name] for name in SERVING}})
    return stack(widths)


def mean_of(samples: FloatArray) -> Estimate:
    """Mean over the first axis, and its standard error."""
    return ratio_of(samples, np.ones_like(samples))


def ratio_of(numerator: FloatArray, denominator: FloatArray) -> Estimate:
    r"""Ratio of two sums over the first axis, and its standard error by the delta method.

    .. math:: r = \frac{\sum a_t}{\sum b_t}, \qquad
        \sigma_r^2 = \frac{n}{n-1} \frac{\sum (a_t - r b_t)^2}{(\sum b_t)^2}

    Parameters
    ----------
    numerator, denominator : (n, ...) float64
    """
    total = denominator.sum(axis=0)
    unknown = np.full(total.shape, np.nan)
    ratio = np.divide(numerator.sum(axis=0), total, out=unknown.copy(), where=total > 0.0)
    count = len(numerator)
    if count < 2:
        return Estimate(ratio, unknown)
    residual = np.sqrt(np.square(numerator - ratio * denominator).sum(axis=0) * count / (count - 1))
    return Estimate(ratio, np.divide(residual, total, out=unknown, where=total > 0.0))


def _expert_statistics(products: LayerProducts, expert: int) -> tuple[int, dict[str, Estimate]]:
    """Statistics over the tokens routed to one expert, n of them."""
    token, slot = np.nonzero(products.experts == expert)
    own = products.square[token, expert, None]  # [n, 1]
    return len(token), {
        "gate_weight": mean_of(products.weights[token, slot]),
        **_angles(own, products.inner[token, slot], products.square[token], expert),
        **_serving(products, expert),
    }


def _serving(
    products: LayerProducts, expert: int, *, narrow: NarrowProducts | None = None
) -> dict[str, Estimate]:
    """Compute the cost of serving one expert's tokens, exact or at a width."""
    token, slot = np.nonzero(products.experts == expert)
    importance = np.square(products.weights[token, slot])[:, None]  # [n, 1]
    served = products if narrow is None else narrow
    itself = expert if narrow is None else None
    # the column behind the experts' is skip, whose output is zero
    other = np.pad(served.square[token], ((0, 0), (0, 1)))  # [n, E+1]
    inner = np.pad(served.inner[token, slot], ((0, 0), (0, 1)))  # [n, E+1]
    own = products.square[token, expert, None]  # [n, 1]
    scale = _factor(inner, other, itself)
    price_scale = _factor(importance * inner, importance * other, itself)
    plain = _squared_distance(own, inner, other, itself, factor=np.ones(other.shape[1]))
    scaled = _squared_distance(own, inner, other, itself, factor=scale.value)
    priced = _squared_distance(own, inner, other, itself, factor=price_scale.value)
    every = np.broadcast_to(importance, other.shape)
    return {
        "deviation": mean_of(np.sqrt(plain)),
        "scale": scale,
        "scaled_deviation": mean_of(np.sqrt(scaled)),
        "price_scale": price_scale,
        "square": ratio_of(importance * plain, every),
        "scaled_square": ratio_of(importance * priced, every),
    }


def _angles(
    own: FloatArray, inner: FloatArray, other: FloatArray, expert: int
) -> dict[str, Estimate]:
    """Ratio of mean norms, and mean cosine; the cosine with a zero vector is taken as 0."""
    norms = np.sqrt(own * other)  # [n, E]
    cosine = np.divide(inner, norms, out=np.zeros_like(inner), where=norms > 0.0)
    if len(cosine):
        cosine[:, expert] = 1.0
    length = np.broadcast_to(np.sqrt(own), other.shape)
    return {"norm_ratio": ratio_of(np.sqrt(other), length), "cosine": mean_of(cosine)}


def _factor(inner: FloatArray, other: FloatArray, expert: int | None) -> Estimate:
    """Least-squares factor on the replacing output: 1 for the expert itself, 0 for no output."""
    found = ratio_of(inner, other)
    if not len(inner):
        return found
    silent = other.sum(axis=0) == 0.0
    value, error = np.where(silent, 0.0, found.value), np.where(silent, 0.0, found.error)
    if expert is not None:
        value[expert], error[expert] = 1.0, 0.0
    return Estimate(value, error)


def _squared_distance(
    own: FloatArray, inner: FloatArray, other: FloatArray, expert: int | None, *, factor: FloatArray
) -> FloatArray:
    """Squared norm of y_i - f y_j for every token, (n, E+1); exactly 0 for the expert itself."""
    squared: FloatArray = own - 2.0 * factor * inner + np.square(factor) * other
    if expert is not None:
        squared[:, expert] = 0.0
    return np.maximum(squared, 0.0)  # rounding

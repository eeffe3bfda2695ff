r"""WDMoE's rules of dropping tokens from devices, and the weight-to-latency ratio.

``weights`` (T, N) is the weight of each token on each device, 0 where it is not sent, ``local``
(T,) its slots that the user serves itself, ``token_s`` (N,) the time :math:`\tau_k` of one token
on each device. Both rules leave every token an expert. They are this project's reconstruction of
WDMoE's selection (docs/explanation/theory.md, section 4).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from siftmoe.coordinator.compiled import compiled

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]


def weight_to_latency(weights: FloatArray, token_s: FloatArray) -> FloatArray:
    r"""Weight-to-latency ratio of every device, (N,) 1/s; 0 where nothing is sent.

    .. math:: \mathrm{WLR}_k = \sum_{t \text{ on } k} w_{t,k} / (q_k \tau_k)

    Parameters
    ----------
    weights : (T, N) float64
        Weight of each token on each device, 0 where it is not sent.
    token_s : (N,) float64, s
        Time :math:`\tau_k` of one token.
    """
    load = np.count_nonzero(weights, axis=0)
    ratio = np.zeros(len(token_s))
    used = load > 0
    ratio[used] = weights.sum(axis=0)[used] / (load[used] * token_s[used])
    return ratio


def drop_by_cosine(
    weights: FloatArray, local: IntArray, token_s: FloatArray, *, threshold: float
) -> FloatArray:
    """Drop the lightest device of every token whose weights and latencies disagree."""
    sent = weights > 0.0
    load = sent.sum(axis=0)
    latency = load * np.where(load > 0, token_s, 0.0)  # [N]
    seen = sent * latency  # [T, N]
    norm = np.sqrt((weights**2).sum(axis=1) * (seen**2).sum(axis=1))  # [T]
    cosine = (weights * seen).sum(axis=1) / np.maximum(norm, np.finfo(float).tiny)
    drop = np.flatnonzero((sent.sum(axis=1) + local > 1) & (cosine <= threshold) & sent.any(axis=1))
    kept: FloatArray = weights.copy()
    lightest = np.where(sent, weights, np.inf).argmin(axis=1)
    kept[drop, lightest[drop]] = 0.0
    return kept


@compiled
def drop_from_slowest(
    weights: FloatArray, local: IntArray, token_s: FloatArray, min_weight: float
) -> FloatArray:
    """Drop the slowest device's lightest token until that device has none to drop."""
    tokens, devices = weights.shape
    kept: FloatArray = weights.copy()
    left = local.copy()
    load = np.zeros(devices)
    order = np.empty((devices, tokens), np.int64)
    at = np.zeros(devices, np.int64)
    for n in range(devices):
        order[n] = np.argsort(weights[:, n])
        for t in range(tokens):
            if weights[t, n] > 0.0:
                left[t] += 1
                load[n] += 1.0
    while True:
        slowest = -1
        for n in range(devices):
            if load[n] > 0.0 and (
                slowest < 0 or load[n] * token_s[n] > load[slowest] * token_s[slowest]
            ):
                slowest = n
        if slowest < 0:
            return kept
        # a token with one expert left stays so: the pointer never has to go back
        while at[slowest] < tokens:
            t = order[slowest, at[slowest]]
            if weights[t, slowest] > 0.0 and left[t] > 1:
                break
            at[slowest] += 1
        if at[slowest] == tokens or weights[order[slowest, at[slowest]], slowest] >= min_weight:
            return kept
        t = order[slowest, at[slowest]]
        kept[t, slowest] = 0.0
        left[t] -= 1
        load[slowest] -= 1.0
        at[slowest] += 1

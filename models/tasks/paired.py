"""Compares two runs on one text document by document: the rise of perplexity and its error."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]


def document_rises(
    documents: Sequence[tuple[float, int]], reference: Sequence[tuple[float, int]]
) -> FloatArray:
    r"""Contributions of documents to the relative rise of perplexity, (D,); their mean is it.

    .. math:: r \approx e^{\Delta} - 1, \qquad
              \Delta = \frac{\sum_d (n_d - n^0_d)}{\sum_d t_d}, \qquad
              r_d = e^{\Delta} \left(\frac{D (n_d - n^0_d - \Delta t_d)}{\sum t_d}\right) + r

    with nats n and tokens t: the ratio estimator, linearised. Empty without documents.

    Raises
    ------
    ValueError
        If the two are not of the same documents.
    """
    if [tokens for _, tokens in documents] != [tokens for _, tokens in reference]:
        raise ValueError(
            f"rise of perplexity: {len(documents)} documents against {len(reference)} of the "
            f"reference, or others; score both on the same text"
        )
    if not documents:
        return np.zeros(0)
    nats, tokens = np.array(documents, dtype=np.float64).T
    more = nats - np.array(reference, dtype=np.float64)[:, 0]
    delta = more.sum() / tokens.sum()
    each = len(nats) * (more - delta * tokens) / tokens.sum()
    return np.asarray(math.exp(delta) * each + math.expm1(delta))


def paired_rise(
    documents: Sequence[tuple[float, int]], reference: Sequence[tuple[float, int]]
) -> tuple[float, float]:
    """Rise of perplexity and its standard error over the documents; NaN for a single one."""
    each = document_rises(documents, reference)
    error = math.nan if len(each) < 2 else float(each.std(ddof=1)) / math.sqrt(len(each))
    return float(each.mean()), error

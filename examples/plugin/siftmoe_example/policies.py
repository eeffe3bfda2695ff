"""A policy: skip a token's light experts where its router is confident."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

import siftmoe


@dataclass(frozen=True, kw_only=True)
class Confident:
    """Keep the heaviest experts that together reach a share of the token's gate weight.

    Fields are options: ``--policy confident:share=0.8``.
    """

    share: float = 0.9

    def select(self, problem: siftmoe.SelectionProblem) -> siftmoe.SelectionPlan:
        """Choose the slots to keep; siftmoe finds the hosts that cost least."""
        order = np.argsort(-problem.gate_weights, axis=1, kind="stable")  # [T, K]
        weights = np.take_along_axis(problem.gate_weights, order, axis=1)
        before = weights.cumsum(axis=1) - weights
        wanted = before < self.share * weights.sum(axis=1, keepdims=True)
        keep = np.zeros_like(wanted)
        np.put_along_axis(keep, order, wanted, axis=1)
        return siftmoe.plan_keeping(problem, keep)

"""Limits of a policy's search for the optimum and of its proof."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """Limits of search and proof; where a method is exact none of them matter.

    Parameters
    ----------
    certificate : bool
        Compute a lower bound.
    tolerance : float
        Gap, as a share of the objective, at which search and proof end.
    steps : int
        Evaluations of the bound.
    cuts : int
        Rounds of cutting planes after them.
    rounds : int
        Releases of the iterated local search.
    closing_s : float, s
        Time for the integer program that closes what is left; 0: none.
    seed : int
        Of the local search.
    """

    certificate: bool = False
    tolerance: float = 1e-9
    steps: int = 150
    cuts: int = 0
    rounds: int = 32
    closing_s: float = 0.0
    seed: int = 1

    def __post_init__(self) -> None:
        for name in ("tolerance", "steps", "cuts", "rounds", "closing_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"siftmoe: {name} must not be negative, got {getattr(self, name)}")
        if self.closing_s > 0.0 and not self.certificate:
            raise ValueError("siftmoe: closing_s closes a certificate's gap; set certificate too")

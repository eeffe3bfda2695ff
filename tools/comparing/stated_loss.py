r"""Rise of perplexity over several channel draws, with its error and its upper confidence limit.

A policy and the reference run on the same text over the same links: a draw is one seed of the
links, and the rise of a draw is paired in text and channel. Over R draws of D documents the mean
rise has the standard error

.. math:: s = \sqrt{\frac{s_R^2}{R} + \frac{s_D^2}{D}} ,

with the spread :math:`s_R` of the draws' rises and that of the documents', :math:`s_D`, each
document averaged over the draws. What both have in common is counted twice: the error is rather too
large than too small. The upper limit that a search stops on is that of the draws alone,

.. math:: u = \bar r + t_{R-1,\,0.9}\, \frac{s_R}{\sqrt R} ,

one-sided at 90 %: the text is the same for every price, the luck of a channel is not. Our choice.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np
from scipy.stats import t as student

from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.models.tasks.paired import document_rises

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

#: Channel draws on which a price is confirmed.
DRAWS = 4
#: One-sided confidence level of the upper limit of the mean rise.
LEVEL = 0.9
#: Reference of a loss: every routed expert, at 16 bits in both directions.
REFERENCE = PolicySpec("topk", {"bits": 16.0, "downlink_bits": 16.0})


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One run of a policy on validation text over one draw of the links.

    Parameters
    ----------
    perplexity : float
    energy_j : float
        Of a token, both directions.
    documents : tuple of (float, int)
        Negative log-likelihood in nats and scored tokens of each document; may be empty.
    """

    perplexity: float
    energy_j: float
    documents: tuple[tuple[float, int], ...] = ()


class Runs(Protocol):
    """Runs a policy on validation text."""

    def run(self, spec: PolicySpec, *, draw: int) -> Trial:
        """Run over the links of a draw, 0 or more; each has a seed of its own."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rise:
    """Rise of perplexity over the reference's, as a share of it, over several draws.

    Parameters
    ----------
    mean, standard_error : float
    upper : float
        One-sided upper confidence limit of the mean over draws.
    level : float
        Of that limit.
    draws : int
    """

    mean: float
    standard_error: float
    upper: float
    level: float = LEVEL
    draws: int = DRAWS


@dataclass(kw_only=True)
class Rises:
    """Rises of policies over draws; the reference of each draw is run once.

    Parameters
    ----------
    runs : Runs
    on_trial : callable
        Called after each run.
    """

    runs: Runs
    on_trial: Callable[[], None] = lambda: None
    count: int = 0
    _references: dict[int, Trial] = field(default_factory=dict)
    _trials: dict[tuple[str, int], Trial] = field(default_factory=dict)

    def reference(self, draw: int) -> Trial:
        """Return the reference's run over a draw."""
        if draw not in self._references:
            self._references[draw] = self._run(REFERENCE, draw)
        return self._references[draw]

    def on(self, spec: PolicySpec, draw: int) -> float:
        """Rise of a policy on one draw."""
        return self._trial(spec, draw).perplexity / self.reference(draw).perplexity - 1.0

    def over_draws(self, spec: PolicySpec) -> Rise:
        """Rise of a policy over all draws."""
        rises = np.array([self.on(spec, draw) for draw in range(DRAWS)])
        error = float(rises.std(ddof=1)) / math.sqrt(DRAWS)
        text = [
            document_rises(self._trial(spec, draw).documents, self.reference(draw).documents)
            for draw in range(DRAWS)
        ]
        of_text = _error_of_text(text)
        mean = float(rises.mean())
        return Rise(
            mean=mean,
            standard_error=math.hypot(error, of_text),
            upper=mean + float(student.ppf(LEVEL, DRAWS - 1)) * error,
        )

    def _trial(self, spec: PolicySpec, draw: int) -> Trial:
        # repr: a policy's text rounds its numbers
        key = (repr(sorted(spec.options.items())), draw)
        if key not in self._trials:
            self._trials[key] = self._run(spec, draw)
        return self._trials[key]

    def _run(self, spec: PolicySpec, draw: int) -> Trial:
        trial = self.runs.run(spec, draw=draw)
        self.count += 1
        self.on_trial()
        return trial


def _error_of_text(rises: Sequence[FloatArray]) -> float:
    """Return the standard error over documents, each averaged over the draws; 0 without any."""
    each = np.mean(rises, axis=0)  # [D]
    return 0.0 if len(each) < 2 else float(each.std(ddof=1)) / math.sqrt(len(each))

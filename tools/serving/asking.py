"""A prompt to continue, how, and what is told of the continuation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from siftmoe.coordinator.ledger.spending import Spending


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How the next token is drawn.

    Parameters
    ----------
    temperature : float
        0 takes the likeliest token.
    top_p : float
        Share of the probability that is drawn from, of the likeliest tokens.
    seed : int or None
        None draws anew each time.
    frequency_penalty, presence_penalty : float
        Subtracted from the logit of a token for each time it was generated, and once if it was.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One prompt to continue.

    Parameters
    ----------
    ids : tuple of int
        The prompt's tokens.
    max_tokens : int
        0 only scores the prompt.
    sampling : Sampling
    stop : tuple of str
        Texts before which the continuation ends.
    logprobs : int or None
        Likeliest alternatives told at every token; None tells no log-probabilities.
    score_prompt : bool
        Whether the prompt's own log-probabilities are told too.
    """

    ids: tuple[int, ...]
    max_tokens: int
    sampling: Sampling = Sampling()
    stop: tuple[str, ...] = ()
    logprobs: int | None = None
    score_prompt: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A token and its log-probability given all before it.

    Parameters
    ----------
    id : int
    logprob : float or None, nat
        None for a prompt's first token.
    likeliest : tuple of (int, float)
        Alternatives, likeliest first.
    """

    id: int
    logprob: float | None
    likeliest: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A piece of the continuation: its text may lag behind its tokens."""

    text: str
    tokens: tuple[Scored, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """The end of a continuation.

    Parameters
    ----------
    reason : str
        "stop" at an end token or a stop text, "length" at the limit.
    prompt_tokens, completion_tokens : int
    spending : Spending
        Of this request; a step's energy is shared equally by the tokens that it fed.
    """

    reason: str
    prompt_tokens: int
    completion_tokens: int
    spending: Spending


@dataclass(frozen=True, slots=True)
class Broken:
    """The end of a request that failed."""

    error: Exception


Event = Piece | Done | Broken

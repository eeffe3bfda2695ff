"""What one policy reached in a run: the figures that tables, plots and reports show."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

RESULT_FILE = "result.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult:
    """One row of the comparison.

    Parameters
    ----------
    policy : str
    metrics : dict
        Name to (value, standard error): accuracy, perplexity, next-token accuracy.
    num_tokens : int
        Tokens fed during the evaluation.
    uplink_j_per_token, downlink_j_per_token : float, J
        Radio energy over all layers.
    energy_sources : tuple of str
        How the energies were obtained: measured, derived, modelled.
    latency_s_per_token, airtime_s_per_token : float, s
        On the virtual clock, attention waiting for the slowest helper.
    tokens_per_s : float
        Of this machine, wall clock.
    kept, replaced, skipped : float
        Shares of slots.
    gains_by_agent : dict
        Channel power gains of each agent's uplink bursts, linear.
    answer : str
        Continuation of the prompt.
    """

    policy: str
    metrics: dict[str, tuple[float, float]]
    num_tokens: int
    uplink_j_per_token: float
    downlink_j_per_token: float
    energy_sources: tuple[str, ...]
    latency_s_per_token: float
    airtime_s_per_token: float
    tokens_per_s: float
    kept: float
    replaced: float
    skipped: float
    gains_by_agent: dict[str, list[float]] = field(default_factory=dict)
    answer: str = ""

    def save(self, folder: Path) -> None:
        """Write it beside the ledger."""
        text = json.dumps(asdict(self), indent=1)
        partial = folder / f"{RESULT_FILE}.partial"
        partial.write_text(text + "\n", encoding="utf-8")
        partial.rename(folder / RESULT_FILE)

    @classmethod
    def load(cls, folder: Path) -> PolicyResult:
        """Read it back.

        Raises
        ------
        ValueError
            If the folder holds no finished result.
        """
        path = folder / RESULT_FILE
        try:
            raw: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            raw["metrics"] = {name: tuple(pair) for name, pair in raw["metrics"].items()}
            raw["energy_sources"] = tuple(raw["energy_sources"])
            return cls(**raw)
        except (OSError, KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(
                f"{str(folder)!r} holds no finished run ({path.name}: {error}); "
                "give a folder that `siftmoe loopback` or `run` wrote"
            ) from error

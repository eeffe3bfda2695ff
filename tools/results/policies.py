"""Results of the policies of a run: the figures that tables, plots and reports show.

Energies, latencies and decisions are summed from the ledger. The tasks' scores and the answers,
which the ledger does not hold, are in a small file beside it.
"""

from __future__ import annotations

import json
import math
import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from siftmoe.coordinator.ledger.file import attempt_of
from siftmoe.coordinator.ledger.rows import FaultRow, SelectionRow, TransmissionRow
from siftmoe.coordinator.ledger.store import Ledger
from siftmoe.coordinator.selection.problem import Status
from siftmoe.models.tasks.paired import paired_rise
from siftmoe.tools.results.breakdown import Breakdown, breakdown_of
from siftmoe.tools.results.width_mix import counts_by_width, mix_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from siftmoe.coordinator.ledger.summary import Summary
    from siftmoe.tools.results.width_mix import Mix

LEDGER_FILE = "ledger.sqlite"
SCORES_FILE = "scores.json"
_REFERENCE = "topk"

#: Parses the ledger's "NAME: reason; NAME: reason"; a reason may contain a semicolon.
_NAME = r"(?:link to )?[A-Za-z0-9._-]+: "
_LEFT_OUT = re.compile(rf"(?:^|; )({_NAME})(.*?)(?=; {_NAME}|$)", re.DOTALL)

Metrics = dict[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyResult:
    """One row of the comparison.

    Parameters
    ----------
    policy : str
    metrics : dict
        Name to (value, standard error): accuracy, perplexity, next-token accuracy. Empty for a
        policy that was interrupted.
    answer : str
        Continuation of the prompt.
    num_tokens : int
        Tokens fed during the evaluation.
    energy_j_per_token, energy_std_j_per_token : float, J
        Of the radio links, all parts and both directions over all layers, and its standard
        uncertainty.
    uplink_j_per_token, downlink_j_per_token : float, J
        What bursts of either direction radiated, their control included.
    parts_j_per_token : dict
        Energy in J by (use, owner), see `siftmoe.coordinator.ledger.parts`.
    radiated_share : float
        Of the energy, what is radiated; NaN if there is none.
    reply_mix : dict
        Tokens by bits of an entry of their answers.
    energy_sources : tuple of str
        Sources of the energies: measured, derived, modelled.
    latency_s_per_token, airtime_s_per_token : float, s
        On the virtual clock; attention waits for the slowest helper.
    tokens_per_s : float
        Of this machine, wall clock.
    kept, replaced, skipped : float
        Shares of slots.
    infeasible : int
        Selections that could not keep their budget on the helpers that were reachable.
    measured_over_bound : float or None
        Measured deviation over the planned one, if the run was audited.
    gains_by_agent : dict
        Channel power gains of each agent's uplink bursts, linear.
    channel_origins : tuple of str
        Sources of the bursts' channel states: sounded, simulated, fixed.
    sounding_j : float, J
        Energy of the pilot exchanges.
    board_j_per_token, board_net_j_per_token : float, J
        Energy of the boards, gross and net of idling; None without sensors.
    uplink_std_j_per_token : float, J
        Standard uncertainty of the uplink's.
    energy_by_source : dict
        (value, standard uncertainty) in J of all that was on the air, pilots included.
    lost : dict
        Number of selections from which each link or helper was left out.
    lost_why : dict
        The most frequent reason.
    outage : float
        Share of the slots sent to helpers that missed their window.
    aborted : int
        Aborted steps; no other figure contains them.
    aborted_j : float, J
        Energy that they had transmitted.
    faulted : int
        Slots that were skipped because a helper failed and no other took over.
    faults : dict
        Number of missing results of each agent, and the first reason.
    attempts : int
        Earlier attempts that were interrupted; no other figure contains them.
    attempts_j : float, J
        Energy that they had transmitted, including that for the answer.
    mix : Mix
        Widths of uplink vectors over the channel gain.
    breakdown : Breakdown
        Decisions and energy by layer, energy by helper.
    stated : dict or None
        Of a policy with a stated loss: that loss, the price that was found for it, and the rise of
        perplexity on validation text (`siftmoe.tools.comparing.exchange_rate.Rate.described`).
    rise : (float, float) or None
        Rise of the test perplexity over plain Top-K's and its standard error, paired by document;
        None without Top-K, or in a run of an older version.
    lengths : dict
        Items of each task that were cut and left out for the model's context; without tasks that
        have none.
    """

    policy: str
    metrics: Metrics
    answer: str
    num_tokens: int
    uplink_j_per_token: float
    downlink_j_per_token: float
    energy_j_per_token: float
    energy_std_j_per_token: float
    energy_sources: tuple[str, ...]
    latency_s_per_token: float
    airtime_s_per_token: float
    tokens_per_s: float
    kept: float
    replaced: float
    skipped: float
    infeasible: int
    measured_over_bound: float | None
    gains_by_agent: Mapping[str, list[float]]
    channel_origins: tuple[str, ...] = ()
    sounding_j: float = 0.0
    uplink_std_j_per_token: float = 0.0
    energy_by_source: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    board_j_per_token: float | None = None
    board_net_j_per_token: float | None = None
    lost: Mapping[str, int] = field(default_factory=dict)
    lost_why: Mapping[str, str] = field(default_factory=dict)
    outage: float = 0.0
    aborted: int = 0
    aborted_j: float = 0.0
    faulted: int = 0
    faults: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    attempts: int = 0
    attempts_j: float = 0.0
    mix: Mix = ()
    breakdown: Breakdown = field(default_factory=Breakdown)
    parts_j_per_token: Mapping[tuple[str, str], float] = field(default_factory=dict)
    radiated_share: float = 1.0
    reply_mix: Mapping[int, int] = field(default_factory=dict)
    stated: Mapping[str, Any] | None = None
    rise: tuple[float, float] | None = None
    lengths: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def answer_label(policy: str) -> str:
    """Return the ledger's label of the run that answers the prompt."""
    return f"{policy}: answer"


def save_scores(folder: Path, scores: Mapping[str, Mapping[str, Any]]) -> None:
    """Write the scores so far, atomically."""
    partial = folder / f"{SCORES_FILE}.partial"
    partial.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")
    partial.rename(folder / SCORES_FILE)


def load_scores(folder: Path) -> dict[str, dict[str, Any]]:
    """Read the scores so far; empty if there is no file.

    Raises
    ------
    ValueError
        If the file is damaged.
    """
    path = folder / SCORES_FILE
    try:
        scores: dict[str, dict[str, Any]] = (
            json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"{str(path)!r} is damaged: {error}; remove it to go on") from error
    return scores


def load_results(folder: Path) -> list[PolicyResult]:
    """Read a run's folder, finished or interrupted.

    Parameters
    ----------
    folder : Path
        Contains a ledger; policies without a score were interrupted and have no metrics.

    Raises
    ------
    LedgerError
        If there is no ledger.
    ValueError
        If the scores are damaged, or nothing was evaluated.
    """
    scores = load_scores(folder)
    with Ledger.open(folder / LEDGER_FILE) as ledger:
        results = [
            _result(ledger, run, label, scores.get(label, {}), scores.get(_REFERENCE, {}))
            for label, run in ledger.labels().items()
            if not label.endswith(answer_label(""))
            and attempt_of(label) is None
            and ledger.summary(run).tokens
        ]
    if not results:
        raise ValueError(f"the ledger of {str(folder)!r} holds no step; there is nothing to report")
    return results


def _result(
    ledger: Ledger,
    run: int,
    label: str,
    score: Mapping[str, Any],
    reference: Mapping[str, Any],
) -> PolicyResult:
    summary = ledger.summary(run)
    shares = summary.shares
    gains: dict[str, list[float]] = defaultdict(list)
    origins: set[str] = set()
    bursts = list(ledger.rows(TransmissionRow, run=run))
    for row in bursts:
        origins.add(row.channel_origin.value)
        if row.direction == "up":
            gains[row.agent].append(row.channel_gain)
    latency = summary.latency_per_token
    attempts, attempts_j = _attempts(ledger, label)
    left_out = _left_out(summary.excluded)
    joule = summary.joule_per_token()
    return PolicyResult(
        policy=label,
        metrics={name: tuple(pair) for name, pair in score.get("metrics", {}).items()},
        answer=score.get("answer", ""),
        num_tokens=summary.tokens,
        uplink_j_per_token=summary.energy_per_token(direction="up").value,
        downlink_j_per_token=summary.energy_per_token(direction="down").value,
        energy_j_per_token=joule.value,
        energy_std_j_per_token=joule.std,
        energy_sources=tuple(source.value for source in summary.sources),
        latency_s_per_token=latency.total_s,
        airtime_s_per_token=latency.airtime_s,
        tokens_per_s=summary.tokens / summary.wall_s if summary.wall_s else math.nan,
        kept=shares["kept"],
        replaced=shares["replaced"],
        skipped=shares["skipped"],
        infeasible=summary.status.get(Status.INFEASIBLE.value, 0),
        measured_over_bound=_measured_over_bound(ledger, run),
        gains_by_agent=dict(sorted(gains.items())),
        channel_origins=tuple(sorted(origins)),
        sounding_j=summary.sounding_energy().value,
        uplink_std_j_per_token=summary.energy_per_token(direction="up").std,
        energy_by_source={
            source.value: (energy.value, energy.std)
            for source, energy in summary.energy_by_source.items()
        },
        board_j_per_token=_or_none(summary.board_energy_per_token().value),
        board_net_j_per_token=_or_none(summary.board_energy_per_token(net=True).value),
        lost={name: sum(whys.values()) for name, whys in left_out.items()},
        lost_why={name: max(whys, key=whys.__getitem__) for name, whys in left_out.items()},
        outage=summary.outage if summary.lost else 0.0,
        aborted=summary.aborted,
        aborted_j=summary.aborted_energy_j,
        faulted=summary.faulted,
        faults=_faults(ledger, run),
        attempts=attempts,
        attempts_j=attempts_j,
        mix=mix_of(bursts),
        breakdown=breakdown_of(ledger, run),
        parts_j_per_token=_parts(summary),
        radiated_share=summary.radiated_share,
        reply_mix=counts_by_width(row for row in bursts if row.direction == "down"),
        stated=score.get("stated"),
        rise=_rise(score, reference),
        lengths={name: (cut, left) for name, (cut, left) in score.get("lengths", {}).items()},
    )


def _rise(score: Mapping[str, Any], reference: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the paired rise of the test perplexity; None where the documents are not known."""
    documents, others = score.get("documents"), reference.get("documents")
    return paired_rise(documents, others) if documents and others else None


def _parts(summary: Summary) -> dict[tuple[str, str], float]:
    """Energy per token in J by use and owner, those that are 0 left out."""
    parts: dict[tuple[str, str], float] = defaultdict(float)
    for part in summary.parts:
        parts[part.use.value, part.owner.value] += part.energy_j / summary.tokens
    return dict(parts)


def _faults(ledger: Ledger, run: int) -> dict[str, tuple[int, str]]:
    """Count every agent's faults, with the reason of the first one."""
    found: dict[str, tuple[int, str]] = {}
    for row in ledger.rows(FaultRow, run=run):
        count, reason = found.get(row.agent, (0, row.reason))
        found[row.agent] = (count + 1, reason)
    return dict(sorted(found.items()))


def _attempts(ledger: Ledger, label: str) -> tuple[int, float]:
    """Count the earlier attempts at a policy, and sum the energy they had transmitted."""
    labels = {answer_label(label): 0, label: 0}
    energy_j = 0.0
    for other, run in ledger.labels().items():
        policy = attempt_of(other)
        if policy in labels:
            labels[policy] += 1
            energy_j += sum(row.energy_j for row in ledger.rows(TransmissionRow, run=run))
    return max(labels.values()), energy_j


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value


def _left_out(excluded: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Count selections without each link or helper, by reason."""
    counts: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for text, count in excluded.items():
        for name, why in dict(_LEFT_OUT.findall(text)).items():
            counts[name.removesuffix(": ")][why] += count
    return dict(sorted(counts.items()))


def _measured_over_bound(ledger: Ledger, run: int) -> float | None:
    """Return measured over planned deviation; None without an audit or a plan."""
    measured = planned = 0.0
    for row in ledger.rows(SelectionRow, run=run):
        if row.measured_deviation is not None and math.isfinite(row.deviation_bound_mean):
            slots = row.kept + row.replaced + row.skipped
            measured += slots * row.measured_deviation
            planned += slots * row.deviation_bound_mean
    return measured / planned if planned else None

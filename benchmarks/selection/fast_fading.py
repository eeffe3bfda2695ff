"""Decoding under fast fading: selecting again in every block against keeping the first helpers.

    python -m benchmarks.selection.fast_fading [--json] [--model NAME] [--seeds N]

Text is fed to a bundled model token by token. A token's window has M blocks of independent
Rayleigh gain, known one by one; without and with another selection in each, on the same channels.
Eight helpers host one expert each; of sixteen, two host the same. Intervals are 95 % over seeds,
each with its own channel and text. Savings are of the objective: energy plus deviation at its
price, with a lost slot counted as a skip. Energies are modelled.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from scipy import stats

from siftmoe.coordinator.air.assembly import PAPER_BITS_PER_HERTZ, air_interface
from siftmoe.coordinator.config.radio import RadioEntry
from siftmoe.coordinator.coordinator import Coordinator
from siftmoe.coordinator.ledger.store import Ledger, SelectionRow, TransmissionRow
from siftmoe.coordinator.links.assembly import simulated_links
from siftmoe.coordinator.policies.setup import prepare_policy
from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.models.tasks.evaluation import load_task
from siftmoe.tools.comparing.inprocess import AllReady
from siftmoe.tools.experiments.cells.emulation import Emulation

DISTANCE_M = 20.0
TOKENS = 100
DOCUMENTS = 3
#: In energies of a token at the mean gain, per nat: a loss of a few percent.
PRICE = 60.0


def score(model: Any, sequences: list[np.ndarray]) -> tuple[float, int]:
    """Summed negative log-likelihood of texts fed token by token, and how many were scored."""
    total, count = 0.0, 0
    with torch.inference_mode():
        for ids in sequences:
            text = torch.from_numpy(ids[:TOKENS].astype(np.int64))[None]
            cache = None
            for t in range(text.shape[1] - 1):
                out = model(input_ids=text[:, t : t + 1], past_key_values=cache, use_cache=True)
                cache = out.past_key_values
                total -= float(out.logits[0, -1].log_softmax(-1)[text[0, t + 1]])
                count += 1
    return total, count


def run(
    emulation: Emulation, policy: PolicySpec, radio: RadioEntry, *, helpers: int, again: bool
) -> dict[str, float]:
    """Decode texts under one policy; returns costs and outcome."""
    shape, seed = emulation.bundle.shape, radio.seed
    distances = [DISTANCE_M] * helpers
    air = replace(
        air_interface(radio, shape, distances_m=distances), reselect=again, compute_s_per_token=0.0
    )
    prepared = prepare_policy(policy, shape=shape, profile=emulation.profile)
    task = load_task(
        "perplexity",
        tokenizer=emulation.session.tokenizer,
        skip=seed * DOCUMENTS,
        limit=DOCUMENTS,
    )
    texts = [np.asarray(sequence.tokens) for sequence in task.sequences[:DOCUMENTS]]
    with (
        tempfile.TemporaryDirectory() as folder,
        Ledger.create(Path(folder) / "ledger.sqlite") as ledger,
    ):
        coordinator = Coordinator(
            fleet=AllReady(shape, helpers),
            dispatcher=emulation.experts,
            links=simulated_links(radio, distances),
            air=air,
            policy=prepared.select,
            tables=prepared.tables,
            ledger=ledger,
        )
        with coordinator.attached(emulation.session.model):
            loss, count = score(emulation.session.model, texts)
        summary = ledger.summary()
        up = [row for row in ledger.rows(TransmissionRow) if row.direction == "up"]
        selections = list(ledger.rows(SelectionRow))
    missed = Counter[tuple[int, int]]()
    for row in up:
        missed[row.step, row.layer] += row.missed
    given_up = sum(missed[row.step, row.layer] > 0 and not row.lost for row in selections)
    nats = sum(row.deviation_bound_mean for row in selections) / summary.tokens
    return {
        "uplink_nj": 1e9 * summary.energy_per_token(direction="up").value,
        "outage": 100.0 * summary.outage,
        "given_up": 100.0 * given_up / len(selections),
        "deviation_mnat": 1e3 * nats,
        "perplexity": float(np.exp(loss / count)),
    }


def interval(values: list[float]) -> tuple[float, float]:
    """Mean and half a 95 % interval."""
    half = stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values)), float(half)


def measure(model: str, seeds: int) -> list[dict[str, Any]]:
    """One row per number of blocks, helpers and policy."""
    torch.set_num_threads(1)
    emulation = Emulation.open(model)
    bits = emulation.bundle.shape.hidden_size * 16
    deadline_s = bits / (2e6 * PAPER_BITS_PER_HERTZ)
    still = RadioEntry(bandwidth_hz=2e6, deadline_s=deadline_s, fading="none")
    unit_j = float(
        air_interface(still, emulation.bundle.shape).energy_table(
            simulated_links(still, [DISTANCE_M]).states(0.0), 1
        )[0, 1]
    )
    price_j = PRICE * unit_j
    rows = []
    for blocks in (2, 6, 20):
        for helpers in (8, 16):
            for policy in (PolicySpec("topk"), PolicySpec("siftmoe", {"price": price_j})):
                if helpers == 8 and policy.name == "topk":
                    continue  # there is no second host
                found: dict[bool, list[dict[str, float]]] = {False: [], True: []}
                for seed in range(seeds):
                    radio = msgspec.structs.replace(
                        still,
                        fading="rayleigh",
                        fading_slots=blocks,
                        coherence_time_s=1e-4,
                        seed=seed,
                    )
                    for again, results in found.items():
                        results.append(run(emulation, policy, radio, helpers=helpers, again=again))
                rows.append(
                    summarise(
                        found, blocks=blocks, helpers=helpers, policy=policy.name, price_j=price_j
                    )
                )
    return rows


def summarise(
    found: dict[bool, list[dict[str, float]]], *, price_j: float, **what: Any
) -> dict[str, Any]:
    """Return the means of both ways, and the objective that selecting again saves."""
    stayed, moved = found[False], found[True]
    for results in (stayed, moved):
        for one in results:
            one["objective_nj"] = one["uplink_nj"] + 1e6 * price_j * one["deviation_mnat"]
    saved = [
        100.0 * (1.0 - b["objective_nj"] / a["objective_nj"])
        for a, b in zip(stayed, moved, strict=True)
    ]
    mean, half = interval(saved)
    return {
        **what,
        **{f"{name}_stay": float(np.mean([r[name] for r in stayed])) for name in stayed[0]},
        **{f"{name}_again": float(np.mean([r[name] for r in moved])) for name in moved[0]},
        "saved": mean,
        "saved_half": half,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--model", default="upcycled")
    parser.add_argument("--seeds", type=int, default=4)
    args = parser.parse_args()
    rows = measure(args.model, args.seeds)
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{args.model}, {args.seeds} seeds: stay / select again")
    print(
        "blocks helpers  policy    uplink nJ/token  deviation mnat/token  both, saved %"
        "    outage %   moved %   perplexity"
    )
    for r in rows:
        print(
            f"{r['blocks']:6d} {r['helpers']:7d}  {r['policy']:8s}"
            f" {r['uplink_nj_stay']:6.2f} / {r['uplink_nj_again']:<6.2f}"
            f" {r['deviation_mnat_stay']:9.2f} / {r['deviation_mnat_again']:<9.2f}"
            f" {r['saved']:6.1f} ± {r['saved_half']:<4.1f}"
            f" {r['outage_stay']:5.2f} / {r['outage_again']:<5.2f}"
            f" {r['given_up_again']:7.1f}"
            f" {r['perplexity_stay']:9.2f} / {r['perplexity_again']:.2f}"
        )


if __name__ == "__main__":
    main()

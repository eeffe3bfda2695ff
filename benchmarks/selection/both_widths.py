"""Energy of both directions saved by choosing both widths, beside the best fixed pair of widths.

    python -m benchmarks.selection.both_widths [--quick] [--json] [--no-up-only]
        [--seeds N] [--documents N]

Every contender is the same selection (helper and expert of every slot by one price of a nat, with
least-squares factors) over eight simulated helpers, one expert each, a band for each, Rayleigh
fading floored at 0.05 of the mean and constant over a layer. They differ in the widths of vectors:
both chosen for every vector; the one to helpers chosen and answers in 8 bits; one fixed pair for
all. Energies are modelled, radiated, of both directions, control included; savings are shares of
those of Top-2 at 16 bits both ways on the same channels and text.

A sweep of prices on validation text and one channel of its own tells at which prices a contender's
perplexity rises by 1, 2.5 and 5 %, and which fixed pair needs least energy there. What is printed
was then measured on test text and other channels, one part of the text for each seed: the energy at
exactly that rise, interpolated between prices on each seed's curve, with the 95 % interval over
seeds; and the rise that the price found on validation text brought about.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from scipy import stats

from siftmoe.coordinator.policies.spec import PolicySpec
from siftmoe.models.tasks.evaluation import load_task
from siftmoe.tools.experiments.cells.emulation import Emulation
from siftmoe.tools.experiments.cells.records import Setting

RISES = (0.01, 0.025, 0.05)
#: Prices of a nat, in energies of a token at the mean gain: rises of about 6 to 0.6 %.
PRICES = tuple(float(x) for x in np.geomspace(60.0, 1500.0, 6))
#: Of these, the ones of the sweep on validation text.
SWEPT = (0, 2, 3, 5)
VALIDATION_SEED = 7_919
BOTH, UP_ONLY = "auto/auto", "auto/8"
#: Fixed pairs that the sweep on validation text compares.
FIXED = tuple(f"{up}/{down}" for up, down in product((4, 5, 6), repeat=2) if abs(up - down) <= 1)


@dataclass(frozen=True)
class Point:
    """A contender at one price: rise of perplexity, and energy, over those of Top-2."""

    rise: float
    energy: float


class Bench:
    """One model; runs contenders and Top-2 on the same channels and text."""

    def __init__(self, model: str, *, documents: int) -> None:
        self._emulation = Emulation.open(model)
        self._setting = Setting()
        self._unit_j = self._emulation.unit_j(self._setting)
        self._documents = documents
        self._tasks: dict[tuple[str, int], Any] = {}
        self._reference: dict[tuple[str, int], tuple[float, float]] = {}

    def curve(
        self, widths: str, prices: tuple[float, ...], *, split: str, seed: int
    ) -> list[Point]:
        """Run a contender at several prices."""
        found = []
        for price in prices:
            up, down = widths.split("/")
            options = {"price": price * self._unit_j, "bits": up, "downlink_bits": down}
            perplexity, energy = self._run(PolicySpec("siftmoe", options), split, seed)
            before, whole = self._top_two(split, seed)
            found.append(Point(perplexity / before - 1.0, energy / whole))
        return found

    def _top_two(self, split: str, seed: int) -> tuple[float, float]:
        if (split, seed) not in self._reference:
            self._reference[split, seed] = self._run(PolicySpec("topk"), split, seed)
        return self._reference[split, seed]

    def _run(self, policy: PolicySpec, split: str, seed: int) -> tuple[float, float]:
        """Perplexity, and radiated energy of both directions per token, J."""
        task = self._task(split, seed)
        record = self._emulation.run(policy, self._setting, task, seed=seed, batch_size=8)
        return record.metrics["perplexity"][0], record.uplink_j + record.downlink_j

    def _task(self, split: str, seed: int) -> Any:
        if (split, seed) not in self._tasks:
            session = self._emulation.session
            self._tasks[split, seed] = load_task(
                "perplexity",
                tokenizer=session.tokenizer,
                split=split,
                limit=self._documents,
                skip=0 if split == "val" else seed * self._documents,
                context=self._emulation.bundle.context_length,
            )
        return self._tasks[split, seed]


def at_rise(curve: list[Point], rise: float) -> float:
    """Energy at which a curve rises by so much, as a share; NaN beyond its ends."""
    rises = np.array([point.rise for point in curve])
    order = np.argsort(rises)
    if not rises[order[0]] <= rise <= rises[order[-1]]:
        return float("nan")
    energies = np.log([point.energy for point in curve])
    return float(np.exp(np.interp(rise, rises[order], energies[order])))


def price_at(curve: list[Point], prices: tuple[float, ...], rise: float) -> float:
    """Price at which a curve rises by so much."""
    rises = np.array([point.rise for point in curve])
    order = np.argsort(rises)
    return float(np.exp(np.interp(rise, rises[order], np.log(prices)[order])))


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of the 95 % interval over seeds."""
    if len(values) < 2:
        return float(np.mean(values)), float("nan")
    error = stats.sem(values) * stats.t.ppf(0.975, len(values) - 1)
    return float(np.mean(values)), float(error)


def study(
    model: str,
    *,
    seeds: int,
    documents: int,
    prices: tuple[float, ...] = PRICES,
    contenders: tuple[str, ...] = (BOTH, UP_ONLY),
) -> list[Any]:
    """Rows of one model: contender, target, saving, saving over the best pair, rise as priced."""
    bench = Bench(model, documents=documents)
    coarse = tuple(prices[k] for k in SWEPT)
    on_validation = partial(bench.curve, prices=coarse, split="val", seed=VALIDATION_SEED)
    swept = {widths: on_validation(widths) for widths in (*contenders, *FIXED)}
    rows = []
    tested: dict[tuple[str, int], list[Point]] = {}
    for rise in RISES:
        pairs = {widths: at_rise(swept[widths], rise) for widths in FIXED}
        best = min(FIXED, key=lambda w: pairs[w] if np.isfinite(pairs[w]) else np.inf)
        energy: dict[str, list[float]] = {}
        for widths in (*contenders, best):
            energy[widths], priced = [], []
            for seed in range(1, seeds + 1):
                if (widths, seed) not in tested:
                    tested[widths, seed] = bench.curve(widths, prices, split="test", seed=seed)
                curve = tested[widths, seed]
                energy[widths].append(at_rise(curve, rise))
                log_price = np.log(price_at(swept[widths], coarse, rise))
                rises = [point.rise for point in curve]
                priced.append(float(np.interp(log_price, np.log(prices), rises)))
            less = [
                1.0 - both / own for both, own in zip(energy[BOTH], energy[widths], strict=True)
            ]
            rows.append(
                {
                    "model": model,
                    "rise": rise,
                    "widths": widths,
                    "saved": interval([1.0 - share for share in energy[widths]]),
                    "both_less": interval(less),
                    "rise_at_validation_price": interval(priced),
                }
            )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few documents")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-up-only", action="store_true", help="leave out answers in 8 bits")
    parser.add_argument("--seeds", type=int, default=4, help="of test text and channels (4)")
    parser.add_argument("--documents", type=int, default=16, help="of each seed (16)")
    args = parser.parse_args()
    seeds, documents = (1, 8) if args.quick else (args.seeds, args.documents)
    contenders = (BOTH,) if args.no_up_only else (BOTH, UP_ONLY)
    rows = []
    for model in ("upcycled", "scratch"):
        print(f"{model} ...", file=sys.stderr, flush=True)
        rows += study(model, seeds=seeds, documents=documents, contenders=contenders)
    if args.json:
        print(json.dumps({"seeds": seeds, "documents": documents, "rows": rows}, indent=1))
        return
    print(
        "| model | rise of perplexity | bits up/back | energy saved | both chosen: less | "
        "rise at the price of validation |"
    )
    print("|---|---|---|---|---|---|")
    for row in rows:
        saved, less, priced = (
            f"{100 * mean:.1f} ± {100 * half:.1f} %"
            for mean, half in (row["saved"], row["both_less"], row["rise_at_validation_price"])
        )
        if row["widths"] == BOTH:
            less = ""
        print(
            f"| {row['model']} | {100 * row['rise']:g} % | {row['widths']} | {saved} | {less} | "
            f"{priced} |"
        )


if __name__ == "__main__":
    main()

"""Energy of both directions saved by choosing both widths, beside the best fixed pair of widths.

    python -m benchmarks.selection.both_widths [--quick] [--json] [--no-up-only]
        [--seeds N] [--documents N] [--batch N]

Every contender is the same selection (helper and expert of every slot by one price of a nat, with
least-squares factors) over eight simulated helpers, one expert each, a band for each, Rayleigh
fading floored at 0.05 of the mean and constant over a layer. They differ in the widths of vectors:
both chosen for every vector; the one to helpers chosen and answers in 8 bits; one fixed pair for
all. Energies are modelled, radiated, of both directions, control included; savings are shares of
those of Top-2 at 16 bits both ways on the same channels and text.

A sweep of prices on validation text and one channel of its own tells at which prices a contender's
perplexity rises by 1, 2.5 and 5 %, and which fixed pair needs least energy there. What is printed
was then measured on test text and other channels, one part of the text for each seed: the energy at
exactly that rise, interpolated between prices on the curve of all seeds together (mean log
perplexity, mean energy), with the 95 % interval of the jackknife over seeds; and the rise that the
price found on validation text brought about.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
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
#: Prices of a nat, in energies of a token at the mean gain: rises of about 8 to 0.6 %.
PRICES = tuple(float(x) for x in np.geomspace(45.0, 1500.0, 6))
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

    def __init__(self, model: str, *, documents: int, batch: int = 8) -> None:
        self._emulation = Emulation.open(model)
        self._setting = Setting()
        self._unit_j = self._emulation.unit_j(self._setting)
        self._documents, self._batch = documents, batch
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
        record = self._emulation.run(policy, self._setting, task, seed=seed, batch_size=self._batch)
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


def pooled(curves: list[list[Point]]) -> list[Point]:
    """One curve of several seeds', price by price."""
    return [
        Point(
            rise=float(np.expm1(np.mean([np.log1p(point.rise) for point in points]))),
            energy=float(np.mean([point.energy for point in points])),
        )
        for points in zip(*curves, strict=True)
    ]


def jackknife(estimate: Callable[[list[int]], float], seeds: int) -> tuple[float, float]:
    """Estimate of all seeds, and half of its 95 % interval."""
    every = list(range(seeds))
    if seeds < 2:
        return estimate(every), float("nan")
    without = np.array([estimate([s for s in every if s != left]) for left in every])
    error = np.sqrt((seeds - 1) / seeds * np.square(without - without.mean()).sum())
    return estimate(every), float(error * stats.t.ppf(0.975, seeds - 1))


def study(
    model: str,
    *,
    seeds: int,
    documents: int,
    batch: int = 8,
    prices: tuple[float, ...] = PRICES,
    contenders: tuple[str, ...] = (BOTH, UP_ONLY),
) -> list[Any]:
    """Rows of one model: contender, target, saving, saving over the best pair, rise as priced."""
    bench = Bench(model, documents=documents, batch=batch)
    coarse = tuple(prices[k] for k in SWEPT)
    on_validation = partial(bench.curve, prices=coarse, split="val", seed=VALIDATION_SEED)
    swept = {widths: on_validation(widths) for widths in (*contenders, *FIXED)}
    best = {rise: min(FIXED, key=partial(_energy_or_inf, swept, rise)) for rise in RISES}
    curves = {
        widths: [bench.curve(widths, prices, split="test", seed=s + 1) for s in range(seeds)]
        for widths in dict.fromkeys((*contenders, *best.values()))
    }

    def energy(widths: str, rise: float, some: list[int]) -> float:
        return at_rise(pooled([curves[widths][s] for s in some]), rise)

    def less(widths: str, rise: float, some: list[int]) -> float:
        return 1.0 - energy(BOTH, rise, some) / energy(widths, rise, some)

    def saved(widths: str, rise: float, some: list[int]) -> float:
        return 1.0 - energy(widths, rise, some)

    def priced(widths: str, rise: float, some: list[int]) -> float:
        rises = [point.rise for point in pooled([curves[widths][s] for s in some])]
        log_price = np.log(price_at(swept[widths], coarse, rise))
        return float(np.interp(log_price, np.log(prices), rises))

    rows = []
    for rise in RISES:
        for widths in (*contenders, best[rise]):
            of = {
                name: jackknife(partial(figure, widths, rise), seeds)
                for name, figure in (("saved", saved), ("both_less", less), ("priced", priced))
            }
            rows.append({"model": model, "rise": rise, "widths": widths, **of})
    for widths, found in curves.items():
        points = [[(point.rise, point.energy) for point in curve] for curve in found]
        print(json.dumps({"model": model, "widths": widths, "curves": points}), file=sys.stderr)
    return rows


def _energy_or_inf(swept: dict[str, list[Point]], rise: float, widths: str) -> float:
    found = at_rise(swept[widths], rise)
    return found if np.isfinite(found) else np.inf


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="one seed, few documents")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--no-up-only", action="store_true", help="leave out answers in 8 bits")
    parser.add_argument("--seeds", type=int, default=5, help="of test text and channels (5)")
    parser.add_argument("--documents", type=int, default=12, help="of each seed (12)")
    parser.add_argument(
        "--batch", type=int, default=8, help="documents of one prefill, which share channels (8)"
    )
    args = parser.parse_args()
    seeds, documents = (1, 8) if args.quick else (args.seeds, args.documents)
    contenders = (BOTH,) if args.no_up_only else (BOTH, UP_ONLY)
    rows = []
    for model in ("upcycled", "scratch"):
        print(f"{model} ...", file=sys.stderr, flush=True)
        rows += study(
            model, seeds=seeds, documents=documents, batch=args.batch, contenders=contenders
        )
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
            for mean, half in (row["saved"], row["both_less"], row["priced"])
        )
        if row["widths"] == BOTH:
            less = ""
        print(
            f"| {row['model']} | {100 * row['rise']:g} % | {row['widths']} | {saved} | {less} | "
            f"{priced} |"
        )


if __name__ == "__main__":
    main()

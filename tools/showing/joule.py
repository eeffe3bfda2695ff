"""The joule's parts in words: a line for each part, and what a saving is a share of."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from siftmoe.coordinator.ledger.parts import RADIATED, Owner, Use
from siftmoe.tools.showing.quantities import si

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.results.policies import PolicyResult

_CIRCUITS = (Use.CIRCUIT_TX, Use.CIRCUIT_RX)


def part_rows(results: Sequence[PolicyResult]) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the energy per token: a line per part, a column per policy.

    Below the parts stand their sum, what of it is radiated, and what each side's batteries gave.
    """
    order = [(use.value, owner.value) for use in Use for owner in Owner]
    present = [key for key in order if any(key in r.parts_j_per_token for r in results)]
    rows = [
        [use, owner, *(si(r.parts_j_per_token.get((use, owner), 0.0), "J") for r in results)]
        for use, owner in present
    ]
    radiated = {use.value for use in RADIATED}
    sums = [
        ("sum", "both", present),
        ("of it radiated", "both", [key for key in present if key[0] in radiated]),
    ]
    sums += [
        ("of it given by", owner, [key for key in present if key[1] == owner])
        for owner in (owner.value for owner in Owner)
    ]
    for name, owner, keys in sums:
        rows.append([name, owner, *(si(_sum(result, keys), "J") for result in results)])
    return ["energy per token", "battery", *(result.policy for result in results)], rows


def _sum(result: PolicyResult, keys: Sequence[tuple[str, str]]) -> float:
    return sum(value for key, value in result.parts_j_per_token.items() if key in keys)


def counted_in(results: Sequence[PolicyResult]) -> str:
    """Say what the energy of these results consists of, and how much of it is radiated."""
    uses = {use for result in results for use, _ in result.parts_j_per_token}
    beside = [
        word
        for word, kinds in (
            ("control", (Use.CONTROL,)),
            ("pilots", (Use.PILOTS,)),
            ("circuits", _CIRCUITS),
        )
        if any(use.value in uses for use in kinds)
    ]
    what = "both directions"
    if beside:
        what += f", {_listed(beside)} included"
    return f"{what}; {_radiated(results)}"


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _radiated(results: Sequence[PolicyResult]) -> str:
    shares = [r.radiated_share for r in results if not math.isnan(r.radiated_share)]
    if not shares or min(shares) == 1.0:
        return "all of it is radiated"
    low, high = (_percent(share) for share in (min(shares), max(shares)))
    return f"{low} of it is radiated" if low == high else f"{low} to {high} of it is radiated"


def _percent(share: float) -> str:
    return f"{100.0 * share:.2g} %" if share < 0.995 else f"{100.0 * share:.1f} %"

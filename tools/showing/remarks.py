"""Remarks: the sentences that must stand under a table of policies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from siftmoe.tools.showing.quantities import si

if TYPE_CHECKING:
    from collections.abc import Sequence

    from siftmoe.tools.results.policies import PolicyResult


def remarks(results: Sequence[PolicyResult]) -> list[str]:
    """Return the sentences that must stand under a table of these results."""
    found = [
        f"{result.policy}: {result.infeasible} selections could not keep their budget on the "
        f"helpers in reach; they took the least deviation there was."
        for result in results
        if result.infeasible
    ]
    found += [
        f"{result.policy}: {result.outage:.2%} of the slots sent missed their window; they are "
        f"skipped, and their energy is counted."
        for result in results
        if result.outage
    ]
    found += [f"{result.policy}: {line}" for result in results for line in _fault_lines(result)]
    found += [
        f"{result.policy}: {result.faulted} slots are skipped because the helper that was to serve "
        f"them failed and nobody took over."
        for result in results
        if result.faulted
    ]
    found += [
        f"{result.policy}: boards took {si(result.board_j_per_token, 'J')} per token, "
        f"{si(result.board_net_j_per_token, 'J')} of it more than idling."
        for result in results
        if result.board_j_per_token is not None and result.board_net_j_per_token is not None
    ]
    found += [
        f"{result.policy}: {result.aborted} steps broke off after {si(result.aborted_j, 'J')}, "
        f"which no figure contains."
        for result in results
        if result.aborted
    ]
    found += [
        f"{result.policy}: {result.attempts} earlier attempts were broken off after "
        f"{si(result.attempts_j, 'J')}, which no figure contains."
        for result in results
        if result.attempts
    ]
    found += [
        f"{result.policy}: deviation really made is {result.measured_over_bound:.2f} of the plans'."
        for result in results
        if result.measured_over_bound is not None
    ]
    return found


def _fault_lines(result: PolicyResult) -> list[str]:
    """Return a line for each helper or link that was missing."""
    lines = []
    for name in sorted({*result.faults, *result.lost}):
        parts = []
        if name in result.faults:
            count, reason = result.faults[name]
            parts.append(f"failed in {count} layers (first: {reason})")
        if name in result.lost:
            why = "" if parts else result.lost_why.get(name, "")
            parts.append(
                f"was left out of {result.lost[name]} selections" + f" ({why})" * bool(why)
            )
        lines.append(f"{name} {' and '.join(parts)}.")
    return lines
